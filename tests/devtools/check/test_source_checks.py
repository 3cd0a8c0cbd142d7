"""What a source document asks decides the exit code; what this server adds is told beside it.

Servers that do what their document asks pass, and each of them with one defect is caught by a required check.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from openapi_server.devtools.check.contract_client import CheckAccounts, Credentials, TargetServer
from openapi_server.devtools.check.report import CheckResult, Finding, Section
from openapi_server.devtools.check.runner import PROBES, CheckOptions, get_result, run_checks
from openapi_server.spec import load_spec
from tests.support.origins import (
    ORIGINS,
    ConvoOrigin,
    DevicesOrigin,
    Origin,
    PlatformOrigin,
    SessionsOrigin,
    TokensOrigin,
    serve_origin,
    stream_blocks,
)
from tests.support.processes import run_zoochat

ACCOUNTS = CheckAccounts(*(Credentials(name, "") for name in ("user1", "admin", "keeper1")))


async def find_failed(contract: str, origin: Origin) -> dict[Section, set[str]]:
    """The titles of the checks that failed, by section."""
    findings: list[Finding] = []
    with serve_origin(origin) as url:
        await run_checks(CheckOptions(url, [contract], 1.0, ACCOUNTS), lambda count: None, findings.append)
    failed = [finding for finding in findings if finding.result is not CheckResult.PASS]
    return {section: {each.check for each in failed if each.section is section} for section in Section}


@pytest.mark.parametrize("contract", PROBES)
async def test_a_server_that_does_what_its_document_asks_has_all_that_is_required(contract: str) -> None:
    """Nothing is skipped, either. What this server adds is missing there, and is said to be."""
    failed = await find_failed(contract, ORIGINS[contract]())

    assert failed[Section.REQUIRED] == set()
    assert {"bytes", "resume", "idempotency"} <= failed[Section.EXTRA]


def test_the_exit_code_is_that_of_the_required_checks() -> None:
    """0 in the first form, 1 with `--strict`; the two sections have counts of their own."""
    with serve_origin(PlatformOrigin()) as url:
        command = ("check", url, "--contract", "platform", "--heartbeat", "1", "--json")
        ended, strict = run_zoochat(*command), run_zoochat(*command, "--strict")

    report = json.loads(ended.stdout)
    assert (ended.returncode, strict.returncode) == (0, 1)
    assert report["required"]["fail"] == 0
    assert report["required"]["pass"] >= 9
    assert report["extra"]["fail"] > 5


def drop_cookies(answer: Response) -> Response:
    answer.raw_headers[:] = [header for header in answer.raw_headers if header[0] != b"set-cookie"]
    return answer


class NoCookie(PlatformOrigin):
    async def start(self, request: Request) -> Response:
        return drop_cookies(await super().start(request))


class ProgressFalls(PlatformOrigin):
    STEPS = (("loading_documents", 50), ("analyzing", 25), ("generating_response", 75))


class NoResponse(PlatformOrigin):
    def make_result(self, query: str) -> dict[str, Any]:
        return {"result": "The wrong name of a field"}


class NoLatestProgress(PlatformOrigin):
    async def get_job(self, request: Request) -> Response:
        answer = await super().get_job(request)
        job = json.loads(bytes(answer.body))
        job.pop("latest_progress", None)
        return JSONResponse(job, answer.status_code)


class PagesForErrors(PlatformOrigin):
    async def get_job(self, request: Request) -> Response:
        answer = await super().get_job(request)
        return HTMLResponse("<html>Not found</html>", 404) if answer.status_code == 404 else answer


class NoProgress(PlatformOrigin):
    def list_events(self, query: str) -> Iterator[str]:
        return (event for event in super().list_events(query) if "event: progress" not in event)


class MisnamedEnd(ConvoOrigin):
    def list_events(self) -> Iterator[str]:
        return (event.replace("event: complete", "event: end") for event in super().list_events())


class NoIds(ConvoOrigin):
    def list_events(self) -> Iterator[str]:
        return (event.partition("\n")[2] for event in super().list_events())


class TypesForEver(ConvoOrigin):
    def list_events(self) -> Iterator[str]:
        return (event for event in super().list_events() if '"stop"' not in event)


class MayBeCached(ConvoOrigin):
    async def stream(self, request: Request) -> Response:
        answer = await super().stream(request)
        answer.headers["cache-control"] = "max-age=60"
        return answer


class TakesAnyId(SessionsOrigin):
    async def update(self, request: Request) -> Response:
        return JSONResponse({"message": "Updated"})


class TakesNoId(SessionsOrigin):
    async def update(self, request: Request) -> Response:
        return JSONResponse({"message": "Streaming session ID mismatch"}, 400)


class NoStreamingId(SessionsOrigin):
    async def stream(self, request: Request) -> Response:
        return stream_blocks(self.list_events())


class NoDone(SessionsOrigin):
    def list_events(self) -> Iterator[str]:
        return (event for event in super().list_events() if "event: done" not in event)


class IdsInABareStream(TokensOrigin):
    def list_events(self) -> Iterator[str]:
        return (f"id: {number}\n{event}" for number, event in enumerate(super().list_events()))


class RetryInABareStream(TokensOrigin):
    def list_events(self) -> Iterator[str]:
        yield from (
            f"retry: 2000\n{event}" if number == 0 else event for number, event in enumerate(super().list_events())
        )


class NoStages(TokensOrigin):
    def list_events(self) -> Iterator[str]:
        return (event for event in super().list_events() if "retrieval" not in event)


class OneMessageASession(TokensOrigin):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    async def stream(self, request: Request) -> Response:
        session_id = (await request.json()).get("session_id", "")
        if session_id in self.seen:
            return JSONResponse({"error": "Busy"}, 409)
        self.seen.add(session_id)
        return await super().stream(request)


class TwoFinalEvents(DevicesOrigin):
    def list_events(self) -> Iterator[str]:
        return (event.replace("false", "true") for event in super().list_events())


class EmptyAnswer(DevicesOrigin):
    async def answer(self, request: Request) -> Response:
        return JSONResponse({"content": ""})


DEFECTS: list[tuple[str, type[Origin], str]] = [
    ("platform", NoCookie, "cookie"),
    ("platform", NoCookie, "job cookie"),
    ("platform", ProgressFalls, "progress"),
    ("platform", ProgressFalls, "job"),
    ("platform", NoProgress, "progress"),
    ("platform", NoResponse, "response"),
    ("platform", NoResponse, "job"),
    ("platform", NoLatestProgress, "job"),
    ("platform", PagesForErrors, "failures"),
    ("convo", MisnamedEnd, "sequence"),
    ("convo", NoIds, "fields"),
    ("convo", TypesForEver, "typing"),
    ("convo", MayBeCached, "cache and CORS headers"),
    ("sessions", TakesAnyId, "wrong id"),
    ("sessions", TakesNoId, "right id"),
    ("sessions", NoStreamingId, "streaming id"),
    ("sessions", NoDone, "chunks"),
    ("tokens", IdsInABareStream, "data blocks"),
    ("tokens", RetryInABareStream, "data blocks"),
    ("tokens", NoStages, "stages"),
    ("tokens", OneMessageASession, "next message"),
    ("devices", TwoFinalEvents, "final event"),
    ("devices", EmptyAnswer, "whole answer"),
]


@pytest.mark.parametrize(
    ("contract", "broken", "check"), DEFECTS, ids=[f"{broken.__name__}-{check}" for _, broken, check in DEFECTS]
)
async def test_a_server_without_what_its_document_asks_is_caught(
    contract: str, broken: type[Origin], check: str
) -> None:
    """By the required check for it, so that the exit code is 1."""
    with serve_origin(broken()) as url:
        server = TargetServer(url, load_spec(), 1.0, ACCOUNTS)
        try:
            result, evidence = await get_result(PROBES[contract](server).list_source_checks()[check])
        finally:
            await server.close()

    assert result is CheckResult.FAIL, evidence
