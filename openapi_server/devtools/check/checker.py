"""The checker: which contracts a server has, and all of their checks at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from openapi_server.devtools.check.convo import ConvoProbes
from openapi_server.devtools.check.devices import DeviceProbes
from openapi_server.devtools.check.findings import Finding, Result, Skipped, Violation
from openapi_server.devtools.check.platform import PlatformProbes
from openapi_server.devtools.check.probes import CheckFunction, StreamProbes
from openapi_server.devtools.check.sessions import SessionProbes
from openapi_server.devtools.check.site import CheckAccounts, TargetServer
from openapi_server.devtools.check.streams import EVENT_STREAM
from openapi_server.devtools.check.tokens import ChatProbes
from openapi_server.spec import load_spec

PROBES: dict[str, type[StreamProbes]] = {
    probes.contract: probes for probes in (ConvoProbes, PlatformProbes, SessionProbes, ChatProbes, DeviceProbes)
}

SPEC_PATHS = ("/openapi.json", "/openapi.yaml")
# Nothing that is checked takes longer than a turn may.
CHECK_TIMEOUT_S = 330.0

OnFinding = Callable[[Finding], None]


class CheckImpossible(Exception):
    """There is nothing to check, or nobody to ask; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What is to be checked. Without `contracts`: whatever the server's own description has."""

    url: str
    contracts: Sequence[str]
    heartbeat_s: float
    accounts: CheckAccounts


async def run_checks(order: CheckOptions, on_plan: Callable[[int], None], on_finding: OnFinding) -> list[Finding]:
    """All findings, contract by contract. `CannotCheck` when there is no server, or no contract known of it."""
    spec = await _fetch_spec(order)
    names = order.contracts or [name for name, probes in PROBES.items() if _has_operation(spec, probes.operation)]
    if not names:
        raise CheckImpossible("The server's description has none of the five contracts. Name one with --contract.")
    site = TargetServer(order.url, _complete_spec(spec), order.heartbeat_s, order.accounts)
    try:
        checks = [(name, title, run) for name in names for title, run in PROBES[name](site).list_checks().items()]
        on_plan(len(checks))
        return list(await asyncio.gather(*(_run_check(*planned, on_finding) for planned in checks)))
    finally:
        await site.close()


async def _run_check(contract: str, title: str, run: CheckFunction, on_finding: OnFinding) -> Finding:
    began_s = time.monotonic()
    verdict, evidence = await _get_result(run)
    finding = Finding(contract, title, verdict, " ".join(evidence.split()), time.monotonic() - began_s)
    on_finding(finding)
    return finding


async def _get_result(run: CheckFunction) -> tuple[Result, str]:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return Result.PASS, await run()
    except Skipped as skipped:
        return Result.SKIP, str(skipped)
    except Violation as broken:
        return Result.FAIL, str(broken)
    except (httpx.HTTPError, TimeoutError) as error:
        return Result.FAIL, f"no answer: {type(error).__name__} {error}"
    except Exception as error:
        # Somebody else's server may answer anything, and somebody waits for all the other findings.
        return Result.FAIL, f"an answer has another shape: {type(error).__name__} {error}"


async def _fetch_spec(order: CheckOptions) -> Mapping[str, Any]:
    """The server's own description; ours where it has none and the contracts were named."""
    async with httpx.AsyncClient(base_url=order.url, timeout=10, trust_env=False) as client:
        for path in SPEC_PATHS:
            try:
                answer = await client.get(path, headers={"Accept": "*/*"})
            except httpx.HTTPError as error:
                raise CheckImpossible(f"No answer from {order.url}: {error}") from None
            spec = _parse_spec(answer)
            if spec:
                return spec
    if not order.contracts:
        raise CheckImpossible(f"{order.url} has no {' or '.join(SPEC_PATHS)}. Name what to check with --contract.")
    return load_spec()


def _parse_spec(answer: httpx.Response) -> Mapping[str, Any] | None:
    """JSON is YAML, too, but is read much quicker as what it is."""
    try:
        found = answer.json() if answer.status_code == 200 else None
    except ValueError:
        found = _parse_yaml(answer.text)
    return found if isinstance(found, dict) and isinstance(found.get("paths"), dict) else None


def _parse_yaml(text: str) -> Any:
    import yaml  # only servers without openapi.json make us need it

    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # a safe loader
    except yaml.YAMLError:
        return None


def _has_operation(spec: Mapping[str, Any], path: str) -> bool:
    return "post" in spec["paths"].get(path, {})


def _complete_spec(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The description; operations for which it has no rules of the stream get those that we know."""
    ours = load_spec()
    paths = dict(spec["paths"])
    for probes in PROBES.values():
        if not _has_stream_rules(spec, probes.operation):
            paths[probes.operation] = ours["paths"].get(probes.operation, {})
    return {**spec, "paths": paths, "components": _merge_components(spec.get("components", {}), ours["components"])}


def _has_stream_rules(spec: Mapping[str, Any], path: str) -> bool:
    responses = spec["paths"].get(path, {}).get("post", {}).get("responses", {})
    media = responses.get("200", {}).get("content", {}).get(EVENT_STREAM, {})
    return "x-event-order" in media and "x-itemSchema" in media


def _merge_components(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = {*theirs, *ours}
    return {kind: {**ours.get(kind, {}), **theirs.get(kind, {})} for kind in kinds}
