"""uvicorn's HTTP protocol with what it lacks: timeouts for slow request heads and for peers that vanished, a limit for
the size of a head, answers of ours to what is no request, an order in which requests begin, and one write for a head
and what follows it at once."""

from __future__ import annotations

import asyncio
import socket
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from openapi_server.http.concurrency_limit import is_unlimited
from openapi_server.http.request_limits import INVALID_REQUEST_EXTENSION
from openapi_server.http.send_timeout import TRANSPORT_EXTENSION
from openapi_server.round_queue import RoundQueue

# The kernel's send buffer for one connection. By default it grows to megabytes for a client that does not read.
SEND_BUFFER_BYTES = 65_536
# A head that grows beyond it is no longer read. `request_limits` refuses smaller ones with a status of their own.
MAX_HEAD_BYTES = 131_072
# How many requests begin in a round of the event loop, and how long that may take, in seconds of the processor. One
# takes up to a millisecond until it waits for something.
STARTED_PER_ROUND, STARTED_S_PER_ROUND = 32, 0.0015


class HttpProtocol(HttpToolsProtocol):
    """A connection that is aborted when a timeout passes; both are in seconds.

    `head_timeout_s`: from the start of the connection, or of a further request on it, to the end of the request's head.
    `peer_timeout_s`: how long sent bytes may stay unacknowledged by the peer's kernel (TCP_USER_TIMEOUT, RFC 5482), as
    when a phone loses its network. `starts`: where requests of all connections wait for their beginning.
    """

    def __init__(
        self, *args: Any, head_timeout_s: float, peer_timeout_s: float, starts: RoundQueue, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._head_timeout_s = head_timeout_s
        self._peer_timeout_s = peer_timeout_s
        self._starts = starts
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._is_refused = False
        self._running: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        peer = transport.get_extra_info("socket")
        if peer is not None and peer.family in (socket.AF_INET, socket.AF_INET6):
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
            if hasattr(socket, "TCP_USER_TIMEOUT"):
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._peer_timeout_s * 1000))
        self._start_head_timer()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        super().data_received(data)
        if self._head_timer is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.send_400_response("The head is too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        extensions: dict[str, Any] = {TRANSPORT_EXTENSION: self.transport}
        self.scope["extensions"] = extensions
        self._start_head_timer()

    def on_headers_complete(self) -> None:
        self._cancel_head_timer()
        self._use_origin_form()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Let the application answer what the parser refused, so that the answer is like all others."""
        self._is_refused = True
        if self.transport.is_closing():
            return
        running = self.cycle
        if running is not None and not running.response_complete:
            if running.response_started or not running.more_body or self.pipeline:
                # More bytes would become part of the answer to a request that was valid.
                self.transport.close()
                return
            # The rest of its body cannot be read.
            running.disconnected = True
            running.message_event.set()
        self.on_message_begin()
        self._cancel_head_timer()
        scope: Any = self.scope
        scope.update(method="-", path="/", raw_path=b"/", query_string=b"")
        scope["extensions"][INVALID_REQUEST_EXTENSION] = True
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=False,
            on_response=self.on_response_complete,
        )
        self._start_asgi_task(self.cycle, self.app)

    def _use_origin_form(self) -> None:
        """Take the host of an absolute request target, which counts more than `Host` (RFC 9112, section 3.2.2)."""
        scheme, separator, rest = self.url.partition(b"://")
        if not separator or scheme.lower() not in (b"http", b"https"):
            return
        path, mark, query = rest.partition(b"?")
        host, _, path = path.partition(b"/")
        self.url = b"/" + path + mark + query
        hosts = [index for index, (name, _) in enumerate(self.headers) if name == b"host"]
        if len(hosts) == 1:
            self.headers[hosts[0]] = (b"host", host)

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_head_timer()
        # uvicorn knows only the request that came last: an earlier one would go on, and write to a closed connection.
        self.pipeline.clear()
        if self._running is not None and not self._running.response_complete:
            self._running.disconnected = True
            self._running.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        transport: Any = _ResponseTransport(cycle, self.loop)
        cycle.transport = transport
        start = partial(super()._start_asgi_task, cycle, app)
        if is_unlimited(cycle.scope["path"]):
            start()
        else:
            self._starts.add(start)

    def _start_head_timer(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._head_timeout_s, self.transport.abort)

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
        self._head_bytes = 0


class _ResponseTransport:
    """The connection, as one response writes to it: its head leaves with the first part of the body.

    A write takes longer than all that is done to make a small answer. A head whose body comes later than in the same
    round of the event loop leaves alone.
    """

    def __init__(self, cycle: RequestResponseCycle, loop: asyncio.AbstractEventLoop) -> None:
        self._cycle = cycle
        self._loop = loop
        self._transport = cycle.transport
        self._head = b""
        self._flush_handle: asyncio.Handle | None = None

    def write(self, data: bytes) -> None:
        if not self._cycle.response_started:
            # "100 Continue", for which the client waits.
            self._transport.write(data)
        elif self._flush_handle is None:
            self._head = data
            self._flush_handle = self._loop.call_soon(self._flush)
        else:
            self._flush(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self, *more: bytes) -> None:
        """Write the head, and from now on directly to the connection."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
        self._cycle.transport = self._transport
        if not self._transport.is_closing():
            self._transport.writelines([self._head, *more])


def make_protocol_class(*, head_timeout_s: float, peer_timeout_s: float) -> type[asyncio.Protocol]:
    """The value for `uvicorn.Config(http=...)`."""
    # uvicorn only calls it: a partial serves as well as a class.
    factory: Any = partial(
        HttpProtocol,
        head_timeout_s=head_timeout_s,
        peer_timeout_s=peer_timeout_s,
        starts=RoundQueue(STARTED_PER_ROUND, STARTED_S_PER_ROUND),
    )
    protocol: type[asyncio.Protocol] = factory
    return protocol
