"""The findings of the checks, formatted for people, programs and CI."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text


class CheckResult(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105  # a word, not a secret
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check of one contract. `evidence` is one line; `duration_s` is in seconds."""

    contract: str
    check: str
    result: CheckResult
    evidence: str
    duration_s: float = 0.0


STYLES = {CheckResult.PASS: "green", CheckResult.FAIL: "bold red", CheckResult.SKIP: "yellow"}


def format_summary(findings: Sequence[Finding]) -> str:
    """`61 checks: 60 pass, 0 fail, 1 skip`."""
    counts = Counter(finding.result for finding in findings)
    return f"{len(findings)} checks: " + ", ".join(f"{counts[result]} {result}" for result in CheckResult)


def has_failed(findings: Sequence[Finding]) -> bool:
    return any(finding.result is CheckResult.FAIL for finding in findings)


def print_table(url: str, findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print one row for each finding, and a summary. Text from servers is never read as markup."""
    console = console or Console()
    table = Table(title=f"zoochat check {url}", title_justify="left")
    for heading in ("contract", "check", "result"):
        table.add_column(heading, no_wrap=True)
    table.add_column("evidence", overflow="fold")
    for finding in findings:
        result = Text(finding.result, style=STYLES[finding.result])
        table.add_row(finding.contract, finding.check, result, Text(_replace_control_characters(finding.evidence)))
    console.print(table)
    console.print(format_summary(findings), highlight=False)


def format_json(url: str, findings: Sequence[Finding]) -> str:
    """A JSON object with the counts and all findings."""
    counts = {result.value: sum(finding.result is result for finding in findings) for result in CheckResult}
    rows = [
        {
            "contract": finding.contract,
            "check": finding.check,
            "result": finding.result.value,
            "evidence": finding.evidence,
            "seconds": round(finding.duration_s, 3),
        }
        for finding in findings
    ]
    return json.dumps({"url": url, **counts, "findings": rows}, indent=2)


def format_junit(url: str, findings: Sequence[Finding]) -> str:
    """JUnit XML, as CI systems read it: one test suite for each contract."""
    root = ElementTree.Element("testsuites", name=f"zoochat check {url}")
    for contract in dict.fromkeys(finding.contract for finding in findings):
        _add_suite(root, contract, [finding for finding in findings if finding.contract == contract])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_suite(root: ElementTree.Element, contract: str, findings: Sequence[Finding]) -> None:
    counts = Counter(finding.result for finding in findings)
    totals = {
        "tests": len(findings),
        "failures": counts[CheckResult.FAIL],
        "skipped": counts[CheckResult.SKIP],
        "errors": 0,
    }
    suite = ElementTree.SubElement(root, "testsuite", {"name": contract} | {k: str(v) for k, v in totals.items()})
    for finding in findings:
        attributes = {"classname": contract, "name": finding.check, "time": f"{finding.duration_s:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        evidence = _replace_control_characters(finding.evidence)
        if finding.result is CheckResult.PASS:
            ElementTree.SubElement(case, "system-out").text = evidence
        else:
            kind = "failure" if finding.result is CheckResult.FAIL else "skipped"
            ElementTree.SubElement(case, kind, message=evidence)


def _replace_control_characters(text: str) -> str:
    """Control characters would move the cursor of a terminal, and are not allowed in XML."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
