"""Findings as a table, as JSON and as JUnit XML."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

from rich.console import Console

from openapi_server.devtools.check.report import (
    CheckResult,
    Finding,
    format_json,
    format_junit,
    format_summary,
    has_failed,
    print_table,
)

URL = "http://zoo.example"
FINDINGS = [
    Finding("convo", "bytes", CheckResult.PASS, "6,471 bytes in 42 blocks", 2.5),
    Finding("convo", "stop", CheckResult.SKIP, "the turn was over before it could be stopped"),
    Finding("tokens", "end", CheckResult.FAIL, "[red]2[/red] terminal events \x1b[2J<&>"),
]


def test_the_table_has_a_row_for_each_finding() -> None:
    """Text from a server neither colours the table nor moves the cursor."""
    console = Console(file=io.StringIO(), width=100)

    print_table(URL, FINDINGS, console)

    printed = console.file.getvalue()  # type: ignore[attr-defined]  # the buffer of this test
    assert "[red]2[/red] terminal events \ufffd[2J<&>" in printed
    assert "3 checks: 1 pass, 1 fail, 1 skip" in printed


def test_the_json_has_all_findings() -> None:
    """The counts, and every finding with its evidence."""
    data = json.loads(format_json(URL, FINDINGS))

    assert (data["url"], data["pass"], data["fail"], data["skip"]) == (URL, 1, 1, 1)
    assert data["findings"][0] == {
        "contract": "convo",
        "check": "bytes",
        "result": "pass",
        "evidence": "6,471 bytes in 42 blocks",
        "seconds": 2.5,
    }


def test_junit_has_a_suite_for_each_contract() -> None:
    """Failures and skips have their evidence as the message."""
    root = ElementTree.fromstring(format_junit(URL, FINDINGS))  # noqa: S314  # our own

    suites = {suite.get("name"): suite for suite in root}
    assert [suites["convo"].get(name) for name in ("tests", "failures", "skipped")] == ["2", "0", "1"]
    failure = suites["tokens"].find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "[red]2[/red] terminal events \ufffd[2J<&>"


def test_a_skip_is_no_failure_and_no_pass() -> None:
    """Only failures decide the exit code."""
    assert not has_failed(FINDINGS[:2])
    assert has_failed(FINDINGS)
    assert format_summary(FINDINGS[:2]) == "2 checks: 1 pass, 0 fail, 1 skip"
