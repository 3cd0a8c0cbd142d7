"""Accepts connections, many in each round of the event loop.

uvloop accepts one in each round, and a round takes as long as all that is ready in it. Behind a few hundred connections
that arrived together, the one of a health check waited for seconds before its first byte was read.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial

import structlog

ACCEPTED_PER_ROUND = 16
# How long no further connection is accepted when the process can open no more files, in seconds.
PAUSE_S = 1.0
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger(__name__)


class Listener:
    """Gives each connection of a listening socket a protocol. Like an `asyncio.Server`, it is open from the start."""

    def __init__(self, listening: socket.socket, make_protocol: Callable[[], asyncio.Protocol]) -> None:
        self.sockets = (listening,)
        self._listening = listening
        self._make_protocol = make_protocol
        self._loop = asyncio.get_running_loop()
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Accept no more connections. Those that are open stay so."""
        self._stop_accepting()
        if self._pause is not None:
            self._pause.cancel()

    async def wait_closed(self) -> None:
        """Until every connection that was accepted has its protocol."""
        if self._opening:
            await asyncio.wait(self._opening)

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept_some)

    def _stop_accepting(self) -> None:
        self._loop.remove_reader(self._listening)

    def _accept_some(self) -> None:
        for _ in range(ACCEPTED_PER_ROUND):
            try:
                connection, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                # Nobody waits any more, or who waited has left.
                return
            except OSError as error:
                if error.errno not in _NO_RESOURCES:
                    raise
                log.error("connections_not_accepted", reason=error.strerror, again_s=PAUSE_S)
                self._stop_accepting()
                self._pause = self._loop.call_later(PAUSE_S, self._resume)
                return
            self._open(connection)

    def _open(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        opening = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._opening.add(opening)
        opening.add_done_callback(partial(self._note_opened, connection))

    def _note_opened(self, connection: socket.socket, opening: asyncio.Task[object]) -> None:
        self._opening.discard(opening)
        error = None if opening.cancelled() else opening.exception()
        if error is not None:
            connection.close()
            log.info("connection_lost_at_once", error=type(error).__name__)
