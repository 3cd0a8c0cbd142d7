"""Accepts connections, many in each round of the event loop.

uvloop accepts one in each round, and a round takes as long as all that is ready in it. Behind a few hundred connections
that arrived together, the one of a health check waited for seconds before its first byte was read.

To accept a connection costs little, to open it several times as much. So all are accepted soon, and opened in their
order, a few in each round. Those of monitoring, which their first bytes tell, are opened at once.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable
from functools import partial

import structlog

from openapi_server.round_queue import RoundQueue

ACCEPTED_PER_ROUND = 128
# How many connections are opened in a round, and how long that may take, in seconds of the processor.
OPENED_PER_ROUND, OPENED_S_PER_ROUND = 64, 0.0015
# Enough of a request's first line to tell its path from others.
PEEKED_BYTES = 64
# How long no further connection is accepted when the process can open no more files, in seconds.
PAUSE_S = 1.0
_NO_RESOURCES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = structlog.get_logger(__name__)


class Listener:
    """Gives each connection of a listening socket a protocol. Like an `asyncio.Server`, it is open from the start.

    `is_urgent` tells by the first bytes of a connection whether it is opened at once.
    """

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.Protocol],
        is_urgent: Callable[[bytes], bool] = lambda first: False,
    ) -> None:
        self.sockets = (listening,)
        self._listening = listening
        self._make_protocol = make_protocol
        self._is_urgent = is_urgent
        self._loop = asyncio.get_running_loop()
        self._accepted = RoundQueue(OPENED_PER_ROUND, OPENED_S_PER_ROUND)
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._resume()

    def close(self) -> None:
        """Accept no more connections. Those that are open stay so."""
        self._stop_accepting()
        if self._pause is not None:
            self._pause.cancel()
        self._accepted.call_all()

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
            connection.setblocking(False)
            if self._is_urgent(_peek(connection)):
                self._open(connection)
            else:
                self._accepted.add(partial(self._open, connection))

    def _open(self, connection: socket.socket) -> None:
        opening = self._loop.create_task(self._loop.connect_accepted_socket(self._make_protocol, connection))
        self._opening.add(opening)
        opening.add_done_callback(partial(self._note_opened, connection))

    def _note_opened(self, connection: socket.socket, opening: asyncio.Task[object]) -> None:
        self._opening.discard(opening)
        error = None if opening.cancelled() else opening.exception()
        if error is not None:
            connection.close()
            log.info("connection_lost_at_once", error=type(error).__name__)


def _peek(connection: socket.socket) -> bytes:
    """The first bytes that have arrived, which stay to be read."""
    try:
        return connection.recv(PEEKED_BYTES, socket.MSG_PEEK)
    except OSError:
        # Nothing yet, or the connection is lost: whoever opens it finds out.
        return b""
