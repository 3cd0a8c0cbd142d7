"""uvicorn's HTTP protocol with two timeouts that it lacks: for slow request heads, and for peers that vanished."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from openapi_server.http.disconnect import TRANSPORT_EXTENSION

# The kernel's send buffer for one connection. By default it grows to megabytes for a client that does not read.
SEND_BUFFER_BYTES = 65_536


class HttpProtocol(HttpToolsProtocol):
    """A connection that is aborted when a timeout passes; both are in seconds.

    `head_timeout_s`: from the start of the connection, or of a further request on it, to the end of the request's head.
    `peer_timeout_s`: how long sent bytes may stay unacknowledged by the peer's kernel (TCP_USER_TIMEOUT, RFC 5482), as
    when a phone loses its network.
    """

    def __init__(self, *args: Any, head_timeout_s: float, peer_timeout_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_timeout_s = head_timeout_s
        self._peer_timeout_s = peer_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._peer_timeout_s * 1000))
        self._start_head_timer()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {TRANSPORT_EXTENSION: self.transport}
        self.scope["extensions"] = extensions
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        self._cancel_head_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        super().connection_lost(exc)

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_timeout_s, self.transport.abort)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def make_protocol_class(*, head_timeout_s: float, peer_timeout_s: float) -> type[asyncio.Protocol]:
    """The value for `uvicorn.Config(http=...)`."""
    # uvicorn only calls it: a partial serves as well as a class.
    factory: Any = partial(HttpProtocol, head_timeout_s=head_timeout_s, peer_timeout_s=peer_timeout_s)
    protocol: type[asyncio.Protocol] = factory
    return protocol
