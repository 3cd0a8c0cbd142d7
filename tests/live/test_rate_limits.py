"""Rate limits of a real server process: what ends a stream makes room for the next, and logins that are given up."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable

import httpx
import pytest

from tests.conftest import StartsServer
from tests.support.processes import FreshServerProcess, ServerProcess
from tests.support.timing import wait_until

QUESTION = {"message": "Tell me about yourself", "animalId": "lion_001"}


def make_request(path: str, body: object) -> bytes:
    """A POST as it is sent."""
    content = json.dumps(body)
    head = f"POST {path} HTTP/1.1\r\nHost: zoo\r\nContent-Type: application/json\r\nContent-Length: {len(content)}"
    return f"{head}\r\n\r\n{content}".encode()


def close(plug: socket.socket) -> None:
    plug.close()


def reset(plug: socket.socket) -> None:
    plug.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plug.close()


def open_stream(server: ServerProcess, address: str) -> tuple[socket.socket, bytes]:
    """A connection with a stream that has begun, or was refused, and what came of it."""
    plug = socket.create_connection(("127.0.0.1", server.port), timeout=30, source_address=(address, 0))
    plug.sendall(make_request("/convo_turn_stream", QUESTION))
    return plug, plug.recv(2**16)


@pytest.mark.parametrize("leave", [close, reset])
def test_a_reader_that_leaves_makes_room_for_another_stream(
    start_server: StartsServer, leave: Callable[[socket.socket], None]
) -> None:
    """FIN or RST: when its turn is given up, too. Meanwhile the address gets 429, and another one is served."""
    server = start_server(RATE_LIMIT_STREAMS=3, OFFLINE_WORDS_PER_S=2, ORPHAN_GRACE=0)
    open_streams = [open_stream(server, "127.0.0.1") for _ in range(3)]
    assert all(head.startswith(b"HTTP/1.1 200 ") for _, head in open_streams)
    refused, head = open_stream(server, "127.0.0.1")
    assert head.startswith(b"HTTP/1.1 429 ")
    assert b'ratelimit: "streams";r=0;t=5\r\n' in head.lower()
    refused.close()
    other, head = open_stream(server, "127.0.0.2")
    assert head.startswith(b"HTTP/1.1 200 ")
    other.close()
    for plug, _ in open_streams:
        leave(plug)

    def is_let_in() -> bool:
        plug, head = open_stream(server, "127.0.0.1")
        plug.close()
        return head.startswith(b"HTTP/1.1 200 ")

    wait_until(is_let_in, within_s=5)


def test_production_limits_without_any_setting(start_server: StartsServer) -> None:
    """The defaults of development limit logins only."""
    server = start_server(
        ENVIRONMENT="production",
        SIGNING_KEY="m3V0q9Zk2Tq7yWc4Rb8LxN1fJ6sHdGpAeUiO5tYw",
        CORS_ORIGINS="https://zoo.example",
    )
    answer = httpx.post(f"{server.url}/convo_turn", json=QUESTION)
    assert answer.headers["ratelimit-policy"] == (
        '"streams";q=40;qu="concurrent-requests", "streams-address";q=200;qu="concurrent-requests", '
        '"turns";q=120;w=60, "turns-address";q=600;w=60'
    )


def test_a_login_whose_client_has_left_is_not_checked(start_server: StartsServer) -> None:
    """Real password hashes: what was given up before its turn costs nothing, and the next login does not wait."""
    server = start_server(FreshServerProcess, RATE_LIMIT_LOGINS=0)
    for number in range(40):
        body = {"username": f"user{number}", "password": "wrong"}
        with socket.create_connection(("127.0.0.1", server.port), timeout=30, source_address=("127.0.0.3", 0)) as plug:
            plug.sendall(make_request("/auth/login", body))
    answer = httpx.post(f"{server.url}/auth/login", json={"username": "user1", "password": "user1-demo"}, timeout=30)
    assert answer.status_code == 200
    assert server.stop() == 0
    assert server.log.count("login_refused") <= 10
