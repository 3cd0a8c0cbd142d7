"""What was found, for people, for programs and for CI."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree

from rich.console import Console
from rich.table import Table
from rich.text import Text

from openapi_server.devtools.check.findings import Finding, Result

STYLES = {Result.PASS: "green", Result.FAIL: "bold red", Result.SKIP: "yellow"}


def format_summary(findings: Sequence[Finding]) -> str:
    """`61 checks: 60 pass, 0 fail, 1 skip`."""
    counts = Counter(finding.verdict for finding in findings)
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Result)
    return f"{len(findings)} checks: {told}"


def has_failed(findings: Sequence[Finding]) -> bool:
    return any(finding.verdict is Result.FAIL for finding in findings)


def print_table(console: Console, url: str, findings: Sequence[Finding]) -> None:
    """A line a finding. What servers say is text, never markup."""
    table = Table(title=f"zoochat check {url}", title_justify="left")
    for heading in ("contract", "check", "result"):
        table.add_column(heading, no_wrap=True)
    table.add_column("evidence", overflow="fold")
    for finding in findings:
        verdict = Text(finding.verdict, style=STYLES[finding.verdict])
        table.add_row(finding.contract, finding.check, verdict, Text(_replace_control_characters(finding.evidence)))
    console.print(table)
    console.print(format_summary(findings), highlight=False)


def format_json(url: str, findings: Sequence[Finding]) -> str:
    """The same as data."""
    counts = {verdict.value: sum(finding.verdict is verdict for finding in findings) for verdict in Result}
    rows = [
        {
            "contract": finding.contract,
            "check": finding.check,
            "result": finding.verdict.value,
            "evidence": finding.evidence,
            "seconds": round(finding.duration_s, 3),
        }
        for finding in findings
    ]
    return json.dumps({"url": url, **counts, "findings": rows}, indent=2)


def format_junit(url: str, findings: Sequence[Finding]) -> str:
    """A suite a contract, as CI systems read it."""
    root = ElementTree.Element("testsuites", name=f"zoochat check {url}")
    for contract in dict.fromkeys(finding.contract for finding in findings):
        _add_suite(root, contract, [finding for finding in findings if finding.contract == contract])
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _add_suite(root: ElementTree.Element, contract: str, findings: Sequence[Finding]) -> None:
    counts = Counter(finding.verdict for finding in findings)
    counted = {"tests": len(findings), "failures": counts[Result.FAIL], "skipped": counts[Result.SKIP], "errors": 0}
    suite = ElementTree.SubElement(root, "testsuite", {"name": contract} | {k: str(v) for k, v in counted.items()})
    for finding in findings:
        attributes = {"classname": contract, "name": finding.check, "time": f"{finding.duration_s:.3f}"}
        case = ElementTree.SubElement(suite, "testcase", attributes)
        evidence = _replace_control_characters(finding.evidence)
        if finding.verdict is Result.PASS:
            ElementTree.SubElement(case, "system-out").text = evidence
        else:
            kind = "failure" if finding.verdict is Result.FAIL else "skipped"
            ElementTree.SubElement(case, kind, message=evidence)


def _replace_control_characters(text: str) -> str:
    """Control characters would move the cursor of a terminal, and are not allowed in XML at all."""
    return "".join(character if character.isprintable() else "\ufffd" for character in text)
