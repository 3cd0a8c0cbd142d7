"""Mutation tests of `zoochat check`: it finds no fault in the real server, and each defect in each broken one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openapi_server.devtools.check.checker import PROBES, CheckOptions, run_checks
from openapi_server.devtools.check.contract_client import CheckAccounts, Credentials
from openapi_server.devtools.check.report import CheckResult, Finding
from tests.mutants.catalogue import MUTANTS, Mutant
from tests.support.processes import ServerProcess
from tests.support.report import MUTANTS_CAUGHT

# Much longer than the server's real interval, so that a busy machine does not look like a fault of the server.
HEARTBEAT_S = 3.0


class MutantsProcess(ServerProcess):
    """All mutants in one process. Turns last long enough to be caught running."""

    module = "tests.mutants"
    defaults = {"OFFLINE_WORDS_PER_S": 8, "HEARTBEAT": 1}  # noqa: RUF012  # a class variable in the class above


@pytest.fixture(scope="module")
def mutants(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    process = MutantsProcess(tmp_path_factory.mktemp("mutants"))
    yield process
    process.stop()


async def run_all_checks(url: str, *contracts: str, username: str = "user1") -> list[Finding]:
    accounts = CheckAccounts(*(Credentials(name, f"{name}-demo") for name in (username, "admin", "keeper1")))
    return await run_checks(
        CheckOptions(url, contracts, HEARTBEAT_S, accounts), lambda count: None, lambda finding: None
    )


async def test_the_server_keeps_all_five_contracts(mutants: ServerProcess) -> None:
    """No check fails or is skipped; the account has no credits at the start."""
    findings = await run_all_checks(f"{mutants.url}/healthy", username="parent1")

    assert [finding for finding in findings if finding.result is not CheckResult.PASS] == []
    assert {finding.contract for finding in findings} == set(PROBES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_broken_server_is_caught(mutant: Mutant, mutants: ServerProcess) -> None:
    """By the check for this defect."""
    findings = await run_all_checks(mutants.url + mutant.path, mutant.contract)

    failed = [finding.check for finding in findings if finding.result is CheckResult.FAIL]
    MUTANTS_CAUGHT[mutant.name] = mutant.check in failed
    assert mutant.check in failed
