"""The curves: where they bend, what they are measured with, and their picture."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from benchmarks.curves import (
    SMOKE,
    Curve,
    Curves,
    ask,
    copy_sessions,
    list_curve_rows,
    log_in,
    measure_curves,
    measure_imports,
    store_animals,
)
from benchmarks.figures import Line
from benchmarks.load import QUESTION
from benchmarks.report import describe_run, write_curves
from benchmarks.servers import run_server
from tests.support.extras import need_bench_extra

Points = list[tuple[float, float]]


@pytest.mark.parametrize(
    ("unit", "points", "bend"),
    [
        ("ms", [(1, 10), (10, 19), (100, 21)], 100),
        ("ms", [(1, 10), (10, 12)], None),
        # One bad value between good ones.
        ("ms", [(1, 10), (10, 90), (100, 11), (1000, 30)], 1000),
        # Four times as much, but nobody notices four milliseconds.
        ("ms", [(1, 1), (10, 4), (100, 12)], 100),
        ("/s", [(12, 3000), (100, 1600), (1000, 1400)], 1000),
        # A throughput that grows is no bend.
        ("/s", [(12, 1000), (100, 3000)], None),
        ("MB", [], None),
    ],
)
def test_a_curve_bends_where_it_is_twice_as_bad_as_at_first(unit: str, points: Points, bend: float | None) -> None:
    """Beyond what is noise."""
    assert Curve("figure", "things", unit, points=points).bend == bend


def test_a_curve_keeps_its_line_at_every_point() -> None:
    """And says so beside where it bends."""
    curve = Curve("cost", "readers", "x", Line(at_most=0.2), [(10, 0.05), (100, 0.1), (1000, 0.3)])
    assert curve.is_met is False
    assert curve.sentence == "bends at 1,000: 0.05 at 10, 0.30 at 1,000, misses the line ≤ 0.20"
    curve.points.pop()
    assert curve.is_met
    assert curve.sentence == "no bend: 0.05 at 10, 0.10 at 100, keeps the line ≤ 0.20"


def test_long_curves_are_thinned_out_for_the_table_but_keep_their_end() -> None:
    """Twenty measures of memory are a picture, not a cell."""
    curve = Curve("memory", "turns", "MB", points=[(n * 5000, 90 + n) for n in range(21)])
    (_, row) = list_curve_rows([curve])
    assert row[2].startswith("0: 90 MB, 15,000: 93 MB")
    assert row[2].endswith("100,000: 110 MB")


def test_imports_are_measured_by_package() -> None:
    """Of the server by its parts."""
    imports_ms = measure_imports()
    assert {"connexion", "openapi_server.http", "openapi_server.engine"} <= set(imports_ms)
    assert list(imports_ms.values()) == sorted(imports_ms.values(), reverse=True)


def test_copied_sessions_are_sessions_of_the_same_user(tmp_path: Path) -> None:
    """Their owner's list has them all, each with its turn."""
    with run_server(tmp_path) as server:
        ask(server, "/convo_turn", QUESTION, log_in(server))
    assert copy_sessions(tmp_path / "zoo.sqlite3", 5) == 5
    assert copy_sessions(tmp_path / "zoo.sqlite3", 3) == 3
    assert copy_sessions(tmp_path / "zoo.sqlite3", 0) == 0
    with run_server(tmp_path) as server:
        headers = log_in(server)
        sessions = ask(server, "/conversations/sessions?limit=50", headers=headers)["sessions"]
        ids = [session["sessionId"] for session in sessions]
        assert len(set(ids)) == 9
        assert {session["messageCount"] for session in sessions} == {2}
        # A copy continues as any other session does.
        assert [
            ask(server, "/convo_turn", {**QUESTION, "sessionId": each}, headers)["sessionId"] for each in ids
        ] == ids


async def test_stored_animals_live_in_the_zoo(tmp_path: Path) -> None:
    """As many as were asked for, the default animal among them, and each answers."""
    await store_animals(tmp_path / "zoo.sqlite3", 30)
    with run_server(tmp_path) as server:
        animals = ask(server, "/animal_list")["animals"]
        assert len(animals) == len({animal["name"] for animal in animals}) == 30
        assert {"lion_001", "lion14_001"} <= {animal["animalId"] for animal in animals}
        assert ask(server, "/convo_turn", {"message": "Who are you?", "animalId": "lion14_001"})["reply"]


@pytest.fixture(scope="module")
def measured() -> Curves:
    """The smallest sizes of those that need a server each."""
    return measure_curves(["histories", "readers", "turns"], SMOKE, Console(quiet=True))


def test_each_curve_has_a_point_for_each_size(measured: Curves) -> None:
    """And nothing failed meanwhile."""
    assert measured.failures == []
    sizes = {(curve.grows, curve.title): [at for at, _ in curve.points] for curve in measured.curves}
    assert sizes["turns of the session", "the next turn, p50"] == [1, 4]
    assert sizes["readers", "CPU of one more reader, ratio to a lone stream"] == [5]
    assert sizes["turns", "memory"] == [0, 30, 60]


def test_curves_are_a_page_json_and_a_picture(measured: Curves, tmp_path: Path) -> None:
    """The picture is valid SVG, with a panel for each curve."""
    need_bench_extra()
    measured.imports_ms = {"connexion": 12.0, "openapi_server.engine": 3.0}
    page, content, picture = write_curves(measured, describe_run(), tmp_path)
    assert "| turns | memory | 0: " in page.read_text(encoding="utf-8")
    assert len(json.loads(content.read_text(encoding="utf-8"))["curves"]) == len(measured.curves)
    root = ElementTree.parse(picture).getroot()  # noqa: S314  # our own file
    texts = " ".join("".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text"))
    assert all(curve.title in texts for curve in measured.curves)
    assert "imports: 15 ms in all" in texts
