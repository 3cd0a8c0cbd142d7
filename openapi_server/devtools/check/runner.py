"""Runs the checks: finds out which contracts a server has, and runs all of their checks at the same time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from openapi_server.devtools.check.chat import ChatProbes
from openapi_server.devtools.check.common_checks import CheckFunction, Skipped, StreamProbes
from openapi_server.devtools.check.contract_client import CheckAccounts, TargetServer
from openapi_server.devtools.check.convo import ConvoProbes
from openapi_server.devtools.check.devices import DeviceProbes
from openapi_server.devtools.check.platform import PlatformProbes
from openapi_server.devtools.check.report import CheckResult, Finding, Section
from openapi_server.devtools.check.sessions import SessionProbes
from openapi_server.devtools.check.stream_rules import EVENT_STREAM, Violation
from openapi_server.spec import load_spec

PROBES: dict[str, type[StreamProbes]] = {
    probes.contract: probes for probes in (ConvoProbes, PlatformProbes, SessionProbes, ChatProbes, DeviceProbes)
}

SPEC_PATHS = ("/openapi.json", "/openapi.yaml")
# Longer than the longest turn.
CHECK_TIMEOUT_S = 330.0

OnFinding = Callable[[Finding], None]


class CheckImpossible(Exception):
    """There is no server, or nothing to check. The message says what the user can do about it."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """What to check. Without `contracts`: all that the server's OpenAPI description has."""

    url: str
    contracts: Sequence[str]
    heartbeat_s: float
    accounts: CheckAccounts


async def run_with_progress(options: CheckOptions) -> list[Finding]:
    """Run the checks, with a progress bar on standard error while that is a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"checking {options.url}", total=None)

        def set_total(count: int) -> None:
            progress.update(task, total=count)

        def advance(finding: Finding) -> None:
            progress.update(task, advance=1, description=f"{finding.contract}: {finding.check}")

        return await run_checks(options, set_total, advance)


async def run_checks(options: CheckOptions, on_total: Callable[[int], None], on_finding: OnFinding) -> list[Finding]:
    """All findings, sorted by contract. Raises `CheckImpossible` without a server, or without a contract to check."""
    spec = await _fetch_spec(options)
    names = options.contracts or [name for name, probes in PROBES.items() if _has_operation(spec, probes.operation)]
    if not names:
        raise CheckImpossible("The server's description has none of the five contracts. Name one with --contract.")
    server = TargetServer(options.url, _complete_spec(spec), options.heartbeat_s, options.accounts)
    try:
        checks = [check for name in names for check in _list_checks(PROBES[name](server))]
        on_total(len(checks))
        return list(await asyncio.gather(*(_run_check(check, on_finding) for check in checks)))
    finally:
        await server.close()


@dataclass(frozen=True, slots=True)
class _Check:
    """A check of a contract, by its title."""

    contract: str
    section: Section
    title: str
    run: CheckFunction


def _list_checks(probes: StreamProbes) -> list[_Check]:
    """What the contract's source asks first, then what this server adds."""
    sections = {Section.REQUIRED: probes.list_source_checks(), Section.EXTRA: probes.list_extra_checks()}
    return [
        _Check(probes.contract, section, title, run)
        for section, checks in sections.items()
        for title, run in checks.items()
    ]


async def _run_check(check: _Check, on_finding: OnFinding) -> Finding:
    started_s = time.monotonic()
    result, evidence = await get_result(check.run)
    took_s = time.monotonic() - started_s
    finding = Finding(check.contract, check.title, result, " ".join(evidence.split()), took_s, check.section)
    on_finding(finding)
    return finding


async def get_result(run: CheckFunction) -> tuple[CheckResult, str]:
    """How a check ends, and its evidence. Whatever it raises, there is a result."""
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return CheckResult.PASS, await run()
    except Skipped as skipped:
        return CheckResult.SKIP, str(skipped)
    except Violation as violation:
        return CheckResult.FAIL, str(violation)
    except (httpx.HTTPError, TimeoutError) as error:
        return CheckResult.FAIL, f"no answer: {type(error).__name__} {error}"
    except Exception as error:
        # An unknown server may answer anything, and one failed check must not cost all other findings.
        return CheckResult.FAIL, f"an answer has an unexpected shape: {type(error).__name__} {error}"


async def _fetch_spec(options: CheckOptions) -> Mapping[str, Any]:
    """The server's own OpenAPI description; ours when it has none and contracts were named."""
    async with httpx.AsyncClient(base_url=options.url, timeout=10, trust_env=False) as client:
        for path in SPEC_PATHS:
            try:
                answer = await client.get(path, headers={"Accept": "*/*"})
            except httpx.HTTPError as error:
                raise CheckImpossible(f"No answer from {options.url}: {error}") from None
            spec = _parse_spec(answer)
            if spec:
                return spec
    if not options.contracts:
        raise CheckImpossible(f"{options.url} has no {' or '.join(SPEC_PATHS)}. Name what to check with --contract.")
    return load_spec()


def _parse_spec(answer: httpx.Response) -> Mapping[str, Any] | None:
    """JSON first: it is valid YAML, too, but parses much faster as JSON."""
    try:
        spec = answer.json() if answer.status_code == 200 else None
    except ValueError:
        spec = _parse_yaml(answer.text)
    return spec if isinstance(spec, dict) and isinstance(spec.get("paths"), dict) else None


def _parse_yaml(text: str) -> Any:
    import yaml  # needed only for servers without openapi.json

    try:
        return yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # a safe loader
    except yaml.YAMLError:
        return None


def _has_operation(spec: Mapping[str, Any], path: str) -> bool:
    return "post" in spec["paths"].get(path, {})


def _complete_spec(spec: Mapping[str, Any]) -> Mapping[str, Any]:
    """The server's spec; operations whose stream it does not describe are taken from ours."""
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
