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
from openapi_server.devtools.check.findings import Finding, Skipped, Verdict, Violation
from openapi_server.devtools.check.platform import PlatformProbes
from openapi_server.devtools.check.probes import Check, StreamProbes
from openapi_server.devtools.check.sessions import SessionProbes
from openapi_server.devtools.check.site import Accounts, Site
from openapi_server.devtools.check.streams import EVENT_STREAM
from openapi_server.devtools.check.tokens import TokenProbes
from openapi_server.spec import load_spec

PROBES: dict[str, type[StreamProbes]] = {
    probes.contract: probes for probes in (ConvoProbes, PlatformProbes, SessionProbes, TokenProbes, DeviceProbes)
}

DESCRIPTIONS = ("/openapi.json", "/openapi.yaml")
# Nothing that is checked takes longer than a turn may.
CHECK_WITHIN_S = 330.0

Progress = Callable[[Finding], None]


class CannotCheck(Exception):
    """There is nothing to check, or nobody to ask; the message says what to do about it."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be checked. Without `contracts`: whatever the server's own description has."""

    url: str
    contracts: Sequence[str]
    heartbeat_s: float
    accounts: Accounts


async def check(order: Order, on_plan: Callable[[int], None], on_finding: Progress) -> list[Finding]:
    """All findings, contract by contract. `CannotCheck` when there is no server, or no contract known of it."""
    spec = await _description(order)
    names = order.contracts or [name for name, probes in PROBES.items() if _has(spec, probes.operation)]
    if not names:
        raise CannotCheck("The server's description has none of the five contracts. Name one with --contract.")
    site = Site(order.url, _completed(spec), order.heartbeat_s, order.accounts)
    try:
        checks = [(name, title, run) for name in names for title, run in PROBES[name](site).checks().items()]
        on_plan(len(checks))
        return list(await asyncio.gather(*(_find(*planned, on_finding) for planned in checks)))
    finally:
        await site.close()


async def _find(contract: str, title: str, run: Check, on_finding: Progress) -> Finding:
    began_s = time.monotonic()
    verdict, evidence = await _judged(run)
    finding = Finding(contract, title, verdict, " ".join(evidence.split()), time.monotonic() - began_s)
    on_finding(finding)
    return finding


async def _judged(run: Check) -> tuple[Verdict, str]:
    try:
        async with asyncio.timeout(CHECK_WITHIN_S):
            return Verdict.PASS, await run()
    except Skipped as skipped:
        return Verdict.SKIP, str(skipped)
    except Violation as broken:
        return Verdict.FAIL, str(broken)
    except (httpx.HTTPError, TimeoutError) as error:
        return Verdict.FAIL, f"no answer: {type(error).__name__} {error}"
    except Exception as error:
        # Somebody else's server may answer anything, and somebody waits for all the other findings.
        return Verdict.FAIL, f"an answer has another shape: {type(error).__name__} {error}"


async def _description(order: Order) -> Mapping[str, Any]:
    """The server's own description; ours where it has none and the contracts were named."""
    async with httpx.AsyncClient(base_url=order.url, timeout=10, trust_env=False) as client:
        for path in DESCRIPTIONS:
            try:
                answer = await client.get(path, headers={"Accept": "*/*"})
            except httpx.HTTPError as error:
                raise CannotCheck(f"No answer from {order.url}: {error}") from None
            spec = _parsed(answer)
            if spec:
                return spec
    if not order.contracts:
        raise CannotCheck(f"{order.url} has no {' or '.join(DESCRIPTIONS)}. Name what to check with --contract.")
    return load_spec()


def _parsed(answer: httpx.Response) -> Mapping[str, Any] | None:
    """JSON is YAML, too, but is read much quicker as what it is."""
    try:
        found = answer.json() if answer.status_code == 200 else None
    except ValueError:
        found = _yaml(answer.text)
    return found if isinstance(found, dict) and isinstance(found.get("paths"), dict) else None


def _yaml(text: str) -> Any:
    import yaml  # only servers without openapi.json make us need it

    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # a safe loader
    except yaml.YAMLError:
        return None


def _has(spec: Mapping[str, Any], path: str) -> bool:
    return "post" in spec["paths"].get(path, {})


def _completed(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The description; operations for which it has no rules of the stream get those that we know."""
    ours = load_spec()
    paths = dict(spec["paths"])
    for probes in PROBES.values():
        if not _has_rules(spec, probes.operation):
            paths[probes.operation] = ours["paths"].get(probes.operation, {})
    return {**spec, "paths": paths, "components": _merged(spec.get("components", {}), ours["components"])}


def _has_rules(spec: Mapping[str, Any], path: str) -> bool:
    responses = spec["paths"].get(path, {}).get("post", {}).get("responses", {})
    media = responses.get("200", {}).get("content", {}).get(EVENT_STREAM, {})
    return "x-event-order" in media and "x-itemSchema" in media


def _merged(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> Mapping[str, Any]:
    kinds = {*theirs, *ours}
    return {kind: {**ours.get(kind, {}), **theirs.get(kind, {})} for kind in kinds}
