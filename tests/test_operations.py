"""The files for whoever is on call: the dashboard, the alerts and the page name metrics that exist, and all of them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from openapi_server.composition import run_background_jobs
from openapi_server.models.errors import ProviderFailed
from openapi_server.yaml_files import load_yaml
from tests.conftest import OpensServices, OpensZoo
from tests.support.fakes import Fails

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((ROOT / "operations/grafana-dashboard.json").read_text(encoding="utf-8"))
ALERTS = load_yaml(ROOT / "operations/alerts.yaml")["groups"][0]["rules"]
OWN = re.compile(r"\b(?:zoochat|process|python)_\w+")
# What Prometheus and Grafana add by themselves.
ADDED_LABELS = {"job", "le"}
SUFFIXES = re.compile(r"_(bucket|sum|count)$")


@pytest.fixture
async def metrics(open_services: OpensServices) -> AsyncIterator[dict[str, set[str]]]:
    """Every metric of a running server, by the name that a query has, with its labels."""
    services = await open_services()
    assert services.metrics is not None
    async with run_background_jobs(services):
        yield {
            f"{family.name}_{suffix}"
            if (suffix := {"counter": "total", "info": "info"}.get(family.type))
            else family.name: {name for sample in family.samples for name in sample.labels}
            for family in services.metrics.registry.collect()
        }


def list_panel_expressions() -> Iterator[str]:
    for panel in DASHBOARD["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def list_alert_expressions() -> Iterator[str]:
    yield from (rule["expr"] for rule in ALERTS)


def find_names(expression: str) -> set[str]:
    return {SUFFIXES.sub("", name) for name in OWN.findall(expression)}


def test_the_dashboard_has_no_empty_panel() -> None:
    """Panels lie beside each other on a grid of 24 columns, and each has a title and a query."""
    places: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        grid = panel["gridPos"]
        assert panel["title"]
        assert panel["targets"]
        assert grid["x"] + grid["w"] <= 24
        cells = {
            (x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert not cells & places
        places |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


async def test_every_expression_names_metrics_that_exist(metrics: dict[str, set[str]]) -> None:
    """Of the dashboard and of the alerts: a typing error would never show."""
    for expression in (*list_panel_expressions(), *list_alert_expressions()):
        names = find_names(expression)
        assert names or expression.startswith("up{"), expression
        assert names <= set(metrics), expression
        assert expression.count("(") == expression.count(")"), expression


async def test_the_dashboard_shows_every_metric(metrics: dict[str, set[str]]) -> None:
    """What nobody sees need not be measured."""
    shown = set().union(*map(find_names, list_panel_expressions()))
    assert {name for name in metrics if name.startswith("zoochat_")} - shown == set()


async def test_every_label_in_an_expression_exists(open_zoo: OpensZoo) -> None:
    """After a turn that was answered, one that failed, and one that was refused, every label has been used."""
    labels = {
        label
        for row in re.findall(r"^\| `zoochat_\w+` \| ([^|]*) \|", PAGE, re.MULTILINE)
        for label in row.replace(" ", "").split(",")
    }
    used = set()
    for expression in (*list_panel_expressions(), *list_alert_expressions()):
        used |= set(re.findall(r"[{,]\s*(\w+)\s*(?:=|!)", expression))
        used |= {name.strip() for part in re.findall(r"by \(([^)]*)\)", expression) for name in part.split(",")}
    assert used - ADDED_LABELS <= labels

    zoo = await open_zoo(Fails(ProviderFailed()))
    client = await zoo.new_client()
    await client.post("/convo_turn", json={"message": "Hello!", "animalId": "lion_001"})
    assert zoo.services.metrics is not None
    documented = dict(re.findall(r"^\| `(zoochat_\w+)` \| ([^|]*) \|", PAGE, re.MULTILINE))
    for family in zoo.services.metrics.registry.collect():
        for sample in family.samples:
            name = SUFFIXES.sub("", sample.name)
            if name in documented:
                told = {label for label in documented[name].replace(" ", "").split(",") if label}
                assert set(sample.labels) - {"le"} == told, sample.name


async def test_the_page_lists_every_metric(metrics: dict[str, set[str]]) -> None:
    """And no other."""
    listed = re.findall(r"^\| `(zoochat_\w+)` ", PAGE, re.MULTILINE)
    assert sorted(listed) == sorted(name for name in metrics if name.startswith("zoochat_"))


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_its_line_in_the_runbook(rule: dict[str, Any]) -> None:
    """Symptom, cause, remedy; and the alert leads there."""
    name = rule["alert"]
    section = re.search(rf"^### {name}\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL)
    assert section is not None
    assert all(f"- **{part}:**" in section[1] for part in ("Symptom", "Cause", "Remedy"))
    assert len(section[1].split()) < 120
    assert rule["annotations"]["runbook"] == f"docs/operations.md#{name.lower()}"
    assert rule["annotations"]["summary"]
    assert rule["labels"]["severity"] in ("page", "ticket")


def test_the_runbook_has_no_other_alert() -> None:
    """A line for an alert that is gone would mislead."""
    assert re.findall(r"^### (\w+)$", PAGE, re.MULTILINE) == [rule["alert"] for rule in ALERTS]
