"""`zoochat check` as people run it: what it finds, what it cannot do, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from openapi_server.cli.check import CONTRACTS as OFFERED
from openapi_server.devtools.check.checker import PROBES, CheckOptions, run_checks
from openapi_server.devtools.check.findings import Finding, Result
from openapi_server.devtools.check.site import CheckAccounts, Credentials
from tests.devtools.canned import Canned, as_json, chatbot
from tests.support.processes import MockProcess, run_zoochat

NOBODY = CheckAccounts(Credentials("nobody", ""), Credentials("nobody", ""), Credentials("nobody", ""))
NOT_FOUND = as_json({"status": 404}, 404)
PAGE = Canned("<html>Oops</html>", 200, "text/html")


async def findings_of(url: str, *contracts: str) -> dict[str, Finding]:
    findings = await run_checks(CheckOptions(url, contracts, 1.0, NOBODY), lambda count: None, lambda finding: None)
    return {finding.check: finding for finding in findings}


def test_the_stand_in_for_the_platform_passes(mock: MockProcess, tmp_path: Path) -> None:
    """A server without a description is checked by ours, when the contract is named; exit code 0."""
    report = tmp_path / "report.xml"

    ended = run_zoochat(
        "check", mock.url, "--contract", "platform", "--heartbeat", "5", "--json", "--junit", str(report)
    )

    told = json.loads(ended.stdout)
    assert ended.returncode == 0, [row for row in told["findings"] if row["result"] == "fail"]
    assert told["pass"] > 15
    assert ElementTree.parse(report).getroot()[0].get("name") == "platform"  # noqa: S314  # our own


def test_whatever_a_server_answers_is_a_finding() -> None:
    """A page in place of everything: exit code 1, evidence, and no traceback."""
    with chatbot(PAGE) as bot:
        ended = run_zoochat("check", bot.url, "--contract", "tokens", "--heartbeat", "1", variables={"COLUMNS": "200"})

    assert ended.returncode == 1
    assert "text/html" in ended.stdout
    assert "0 pass" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr


@pytest.mark.parametrize("contract", OFFERED)
async def test_no_server_makes_the_checker_stumble(contract: str) -> None:
    """Each probe of each contract takes any answer for a finding: here none of them is a pass."""
    for answer in (PAGE, NOT_FOUND, as_json([]), as_json({}), Canned('data: {"type":1}\n\n')):
        with chatbot(answer) as bot:
            findings = await findings_of(bot.url, contract)
        passed = [finding for finding in findings.values() if finding.verdict is Result.PASS]
        assert {finding.check for finding in passed} <= {"silence", "progress", "ids"}


def test_nobody_there_is_said_plainly() -> None:
    """Exit code 2: nothing was found out about the server."""
    ended = run_zoochat("check", "http://127.0.0.1:1")

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "No answer from http://127.0.0.1:1" in ended.stderr


def test_without_a_description_a_contract_has_to_be_named(mock: MockProcess) -> None:
    """Exit code 2, and the word that helps."""
    ended = run_zoochat("check", mock.url)

    assert ended.returncode == 2
    assert "--contract" in ended.stderr


def test_a_description_without_any_of_the_contracts_is_said() -> None:
    """Somebody else's API."""
    with chatbot(as_json({"openapi": "3.0.3", "paths": {"/pets": {"get": {}}}})) as bot:
        ended = run_zoochat("check", bot.url)

    assert ended.returncode == 2
    assert "none of the five contracts" in ended.stderr


async def test_what_cannot_be_done_there_is_skipped_with_its_reason() -> None:
    """Simulations that are off, an account that cannot log in: never a pass."""
    with chatbot(NOT_FOUND) as bot:
        simulated = await findings_of(bot.url, "platform")
    with chatbot(NOT_FOUND, NOT_FOUND, as_json({"status": 401}, 401)) as bot:
        accounts = await findings_of(bot.url, "sessions")

    assert simulated["error stream"].verdict is Result.SKIP
    assert "no simulations here" in simulated["error stream"].evidence
    assert simulated["heartbeat"].verdict is Result.SKIP
    assert accounts["headers"].verdict is Result.SKIP
    assert "nobody cannot log in here" in accounts["headers"].evidence


def test_the_command_offers_every_contract() -> None:
    """It names them without loading the probes."""
    assert tuple(PROBES) == OFFERED
