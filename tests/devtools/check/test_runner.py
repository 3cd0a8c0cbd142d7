"""`zoochat check` as a command: its findings, what it cannot check, its progress bar and its exit codes."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest

from openapi_server.cli.devtools import CONTRACTS as OFFERED
from openapi_server.devtools.check.contract_client import CheckAccounts, Credentials
from openapi_server.devtools.check.report import CheckResult, Finding, has_failed
from openapi_server.devtools.check.runner import PROBES, CheckOptions, run_checks
from tests.devtools.canned import CannedAnswer, make_json_answer, serve_answers
from tests.support.processes import END_S, MockProcess, make_command, make_environment, run_zoochat

NOBODY = CheckAccounts(Credentials("nobody", ""), Credentials("nobody", ""), Credentials("nobody", ""))
NOT_FOUND = make_json_answer({"status": 404}, 404)
PAGE = CannedAnswer("<html>Oops</html>", 200, "text/html")


async def find_all(url: str, *contracts: str) -> list[Finding]:
    return await run_checks(CheckOptions(url, contracts, 1.0, NOBODY), lambda count: None, lambda finding: None)


def get_by_title(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in findings}


def test_the_mock_server_passes(mock: MockProcess, tmp_path: Path) -> None:
    """A server without an OpenAPI description is checked by ours when the contract is named; exit code 0."""
    report = tmp_path / "report.xml"

    completed = run_zoochat(
        "check", mock.url, "--contract", "platform", "--heartbeat", "5", "--json", "--junit", str(report)
    )

    data = json.loads(completed.stdout)
    assert completed.returncode == 0, [row for row in data["findings"] if row["result"] == "fail"]
    assert data["pass"] > 15
    suites = ElementTree.parse(report).getroot()  # noqa: S314  # our own
    assert [suite.get("name") for suite in suites] == ["platform.required", "platform.extra"]


def test_an_unexpected_answer_is_a_finding() -> None:
    """HTML pages for every request: exit code 1, evidence, and no traceback."""
    with serve_answers(PAGE) as bot:
        completed = run_zoochat(
            "check", bot.url, "--contract", "tokens", "--heartbeat", "1", variables={"COLUMNS": "200"}
        )

    assert completed.returncode == 1
    assert "text/html" in completed.stdout
    assert "0 pass" in completed.stdout
    assert "Traceback" not in completed.stdout + completed.stderr


@pytest.mark.parametrize("contract", OFFERED)
async def test_no_answer_crashes_the_checker(contract: str) -> None:
    """Every check of every contract ends with a finding, and no such server passes."""
    for answer in (PAGE, NOT_FOUND, make_json_answer([]), make_json_answer({}), CannedAnswer('data: {"type":1}\n\n')):
        with serve_answers(answer) as bot:
            findings = await find_all(bot.url, contract)
        assert has_failed(findings)
        # The last answer is a stream, and its bytes are those of a bare one; 404 is a refusal, and 200 is healthy.
        by_chance = {
            *("event stream", "closing", "silence", "silence allowed", "ids", "failures"),
            *(["bytes", "data blocks"] if contract == "tokens" else []),
            *(["health"] if contract == "sessions" else []),
        }
        passed = {finding.check for finding in findings if finding.result is CheckResult.PASS}
        assert passed <= by_chance


def test_a_server_that_is_not_there_is_named() -> None:
    """Exit code 2: nothing could be checked."""
    completed = run_zoochat("check", "http://127.0.0.1:1")

    assert (completed.returncode, completed.stdout) == (2, "")
    assert "No answer from http://127.0.0.1:1" in completed.stderr


def test_without_a_description_a_contract_must_be_named(mock: MockProcess) -> None:
    """Exit code 2, and the message names the option."""
    completed = run_zoochat("check", mock.url)

    assert completed.returncode == 2
    assert "--contract" in completed.stderr


def test_a_description_without_our_contracts_is_reported() -> None:
    """The server has another API."""
    with serve_answers(make_json_answer({"openapi": "3.0.3", "paths": {"/pets": {"get": {}}}})) as bot:
        completed = run_zoochat("check", bot.url)

    assert completed.returncode == 2
    assert "none of the five contracts" in completed.stderr


async def test_what_cannot_be_checked_is_skipped_with_the_reason() -> None:
    """Simulations that are off, or an account that cannot log in, never count as a pass."""
    with serve_answers(NOT_FOUND) as bot:
        simulated = get_by_title(await find_all(bot.url, "platform"))
    with serve_answers(NOT_FOUND, NOT_FOUND, make_json_answer({"status": 401}, 401)) as bot:
        accounts = get_by_title(await find_all(bot.url, "sessions"))

    assert simulated["error stream"].result is CheckResult.SKIP
    assert "simulates no failures" in simulated["error stream"].evidence
    assert simulated["heartbeat"].result is CheckResult.SKIP
    assert accounts["headers"].result is CheckResult.SKIP
    assert "nobody cannot log in here" in accounts["headers"].evidence


def test_the_command_offers_every_contract() -> None:
    """It lists them without importing the checks."""
    assert tuple(PROBES) == OFFERED


@pytest.mark.parametrize("is_json", [False, True])
def test_progress_is_shown_on_a_terminal(mock: MockProcess, is_json: bool) -> None:
    """On standard error, so that it does not mix with the findings on standard output."""
    arguments = ("check", mock.url, "--contract", "platform", *(["--json"] if is_json else []))
    terminal, its_end = os.openpty()
    with subprocess.Popen(
        make_command(*arguments), env=make_environment(TERM="xterm"), stdout=subprocess.PIPE, stderr=its_end
    ) as process:
        os.close(its_end)
        shown = read_terminal(terminal)
        findings, _ = process.communicate(timeout=END_S)
    os.close(terminal)

    assert process.returncode == 0
    assert b"platform: " in shown
    assert b"platform: " not in findings


def read_terminal(terminal: int) -> bytes:
    """All that is written until the process at the other end has closed it, which Linux reports as an error."""
    written = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(terminal, 65_536):
            written += chunk
    return written


def test_nothing_but_the_findings_is_printed_without_a_terminal(mock: MockProcess) -> None:
    """For logs and pipes."""
    completed = run_zoochat("check", mock.url, "--contract", "platform", "--json")

    assert completed.stderr == ""
    assert json.loads(completed.stdout)["fail"] == 0
