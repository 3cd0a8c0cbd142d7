"""Findings as a table, as JSON and as JUnit XML."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

from rich.console import Console

from openapi_server.devtools.check.report import (
    CheckResult,
    Finding,
    Section,
    format_json,
    format_junit,
    format_summary,
    has_failed,
    print_tables,
)

URL = "http://zoo.example"
FINDINGS = [
    Finding("convo", "bytes", CheckResult.PASS, "6,471 bytes in 42 blocks", 2.5),
    Finding("convo", "stop", CheckResult.SKIP, "the turn was over before it could be stopped"),
    Finding("tokens", "end", CheckResult.FAIL, "[red]2[/red] terminal events \x1b[2J<&>"),
    Finding("convo", "ids", CheckResult.FAIL, "no event has an id", section=Section.EXTRA),
]


def test_the_tables_have_a_row_for_each_finding() -> None:
    """One table for each section. Text from a server neither colours it nor moves the cursor."""
    console = Console(file=io.StringIO(), width=100)

    print_tables(URL, FINDINGS, console)

    printed = console.file.getvalue()  # type: ignore[attr-defined]  # the buffer of this test
    required, extra = printed.split("extra: what the API of this server adds")
    assert "required: what the source documents of the contracts ask" in required
    assert "[red]2[/red] terminal events \ufffd[2J<&>" in required
    assert "3 checks: 1 pass, 1 fail, 1 skip" in required
    assert "no event has an id" in extra
    assert "1 check: 0 pass, 1 fail, 0 skip" in extra


def test_the_json_has_all_findings() -> None:
    """The counts, and every finding with its evidence."""
    data = json.loads(format_json(URL, FINDINGS))

    assert (data["url"], data["pass"], data["fail"], data["skip"]) == (URL, 1, 2, 1)
    assert data["required"] == {"pass": 1, "fail": 1, "skip": 1}
    assert data["extra"] == {"pass": 0, "fail": 1, "skip": 0}
    assert [row["section"] for row in data["findings"]] == ["required", "required", "required", "extra"]
    assert data["findings"][0] == {
        "contract": "convo",
        "section": "required",
        "check": "bytes",
        "result": "pass",
        "evidence": "6,471 bytes in 42 blocks",
        "seconds": 2.5,
    }


def test_junit_has_a_suite_for_each_section_of_a_contract() -> None:
    """Failures and skips have their evidence as the message."""
    root = ElementTree.fromstring(format_junit(URL, FINDINGS))  # noqa: S314  # our own

    suites = {suite.get("name"): suite for suite in root}
    counts = {name: [suite.get(count) for count in ("tests", "failures", "skipped")] for name, suite in suites.items()}
    assert counts == {
        "convo.required": ["2", "0", "1"],
        "tokens.required": ["1", "1", "0"],
        "convo.extra": ["1", "1", "0"],
    }
    failure = suites["tokens.required"].find("testcase/failure")
    assert failure is not None
    assert failure.get("message") == "[red]2[/red] terminal events \ufffd[2J<&>"


def test_a_skip_is_no_failure_and_no_pass() -> None:
    """Only failures of required checks decide the exit code; with `--strict` all failures do."""
    assert not has_failed(FINDINGS[:2], is_strict=True)
    assert has_failed(FINDINGS)
    assert not has_failed(FINDINGS[3:])
    assert has_failed(FINDINGS[3:], is_strict=True)
    assert format_summary(FINDINGS[:2]) == "2 checks: 1 pass, 0 fail, 1 skip"
