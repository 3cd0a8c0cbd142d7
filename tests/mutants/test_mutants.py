"""Mutation tests of `zoochat check`: it finds no fault in the real server, and each defect in each broken one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from openapi_server.devtools.check.contract_client import CheckAccounts, Credentials, TargetServer
from openapi_server.devtools.check.report import CheckResult, Finding
from openapi_server.devtools.check.runner import PROBES, CheckOptions, get_result, run_checks
from openapi_server.spec import load_spec
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


def make_accounts(username: str) -> CheckAccounts:
    return CheckAccounts(*(Credentials(name, f"{name}-demo") for name in (username, "admin", "keeper1")))


async def test_the_server_keeps_all_five_contracts(mutants: ServerProcess) -> None:
    """No check fails or is skipped; the account has no credits at the start."""
    findings: list[Finding] = []
    options = CheckOptions(f"{mutants.url}/healthy", (), HEARTBEAT_S, make_accounts("parent1"))
    await run_checks(options, lambda count: None, findings.append)

    assert [finding for finding in findings if finding.result is not CheckResult.PASS] == []
    assert {finding.contract for finding in findings} == set(PROBES)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
async def test_a_broken_server_is_caught(mutant: Mutant, mutants: ServerProcess) -> None:
    """By the check for this defect."""
    server = TargetServer(mutants.url + mutant.path, load_spec(), HEARTBEAT_S, make_accounts("user1"))
    probes = PROBES[mutant.contract](server)
    checks = {**probes.list_source_checks(), **probes.list_extra_checks()}
    try:
        result, evidence = await get_result(checks[mutant.check])
    finally:
        await server.close()

    MUTANTS_CAUGHT[mutant.name] = result is CheckResult.FAIL
    assert result is CheckResult.FAIL, evidence
