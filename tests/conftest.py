"""Fixtures of the whole suite."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
import structlog
from httpx._transports import default as default_transports
from hypothesis import settings

from openapi_server import composition
from openapi_server.accounts.passwords import Passwords
from openapi_server.clock import SystemClock
from openapi_server.composition import Overrides
from openapi_server.config import Settings
from openapi_server.http.operation_table import load_operation_table
from openapi_server.http.services import Services
from openapi_server.instruments import Tracer
from openapi_server.protocols import Clock, Knowledge, Moderator, Provider, Store
from tests.support.apps import borrow_app, give_back
from tests.support.contract import CHECKED, check_stream
from tests.support.fakes import CHEAP_HASHER, AllowsAll, FakeKnowledge, Says
from tests.support.processes import ServerProcess
from tests.support.redis_server import RedisServer, require_redis
from tests.support.report import LINES, MUTANTS_CAUGHT, Report
from tests.support.scheduling import UnitScheduling, get_rank

# No example fails because the machine is busy; what has to be fast is measured in the benchmarks.
settings.register_profile("any-load", deadline=None)
# For `make test-fast`: the whole suite tries five times as many examples.
settings.register_profile("quick", deadline=None, max_examples=20)
settings.load_profile("any-load")

PLAIN_RENDERER = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)


class RunFigures:
    """Brings the figures of all worker processes (pytest-xdist) together with this one's."""

    def __init__(self) -> None:
        self.streams: Counter[str] = CHECKED
        self.lines: list[str] = LINES
        self.mutants: dict[str, bool] = MUTANTS_CAUGHT

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        figures = getattr(node, "workeroutput", {})
        self.streams.update(figures.get("streams", {}))
        self.lines.extend(figures.get("lines", []))
        self.mutants.update(figures.get("mutants", {}))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        workeroutput = getattr(session.config, "workeroutput", None)
        if workeroutput is not None:
            workeroutput.update(streams=dict(self.streams), lines=self.lines, mutants=self.mutants)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say how many streams were held against the contract (a violation is a failed test), and what was measured."""
        for operation, count in sorted(self.streams.items()):
            terminalreporter.write_line(f"streams held against x-event-order and x-itemSchema: {count} of {operation}")
        if self.mutants:
            caught = sum(self.mutants.values())
            terminalreporter.write_line(f"zoochat check: {caught} of {len(self.mutants)} mutants caught")
        for line in self.lines:
            terminalreporter.write_line(line)


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(RunFigures())
    # Otherwise each of some thousand clients reads the certificates of all authorities, which takes 20 ms.
    setattr(default_transports, "create_ssl_context", cache(httpx.create_ssl_context))  # noqa: B010  # not exported
    # structlog's own default draws each traceback with rich, which takes a second.
    structlog.configure(processors=[structlog.processors.add_log_level, PLAIN_RENDERER])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "dynamodb" in item.nodeid:
            item.add_marker("dynamodb")
    items.sort(key=lambda item: get_rank(item.nodeid))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> UnitScheduling:
    return UnitScheduling(config, log)


@pytest.fixture
def report() -> Report:
    """Call it with a line that is to stand at the end of the suite's output."""
    return LINES.append


RESUME_PARAMETERS = ("lastEventId", "last_event_id", "after")

# Puts something between the server and its store.
WrapsStore = Callable[[Store], Store]


def keep_store(store: Store) -> Store:
    return store


