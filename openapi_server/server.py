"""The server process: opens the services, serves until a signal, drains, and closes the services."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from types import FrameType

import structlog
import uvicorn

from openapi_server.app import create_app
from openapi_server.composition import Overrides, open_services, run_background_jobs
from openapi_server.config import ConfigError, Settings
from openapi_server.http.concurrency_limit import is_monitoring
from openapi_server.http.listener import BACKLOG, Listener, explain_bind_failure, open_sockets
from openapi_server.http.services import Services
from openapi_server.http.uvicorn_protocol import make_protocol_class
from openapi_server.logging_setup import BackgroundWriter, choose_log_format, flush_log, open_log
from openapi_server.protocols import Provider
from openapi_server.web.pages import make_curl_command

# How long other answers may take to finish when all turns have ended, in seconds.
SHUTDOWN_GRACE_S = 1
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# How long the second signal waits for turns to be stored as interrupted, in seconds. The store may be locked, or hang;
# the next start settles what is left.
FORCED_EXIT_S = 5.0
# glibc (malloc.h): how many arenas the threads have together. By default each gets its own, and keeps what is freed in
# it; but only one of our threads holds the interpreter at a time.
_M_ARENA_MAX, _ARENAS = -8, 1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServerRole:
    """Which one of several processes with one address this is. The first one, 0, prints the address.

    A byte is written to `tells_ready` when it serves. `alive` ends when the process that has started it ends.
    """

    number: int
    tells_ready: int
    alive: int


class ZooServer(uvicorn.Server):
    """uvicorn that prints its address, and ends with exit code 0 on SIGINT and SIGTERM.

    The first signal starts draining: running turns may finish, new ones are refused. The second one stops at once.
    `console` gets what a person at the terminal reads: the address, and what Ctrl-C does.
    """

    def __init__(
        self, config: uvicorn.Config, services: Services, console: BackgroundWriter, role: ServerRole | None = None
    ) -> None:
        super().__init__(config)
        self._role = role
        self._settings = services.settings
        self._engine = services.engine
        self._rules = services.rule_admin.rules
        self._console = console
        self._draining: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        try:
            for each in sockets or []:
                each.listen(BACKLOG)
            # Without sockets: uvicorn would leave the accepting to the event loop.
            await super().startup([])
            self.servers = [Listener(each, self._make_protocol, is_monitoring) for each in sockets or []]  # type: ignore[misc]  # has what uvicorn uses
        except OSError as error:
            # Another program has begun to listen since our sockets were bound.
            raise ConfigError(explain_bind_failure(error, self._settings.host, self._settings.port)) from None
        if self.started:
            # In a thread, and not before: a start would take a tenth of a second longer. A message that comes first is
            # held against all rules.
            asyncio.get_running_loop().run_in_executor(None, self._rules.prepare)
        if self.started and self._role is not None:
            # Only the first one is waited for.
            with suppress(BrokenPipeError):
                os.write(self._role.tells_ready, b"1")
            asyncio.get_running_loop().add_reader(self._role.alive, self._end_alone)
        if self.started and (self._role is None or not self._role.number):
            port = self.servers[0].sockets[0].getsockname()[1]
            self._print(_format_banner(self._make_base_url(port), self._settings))
            for warning in self._settings.warnings:
                log.warning("unsafe_settings", detail=warning)
                self._print(f"  WARNING  {warning}\n")

    def _end_alone(self) -> None:
        """The process that has started this one is gone, and with it what would end or replace it."""
        if self._role is not None:
            asyncio.get_running_loop().remove_reader(self._role.alive)
            self.handle_exit(signal.SIGTERM, None)

    def _make_protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    def _print(self, text: str) -> None:
        self._console.write(f"{text}\n".encode(getattr(sys.stdout, "encoding", None) or "utf-8", "backslashreplace"))

    def _make_base_url(self, port: int) -> str:
        """The URL with the real port, also when PORT=0 lets the system choose one."""
        host = "localhost" if self._settings.host in ("127.0.0.1", "0.0.0.0", "::", "::1") else self._settings.host  # noqa: S104
        return f"http://{host}:{port}"

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Unlike uvicorn's own, this does not raise the signal again at the end, which would give an error code."""
        loop = asyncio.get_running_loop()
        for number in SIGNALS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in SIGNALS:
                loop.remove_signal_handler(number)
                # Only closing is left to do, and a further signal would interrupt it.
                signal.signal(number, signal.SIG_IGN)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        is_first = self._draining is None
        turns = self._engine.running_count
        detail = describe_shutdown(turns, is_first=is_first)
        log.info("shutting_down", signal=signal.Signals(sig).name, turns=turns, detail=detail)
        if sig == signal.SIGINT:
            # Behind the ^C that the terminal shows.
            self._print(f"\n{detail[0].upper()}{detail[1:]}.")
        if self._draining is None:
            self._engine.start_draining()
            self._draining = asyncio.get_running_loop().create_task(self._drain())
        else:
            self._draining.cancel()
            self.should_exit = True
            _force_exit_after(FORCED_EXIT_S)

    async def _drain(self) -> None:
        await self._engine.drain()
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Readers get the terminal event of their turn before their connection is closed.
        await self._engine.close()
        await super().shutdown(sockets)


