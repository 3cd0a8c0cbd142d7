"""How many connections are accepted in a round of the event loop, and what happens when none can be."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest
import uvloop

from openapi_server.http import listener
from openapi_server.http.listener import OPENED_PER_ROUND, Listener

LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
BOUND_S = 60
RunsOnLoop = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=LOOPS)
def run_on_loop(request: pytest.FixtureRequest) -> RunsOnLoop:
    def run(work: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(asyncio.wait_for(work, BOUND_S))

    return run


@contextmanager
def open_clients(count: int) -> Iterator[tuple[socket.socket, list[socket.socket]]]:
    """A listening socket, and so many clients that wait to be accepted."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        listening.listen(count)
        address = listening.getsockname()
        yield listening, [opened.enter_context(socket.create_connection(address)) for _ in range(count)]


class Guests:
    """The connections of a listener. Each is told hello and closed; `all_left` is set when so many have left."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.greeted = 0
        self.left = 0
        self.all_left = asyncio.Event()

    def make_protocol(self) -> Greeter:
        return Greeter(self)

    def note_left(self) -> None:
        self.left += 1
        if self.left == self._count:
            self.all_left.set()


class Greeter(asyncio.Protocol):
    def __init__(self, guests: Guests) -> None:
        self._guests = guests

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._guests.greeted += 1
        transport.write(b"hello")
        transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._guests.note_left()


def test_connections_that_wait_together_are_accepted_in_a_few_rounds(run_on_loop: RunsOnLoop) -> None:
    """A round takes as long as all that is ready in it: the last of 200 must not wait for 200, nor all be in one."""
    count = 3 * OPENED_PER_ROUND

    async def accept_all(listening: socket.socket) -> None:
        guests = Guests(count)
        listener = Listener(listening, guests.make_protocol)
        rounds, most = 0, 0
        while guests.greeted < count:
            before = guests.greeted
            await asyncio.sleep(0)
            rounds, most = rounds + 1, max(most, guests.greeted - before)
        # Opening a connection that was accepted takes some rounds, too; fewer are opened in one where they take long.
        assert rounds <= count
        assert most <= OPENED_PER_ROUND
        await guests.all_left.wait()
        listener.close()
        await listener.wait_closed()

    with open_clients(count) as (listening, clients):
        run_on_loop(accept_all(listening))
        assert {client.recv(8) for client in clients} == {b"hello"}


def test_an_urgent_connection_is_opened_before_those_that_came_before(run_on_loop: RunsOnLoop) -> None:
    """Its first bytes tell. Those of which nothing has arrived wait in their order."""
    count = 3 * OPENED_PER_ROUND
    opened: list[bytes] = []

    class Noting(Greeter):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            self._transport = transport

        def data_received(self, data: bytes) -> None:
            opened.append(data)
            self._transport.close()

    async def accept_all(listening: socket.socket) -> None:
        guests = Guests(count)
        listener = Listener(listening, lambda: Noting(guests), lambda first: first == b"urgent")
        await guests.all_left.wait()
        listener.close()
        await listener.wait_closed()

    with open_clients(count) as (listening, clients):
        for client in clients[:-1]:
            client.sendall(b"usual")
        clients[-1].sendall(b"urgent")
        run_on_loop(accept_all(listening))
    assert opened.index(b"urgent") <= OPENED_PER_ROUND


def test_a_connection_that_was_accepted_is_opened_also_when_the_listener_closes(run_on_loop: RunsOnLoop) -> None:
    """Its request is answered that it may come back, and not lost."""

    count = 2 * OPENED_PER_ROUND

    async def close_soon(listening: socket.socket) -> None:
        guests = Guests(count)
        listener = Listener(listening, guests.make_protocol)
        # All are accepted in one round, and opened in several.
        listener._accept_some()
        listener.close()
        assert not guests.greeted
        await listener.wait_closed()
        await guests.all_left.wait()

    with open_clients(count) as (listening, clients):
        run_on_loop(close_soon(listening))
        assert {client.recv(8) for client in clients} == {b"hello"}


def test_a_closed_listener_accepts_nobody(run_on_loop: RunsOnLoop) -> None:
    async def close_at_once(listening: socket.socket) -> None:
        guests = Guests(3)
        Listener(listening, guests.make_protocol).close()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not guests.greeted

    with open_clients(3) as (listening, _):
        run_on_loop(close_at_once(listening))


class FullSocket(socket.socket):
    """A listening socket of a process that may open no more files the first time it tries."""

    attempts = 0

    def accept(self) -> tuple[socket.socket, Any]:
        self.attempts += 1
        if self.attempts == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_without_a_free_file_it_waits_and_tries_again(run_on_loop: RunsOnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections that wait are accepted after the pause, and not asked for in each round before."""
    monkeypatch.setattr(listener, "PAUSE_S", 0.05)

    async def accept_later(listening: FullSocket) -> None:
        guests = Guests(2)
        listener = Listener(listening, guests.make_protocol)
        await guests.all_left.wait()
        listener.close()
        # One that failed, one for each connection, and one that finds no further one.
        assert listening.attempts <= 1 + 2 + 2

    with FullSocket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.setblocking(False)
        listening.listen(2)
        address = listening.getsockname()
        with socket.create_connection(address), socket.create_connection(address):
            run_on_loop(accept_later(listening))