class OpensServices(Protocol):
    """Services over fakes and a real store; every part can be replaced by name."""

    async def __call__(
        self,
        provider: Provider = ...,
        knowledge: Knowledge = ...,
        moderator: Moderator = ...,
        clock: Clock = ...,
        wrap: WrapsStore = ...,
        tracer: Tracer | None = ...,
        **settings: object,
    ) -> Services: ...


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis that the tests of a process share; do not stop it."""
    require_redis()
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    try:
        asyncio.run(server.wait_until_ready())
        yield server.url
    finally:
        server.stop()


class RunningApp:
    """One application over its services, and as many callers as a test wants, each with cookies of its own."""

    def __init__(self, services: Services, callers: AsyncExitStack) -> None:
        self.services = services
        shared = borrow_app(services)
        callers.callback(give_back, shared)
        self.app = shared.app
        self._callers = callers

    async def new_client(self, address: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
        transport = CheckingTransport(httpx.ASGITransport(self.app, client=(address, 40_000)))
        client = httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=10, headers=headers)
        return await self._callers.enter_async_context(client)


class OpensZoo(Protocol):
    """The real application over the given services."""

    async def __call__(self, provider: Provider = ..., **parts: Any) -> RunningApp: ...


class OpensClient(Protocol):
    """A client of the real application over the given services."""

    async def __call__(self, provider: Provider = ..., **parts: Any) -> httpx.AsyncClient: ...


@asynccontextmanager
async def open_services_over(
    tmp_path: Path,
    provider: Provider,
    knowledge: Knowledge,
    moderator: Moderator | None,
    settings: Settings,
    clock: Clock,
    wrap: WrapsStore = keep_store,
    tracer: Tracer | None = None,
) -> AsyncIterator[Services]:
    """Without a moderator: with the rules of the package and of the keepers."""
    overrides = Overrides(
        clock=clock,
        provider=provider,
        knowledge=knowledge,
        moderator=moderator,
        passwords=Passwords(CHEAP_HASHER),
        wrap_store=wrap,
        tracer=tracer,
    )
    own = settings.model_copy(update={"sqlite_path": tmp_path / "zoo.sqlite3"})
    async with composition.open_services(own, overrides) as services:
        yield services


_made_settings: dict[str, Settings] = {}


def make_settings(**values: Any) -> Settings:
    """`Settings(**values)`, made once: pydantic takes 10 ms to look for every variable in the environment."""
    # pytest writes the test's name into the environment.
    variables = [item for item in sorted(os.environ.items()) if not item[0].startswith("PYTEST")]
    key = f"{sorted(values.items())} {variables}"
    if key not in _made_settings:
        _made_settings[key] = Settings(**values)
    return _made_settings[key]


@pytest.fixture
async def open_services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpensServices]:
    # No developer's .env.local may reach a test.
    monkeypatch.chdir(tmp_path)
    async with AsyncExitStack() as stack:

        async def open_with(
            provider: Provider | None = None,
            knowledge: Knowledge | None = None,
            moderator: Moderator | None = None,
            clock: Clock | None = None,
            wrap: WrapsStore = keep_store,
            tracer: Tracer | None = None,
            **settings: Any,
        ) -> Services:
            parts = open_services_over(
                tmp_path,
                provider or Says(),
                knowledge or FakeKnowledge(),
                moderator or AllowsAll(),
                make_settings(validate_responses=True, **settings),
                clock or SystemClock(),
                wrap,
                tracer,
            )
            return await stack.enter_async_context(parts)

        yield open_with


@pytest.fixture
async def open_zoo(open_services: OpensServices) -> AsyncIterator[OpensZoo]:
    async with AsyncExitStack() as callers:

        async def open_with(provider: Provider | None = None, **parts: Any) -> RunningApp:
            return RunningApp(await open_services(provider or Says(), **parts), callers)

        yield open_with


@pytest.fixture
async def open_client(open_zoo: OpensZoo) -> OpensClient:
    async def open_with(provider: Provider | None = None, **parts: Any) -> httpx.AsyncClient:
        zoo = await open_zoo(provider or Says(), **parts)
        return await zoo.new_client()

    return open_with


@pytest.fixture
async def client(open_client: OpensClient) -> httpx.AsyncClient:
    """A client of the application over fakes: an animal that says "Roar! I am a lion."."""
    return await open_client()


def find_template(path: str) -> str:
    """The path as the spec writes it; of an alias the path that it is for.

    >>> find_template("/api/chat/sessions/sess_9c8b/stream"), find_template("/chat/stream")
    ('/chat/sessions/{sessionId}/stream', '/chat/stream')
    """
    address = load_operation_table().find(path)
    assert address is not None, path
    return address.template


class CheckingTransport(httpx.AsyncBaseTransport):
    """Reads every answer whole; what is a stream is held against the contract before the test sees it."""

    def __init__(self, inner: httpx.ASGITransport) -> None:
        self._inner = inner

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self._inner.handle_async_request(request)
        body = await response.aread()
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        if is_stream and response.status_code == 200:
            points = [request.headers.get("last-event-id"), *map(request.url.params.get, RESUME_PARAMETERS)]
            is_resumed = any(point and point.strip() for point in points)
            is_resumable = b'"onDisconnect":"continue"' in request.content.replace(b" ", b"")
            path = find_template(request.url.path)
            check_stream(path, body, method=request.method.lower(), is_resumed=is_resumed, is_resumable=is_resumable)
        return response


class StartsServer(Protocol):
    """A server process with these settings."""

    def __call__(self, kind: type[ServerProcess] = ..., /, **settings: object) -> ServerProcess: ...


@pytest.fixture
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartsServer]:
    """Starts servers with settings of the test's choice; all are stopped at its end."""
    processes: list[ServerProcess] = []
    folder = tmp_path_factory.mktemp("server")

    def start(kind: type[ServerProcess] = ServerProcess, /, **settings: object) -> ServerProcess:
        processes.append(kind(folder, **settings))
        return processes[-1]

    try:
        yield start
    finally:
        for process in processes:
            process.stop()
