"""Several server processes on one machine, which share an address: `zoochat serve --workers N`.

The first process of all only starts the others, passes signals on to them, and starts another one where one has died.
It is forked when the server is imported and nothing runs yet, so the others start quickly and share what is loaded.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType

from openapi_server.config import ConfigError, Settings
from openapi_server.http.listener import open_sockets
from openapi_server.server import SIGNALS, ServerRole

# Between the end of a process and the start of another in its place, in seconds.
RESTART_PAUSE_S = 1.0

Serves = Callable[[Settings, ServerRole], None]


def check_workers(settings: Settings, count: int) -> None:
    """Raises `ConfigError` when the settings are not for several processes."""
    if count > 1 and settings.event_log == "memory":
        raise ConfigError(
            f"EVENT_LOG: must be redis for {count} processes (--workers): with the events of a turn in the memory of "
            "one of them, readers who come to another one would be refused. See docs/scaling.md"
        )


def run_workers(settings: Settings, count: int, serve: Serves) -> int:
    """Serve with that many processes until a signal arrives; the exit code. `serve` runs one of them to its end.

    The first is up before the others start: it makes the database. Raises `ConfigError` for an address that cannot be
    used.
    """
    check_workers(settings, count)
    # Without sharing, to learn whether another program listens there; the processes share it among themselves.
    reserved = open_sockets(settings.host, settings.port)
    port = reserved[0].getsockname()[1]
    for each in reserved:
        each.close()
    return _Supervisor(settings.model_copy(update={"port": port}), count, serve).run()


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int


class _Supervisor:
    def __init__(self, settings: Settings, count: int, serve: Serves) -> None:
        self._settings = settings
        self._count = count
        self._serve = serve
        self._workers: dict[int, _Worker] = {}
        self._is_ending = False
        # Nobody writes to it: the processes read its end when this one has died.
        self._alive, self._keeps_alive = os.pipe()
        # What is loaded by now is shared by all processes for as long as nobody writes to it.
        gc.freeze()

    def run(self) -> int:
        # Whoever has started this one may ignore the ends of children, and that is inherited.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for signal_number in SIGNALS:
            signal.signal(signal_number, self._pass_on)
        if self._start(0, waits=True):
            for number in range(1, self._count):
                if not self._is_ending:
                    self._start(number)
        else:
            self._is_ending = True
        worst = 0
        while self._workers:
            pid, status = os.wait()
            code = os.waitstatus_to_exitcode(status)
            worker = self._workers.pop(pid, None)
            if self._is_ending or worker is None:
                worst = worst or code
                continue
            sys.stderr.write(f"Process {pid} of the server has ended (exit code {code}); another takes its place.\n")
            time.sleep(RESTART_PAUSE_S)
            if not self._is_ending:
                self._start(worker.number)
        return worst

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        """A second signal is passed on, too: then they end at once."""
        self._is_ending = True
        for pid in list(self._workers):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def _start(self, number: int, *, waits: bool = False) -> bool:
        """Fork the process. With `waits`: whether it serves, as soon as that is known."""
        ready, tells_ready = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ready)
            os.close(self._keeps_alive)
            os._exit(self._run_worker(ServerRole(number, tells_ready, self._alive)))
        os.close(tells_ready)
        self._workers[pid] = _Worker(number, pid)
        if self._is_ending:
            self._pass_on(signal.SIGTERM, None)
        is_up = bool(os.read(ready, 1)) if waits else True
        os.close(ready)
        return is_up

    def _run_worker(self, role: ServerRole) -> int:
        """The exit code."""
        # Ctrl-C at a terminal reaches its whole group: the first process passes it on once.
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
        signal.signal(signal.SIGINT, lambda number, frame: sys.exit(0))
        code = 1
        try:
            self._serve(self._make_settings(role.number), role)
            code = 0
        except SystemExit as ending:
            code = ending.code if isinstance(ending.code, int) else 0
        except BaseException:
            sys.excepthook(*sys.exc_info())
        sys.stdout.flush()
        return code

    def _make_settings(self, number: int) -> Settings:
        """Each process serves its metrics at a port of its own, one above the other."""
        port = self._settings.metrics_port
        return self._settings.model_copy(update={"metrics_port": port and port + number})
