"""Many streams at once against a server process: none is lost or starved. `make bench` measures the speed."""

from __future__ import annotations

import asyncio
import os
import selectors
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx

from benchmarks.load import CHUNK_MARK, COMPLETE_MARK, FIRST_MARK, ONE_STREAM, percentile, run_load
from benchmarks.servers import Server, run_paced_server
from tests.support.timing import is_within

STREAMS = 1000
PIECES = 30
PER_S = 10
BURST = 300
WAIT_S = 120


def test_a_thousand_streams_at_once_all_complete_and_health_is_not_starved() -> None:
    """Ten chunks a second each, on one process: every chunk of every stream arrives. `make bench` measures more."""
    with run_paced_server(PIECES, PER_S) as server:
        load = asyncio.run(run_load(server.port, STREAMS, timeout_s=180))

    assert load.completed == STREAMS
    assert {stream.chunks for stream in load.streams} == {PIECES}
    assert is_within(percentile(load.health_s, 50), 0.1)


def test_a_health_check_behind_a_burst_of_turns_is_answered_before_most_of_them_begin() -> None:
    """A count, not a time: how many of the turns that were asked for before have sent something by then."""
    with ExitStack() as opened, run_paced_server(PIECES, PER_S) as server:
        selector = opened.enter_context(selectors.DefaultSelector())
        health = f"http://127.0.0.1:{server.port}/health"
        httpx.get(health).raise_for_status()
        for _ in range(BURST):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(ONE_STREAM)
            selector.register(client, selectors.EVENT_READ)
        assert httpx.get(health, timeout=120).status_code == 200
        begun = len(selector.select(0))

    assert begun < BURST / 4


class Burst:
    """Messages that a stopped server finds all at once when it goes on, and what it has answered to each."""

    def __init__(self, server: Server, opened: ExitStack) -> None:
        self._selector = opened.enter_context(selectors.DefaultSelector())
        self.answers: dict[socket.socket, bytearray] = {}
        for _ in range(BURST):
            client = opened.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            client.sendall(ONE_STREAM)
            self._selector.register(client, selectors.EVENT_READ)
            self.answers[client] = bytearray()

    def read(self, wait_s: float = WAIT_S) -> bool:
        """Read what is there; False when nothing came in that time."""
        found = self._selector.select(wait_s)
        for key, _ in found:
            client: socket.socket = key.fileobj  # type: ignore[assignment]
            part = client.recv(65_536)
            self.answers[client] += part
            if not part:
                self._selector.unregister(client)
        return bool(found)

    def read_to_end(self) -> None:
        while self._selector.get_map():
            assert self.read()

    def count(self, mark: bytes) -> int:
        """How many answers have the bytes."""
        return sum(mark in answer for answer in self.answers.values())


@contextmanager
def send_burst(server: Server) -> Iterator[Burst]:
    with ExitStack() as opened:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            burst = Burst(server, opened)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        yield burst


def test_most_of_a_burst_are_heard_before_the_first_of_them_is_answered() -> None:
    """A count, not a time: how many streams have begun when the first chunk of any stream arrives.

    Not all: a connection that was accepted and not opened yet is no message that waits. Where turns run as soon as they
    are stored, a quarter of the streams have begun by then.
    """
    with run_paced_server(PIECES, PER_S) as server, send_burst(server) as burst:
        while not burst.count(CHUNK_MARK):
            assert burst.read()
        while burst.read(wait_s=0):
            if burst.count(FIRST_MARK) == BURST:
                break
        assert burst.count(FIRST_MARK) > BURST / 2

        burst.read_to_end()
        assert burst.count(COMPLETE_MARK) == BURST


def test_messages_beyond_those_that_may_wait_are_refused_before_most_others_are_answered() -> None:
    """The others lose nothing by it, and afterwards there is room again."""
    with run_paced_server(PIECES, PER_S, MAX_PENDING=50) as server:
        with send_burst(server) as burst:
            while burst.count(b"HTTP/1.1 503 ") < BURST / 2:
                assert burst.read()
            complete = burst.count(COMPLETE_MARK)
            burst.read_to_end()

            refused = [bytes(answer) for answer in burst.answers.values() if answer.startswith(b"HTTP/1.1 503 ")]
            assert complete == 0
            assert burst.count(COMPLETE_MARK) >= 50
            assert burst.count(COMPLETE_MARK) + len(refused) == BURST
            assert all(b'"code":"overloaded"' in answer and b"retry-after: " in answer.lower() for answer in refused)
        load = asyncio.run(run_load(server.port, 20, timeout_s=WAIT_S, is_health_watched=False))
        assert load.completed == 20