def _force_exit_after(wait_s: float) -> None:
    """End the process after that time, whatever it waits for. Threads that use a locked file cannot be stopped."""

    def end() -> None:
        log.error("shutdown_forced", waited_s=wait_s)
        flush_log()
        os._exit(1)

    timer = threading.Timer(wait_s, end)
    timer.daemon = True
    timer.start()


def describe_shutdown(turns: int, *, is_first: bool) -> str:
    """What a signal does, for the person who sent it.

    >>> describe_shutdown(2, is_first=True)
    'finishing 2 turns, once more ends at once'
    """
    counted = "1 turn" if turns == 1 else f"{turns} turns"
    if not turns:
        return "no turn is running, the server ends now"
    return f"finishing {counted}, once more ends at once" if is_first else f"ending at once, {counted} interrupted"


def run(settings: Settings, provider: Provider | None = None, role: ServerRole | None = None) -> None:
    """Serve until a signal arrives. `provider` replaces the one that the settings name.

    With a `role` it shares its address with other processes.

    Raises `ConfigError` for settings that do not fit together or an address that cannot be used, `StoreUnavailable` for
    a database that cannot be used.
    """
    _raise_open_file_limit()
    _call_allocator("mallopt", _M_ARENA_MAX, _ARENAS)
    log_format = choose_log_format(settings.log_format, settings.environment, sys.stderr)
    loop_factory = uvicorn.Config("", loop="auto", log_config=None).get_loop_factory()
    with ExitStack() as opened:
        opened.enter_context(open_log(settings.log_level, log_format))
        console = BackgroundWriter(1)
        opened.callback(console.close)
        sockets = open_sockets(settings.host, settings.port, is_shared=role is not None)
        for each in sockets:
            opened.callback(each.close)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_serve(settings, provider, sockets, console, role))


async def _serve(
    settings: Settings,
    provider: Provider | None,
    sockets: list[socket.socket],
    console: BackgroundWriter,
    role: ServerRole | None,
) -> None:
    _tune_garbage_collector()
    async with open_services(settings, Overrides(provider=provider)) as services, run_background_jobs(services):
        # A read-only file or a full disk stops the start, not the first turn.
        await services.store.ping()
        app = create_app(services)
        # What is loaded by now is never freed.
        gc.freeze()
        # Reading files and compiling rules took memory that nobody needs now.
        _call_allocator("malloc_trim", 0)
        config = uvicorn.Config(
            app,
            lifespan="on",
            access_log=False,
            log_config=None,
            server_header=False,
            backlog=BACKLOG,
            # TrustedProxiesMiddleware reads their headers; there are no WebSockets.
            proxy_headers=False,
            ws="none",
            http=make_protocol_class(head_timeout_s=settings.request_timeout_s, peer_timeout_s=settings.send_timeout_s),
            timeout_keep_alive=65,
            timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
        )
        await ZooServer(config, services, console, role).serve(sockets)


def _raise_open_file_limit() -> None:
    """Each connection is an open file, and the default limit of many systems is 1,024."""
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def _call_allocator(function: str, *arguments: int) -> None:
    """Call a function of glibc's allocator, where there is one: both are about memory only."""
    with suppress(AttributeError, OSError):
        getattr(ctypes.CDLL(None), function)(*arguments)


def _tune_garbage_collector() -> None:
    """Collect less often: turns make few reference cycles. And look at little at once, for everything waits meanwhile.

    Measured at 400 streams: the 99th percentile of the gaps between chunks is 0.30 s with the defaults, 0.14 s so and
    with what is loaded at the start frozen. Measured with 1,000 posts at once: the longest pause is 49 ms with 100,000
    new objects, 15 ms with 10,000, and all pauses together are as long.
    """
    gc.set_threshold(10_000, 500, 1000)


def _format_banner(base_url: str, settings: Settings) -> str:
    docs = [f"  API docs {base_url}/ui/"] if settings.has_api_docs else []
    command = make_curl_command(base_url, settings.default_animal)
    return "\n".join(
        ["", f"  Server   {base_url}/", *docs, "", "  Paste this into another terminal:", "", f"    {command}", ""]
    )
