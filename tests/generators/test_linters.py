"""Linters and a validator of other people read the API description, as a file and as a server gives it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from openapi_spec_validator import validate

from openapi_server.spec import get_spec_path, load_spec
from tests.generators.generation import HERE, run_tool
from tests.support.processes import ServerProcess
from tests.tools import make_node_command, need_tools

SERVED = ("openapi.json", "openapi-3.2.json")


@pytest.fixture(scope="module", params=("file", *SERVED))
def document(request: pytest.FixtureRequest, server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, or what a server made of it."""
    if request.param == "file":
        return get_spec_path()
    path = tmp_path_factory.mktemp("documents") / str(request.param)
    path.write_bytes(httpx.get(f"{server.url}/{path.name}").content)
    return path


def lint_with_redocly(document: Path) -> list[str]:
    """Each error and each warning of Redocly's recommended rules, but for what its settings explain."""
    command = make_node_command("@redocly/cli", "redocly")
    options = ("--config", str(HERE / "redocly.yaml"), "--format", "json", "--max-problems", "1000")
    run = run_tool([*command, "lint", *options, str(document)], document.parent, REDOCLY_TELEMETRY="off")
    report = json.loads(run.stdout)
    assert report["totals"]["ignored"] == 0
    return [
        f"{problem['ruleId']} at {problem['location'][0]['pointer']}: {problem['message']}"
        for problem in report["problems"]
    ]


def lint_with_spectral(document: Path) -> list[str]:
    """Each error, warning and hint of Spectral's recommended rules for OpenAPI, but for what its settings explain."""
    command = make_node_command("@stoplight/spectral-cli", "spectral")
    rules = "spectral-3.2.yaml" if "3.2" in document.name else "spectral.yaml"
    options = ("--ruleset", str(HERE / rules), "--format", "json", "--quiet")
    run = run_tool([*command, "lint", *options, str(document)], document.parent)
    return [
        f"{found['code']} at {'/'.join(map(str, found['path']))}: {found['message']}"
        for found in json.loads(run.stdout)
    ]


LINTERS = {"redocly": lint_with_redocly, "spectral": lint_with_spectral}


def test_the_document_is_valid_openapi(document: Path) -> None:
    """By openapi-spec-validator, which knows the official schema."""
    validate(yaml.safe_load(document.read_text(encoding="utf-8")))


@pytest.mark.parametrize("linter", LINTERS)
def test_the_linter_has_nothing_to_say(document: Path, linter: str) -> None:
    """No error and no warning; each rule that is off has its reason beside it."""
    assert LINTERS[linter](document) == []


def make_worse(document: dict[str, Any]) -> dict[str, Any]:
    """The document with two operations of one id, and a parameter that its path does not have."""
    stray = {"name": "stray", "in": "path", "required": True, "schema": {"type": "string"}}
    other = document["paths"]["/"]["get"]["operationId"]
    operation = {**document["paths"]["/ready"]["get"], "operationId": other, "parameters": [stray]}
    return {**document, "paths": {**document["paths"], "/ready": {"get": operation}}}


@pytest.mark.parametrize("linter", LINTERS)
def test_the_linter_finds_what_is_wrong(tmp_path: Path, linter: str) -> None:
    """With our settings, in a document that was made worse: so silence means something."""
    need_tools()
    document = tmp_path / "worse.json"
    document.write_text(json.dumps(make_worse(load_spec())), encoding="utf-8")

    found = "\n".join(LINTERS[linter](document))

    assert "operation-operationId-unique" in found
    assert "stray" in found


@pytest.mark.parametrize("name", ["redocly.yaml", "spectral.yaml", "spectral-3.2.yaml"])
def test_each_rule_that_is_off_has_a_reason(name: str) -> None:
    """In a comment right above it."""
    lines = (HERE / name).read_text(encoding="utf-8").splitlines()
    off = [place for place, line in enumerate(lines) if line.endswith(": off")]
    assert off
    assert [lines[place] for place in off if not lines[place - 1].startswith("  # ")] == []
