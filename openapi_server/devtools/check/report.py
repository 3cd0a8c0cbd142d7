"""The findings of the checks, formatted for people, programs and CI."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text


class Section(StrEnum):
    """What a check belongs to: what the source document of a contract asks, or what this server's API adds to it."""

    REQUIRED = "required"
    EXTRA = "extra"


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
    section: Section = Section.REQUIRED


HEADINGS = {
    Section.REQUIRED: "required: what the source documents of the contracts ask",
    Section.EXTRA: "extra: what the API of this server adds",
}
STYLES = {CheckResult.PASS: "green", CheckResult.FAIL: "bold red", CheckResult.SKIP: "yellow"}


def format_summary(findings: Sequence[Finding]) -> str:
    """`61 checks: 60 pass, 0 fail, 1 skip`."""
    counts = Counter(finding.result for finding in findings)
    noun = "check" if len(findings) == 1 else "checks"
    return f"{len(findings)} {noun}: " + ", ".join(f"{counts[result]} {result}" for result in CheckResult)


def has_failed(findings: Sequence[Finding], *, is_strict: bool = False) -> bool:
    """Whether a required check failed; with `is_strict`, whether any check did."""
    failed = [finding for finding in findings if finding.result is CheckResult.FAIL]
    return any(is_strict or finding.section is Section.REQUIRED for finding in failed)


def print_tables(url: str, findings: Sequence[Finding], console: Console | None = None) -> None:
    """Print a table for each section, with a row for each finding, and a summary below it."""
    console = console or Console()
    console.print(f"zoochat check {url}", highlight=False, markup=False)
    for section, heading in HEADINGS.items():
        rows = [finding for finding in findings if finding.section is section]
        if rows:
            _print_table(heading, rows, console)


def _print_table(heading: str, findings: Sequence[Finding], console: Console) -> None:
    """Text from servers is never read as markup."""
    table = Table(title=heading, title_justify="left")
    for heading in ("contract", "check", "result"):
        table.add_column(heading, no_wrap=True)
    table.add_column("evidence", overflow="fold")
    for finding in findings:
        result = Text(finding.result, style=STYLES[finding.result])
        table.add_row(finding.contract, finding.check, result, Text(_replace_control_characters(finding.evidence)))
    console.print(table)
    console.print(format_summary(findings), highlight=False)


def format_json(url: str, findings: Sequence[Finding]) -> str:
    """A JSON object with the counts, in all and for each section, and all findings."""
    counts = _count_results(findings) | {
        section.value: _count_results([finding for finding in findings if finding.section is section])
        for section in Section
    }
    rows = [
        {
            "contract": finding.contract,
            "section": finding.section.value,
            "check": finding.check,
            "result": finding.result.value,
            "evidence": finding.evidence,
            "seconds": round(finding.duration_s, 3),
        }
        for finding in findings
    ]
    return json.dumps({"url": url, **counts, "findings": rows}, indent=2)


def _count_results(findings: Sequence[Finding]) -> dict[str, Any]:
    return {result.value: sum(finding.result is result for finding in findings) for result in CheckResult}


def format_junit(url: str, findings: Sequence[Finding]) -> str:
    """JUnit XML, as CI systems read it: a test suite for each section of each contract, such as `platform.required`."""
    root = ElementTree.Element("testsuites", name=f"zoochat check {url}")
    for name in dict.fromkeys(map(_get_suite_name, findings)):
        _add_suite(root, name, [finding for finding in findings if _get_suite_name(finding) == name])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _get_suite_name(finding: Finding) -> str:
    return f"{finding.contract}.{finding.section}"


def _add_suite(root: ElementTree.Element, name: str, findings: Sequence[Finding]) -> None:
    counts = Counter(finding.result for finding in findings)
    totals = {
        "tests": len(findings),
        "failures": counts[CheckResult.FAIL],
        "skipped": counts[CheckResult.SKIP],
        "errors": 0,
    }
    suite = ElementTree.SubElement(root, "testsuite", {"name": name} | {k: str(v) for k, v in totals.items()})
    for finding in findings:
        attributes = {"classname": name, "name": finding.check, "time": f"{finding.duration_s:.3f}"}
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
