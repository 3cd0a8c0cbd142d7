"""The port: binds it, says why it cannot be used, and accepts connections, many in each round of the event loop.

uvloop accepts one in each round, and a round takes as long as all that is ready in it. Behind a few hundred connections
that arrived together, the one of a health check waited for seconds before its first byte was read.

To accept a connection costs little, to open it several times as much. So all are accepted soon, and opened in their
order, a few in each round. Those of monitoring, which their first bytes tell, are opened at once.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from functools import partial

import structlog

from openapi_server.config import ConfigError
from openapi_server.round_queue import RoundQueue

# Connections that wait to be accepted.
BACKLOG = 2048
ACCEPTED_PER_ROUND = 512
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


def open_sockets(host: str, port: int, *, is_shared: bool = False) -> list[socket.socket]:
    """Sockets bound to every address of the host; `::` takes IPv4, too. Raises `ConfigError` with what to do.

    `is_shared`: other processes of the server bind them, too, and the kernel spreads connections among them.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ConfigError(
            f"HOST: {host!r} is no address and no name of this machine; 127.0.0.1 is this machine "
            "only, 0.0.0.0 every network interface"
        ) from None
    sockets: list[socket.socket] = []
    failure: OSError | None = None
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            # All addresses of a name get the same port.
            chosen = sockets[0].getsockname()[1] if sockets else port
            sockets.append(_bind(family, (address[0], chosen, *address[2:]), is_shared=is_shared))
        except OSError as error:
            failure = error
            # A name such as localhost may have an IPv6 address on a machine without IPv6.
            if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                break
    if failure is not None and (not sockets or failure.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)):
        for each in sockets:
            each.close()
        raise ConfigError(explain_bind_failure(failure, host, port))
    return sockets


def _bind(family: int, address: tuple[object, ...], *, is_shared: bool) -> socket.socket:
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if is_shared:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            # IPv4 too, as `::` means every interface; a single IPv6 address has no IPv4 clients anyway.
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address[0] == "::" else 1)
        opened.bind(address)
        opened.setblocking(False)
    except OSError:
        opened.close()
        raise
    return opened


def explain_bind_failure(error: OSError, host: str, port: int) -> str:
    """Why the server cannot listen there, and what to do: a sentence that begins with the setting."""
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"PORT: address already in use: another program listens on port {port} of {host}; stop it, or choose "
                "another port (`zoochat doctor` names the program)"
            )
        case errno.EACCES | errno.EPERM:
            return f"PORT: this user may not listen on port {port}; choose one above 1023, such as 8080"
        case errno.EADDRNOTAVAIL | errno.EAFNOSUPPORT:
            return f"HOST: {host} is not an address of this machine; 0.0.0.0 is every network interface"
        case _:
            return f"HOST: the server cannot listen on port {port} of {host}: {os.strerror(error.errno or 0)}"
