"""Requests as bytes on a connection: what is no request of HTTP/1.1 gets an answer like all others."""

from __future__ import annotations

import json
import socket
from contextlib import closing

import pytest

from tests.support.processes import ServerProcess

BODY = json.dumps({"message": "Hello!", "animalId": "lion_001"}).encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
HOST = b"Host: zoo.example\r\n"
JSON = b"Content-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(BODY)


def get(target: bytes, *headers: bytes, version: bytes = b"HTTP/1.1") -> bytes:
    return b"GET " + target + b" " + version + b"\r\n" + b"".join(headers) + b"\r\n"


def post(body: bytes, *headers: bytes) -> bytes:
    return b"POST /convo_turn HTTP/1.1\r\n" + HOST + JSON + b"".join(headers) + b"\r\n" + body


REFUSED = {
    "two hosts": get(b"/health", HOST, b"Host: b\r\n"),
    "one host twice": get(b"/health", HOST, HOST),
    "no host": get(b"/health"),
    "a host with a path": get(b"/health", b"Host: a/b\r\n"),
    "an empty host": get(b"/health", b"Host:\r\n"),
    "chunked twice": post(CHUNKED, b"Transfer-Encoding: chunked, chunked\r\n"),
    "two codings": post(CHUNKED, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
    "identity": post(BODY, b"Transfer-Encoding: identity\r\n", LENGTH),
    "gzip": post(BODY, b"Transfer-Encoding: gzip\r\n"),
    "gzip and chunked": post(CHUNKED, b"Transfer-Encoding: gzip, chunked\r\n"),
    "length and chunked": post(CHUNKED, LENGTH, b"Transfer-Encoding: chunked\r\n"),
    "two lengths": post(BODY, LENGTH, LENGTH),
    "a bad chunk": post(b"zz\r\nx\r\n", b"Transfer-Encoding: chunked\r\n"),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
    "no version": b"GET /health\r\n\r\n",
    "a small letter": b"get /health HTTP/1.1\r\n" + HOST + b"\r\n",
    "no slash": get(b"health", HOST),
    "a raw letter in the path": get("/animal/löwe".encode(), HOST),
    "a folded header": get(b"/health", HOST, b"X-A: b\r\n c\r\n"),
    "a blank before the colon": get(b"/health", b"Host : a\r\n"),
    "line feeds": b"GET /health HTTP/1.1\nHost: a\n\n",
    "CONNECT": b"CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n",
}

TAKEN = {
    "chunked": (post(CHUNKED, b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"), 200),
    "HTTP/1.0 without a host": (get(b"/health", version=b"HTTP/1.0"), 200),
    "an absolute target": (get(b"http://zoo.example/health?", HOST, b"Connection: close\r\n"), 200),
    "an absolute target without a path": (get(b"http://zoo.example", HOST, b"Connection: close\r\n"), 200),
    "OPTIONS *": (b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n", 404),
    "a WebSocket": (get(b"/health", HOST, b"Upgrade: websocket\r\nConnection: close, Upgrade\r\n"), 200),
}


def exchange(server: ServerProcess, *parts: bytes) -> tuple[int, dict[str, str], bytes]:
    """The status, the headers and the body that came before the server closed the connection."""
    received = b""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
        for part in parts:
            connection.sendall(part)
        while data := connection.recv(65_536):
            received += data
    head, _, body = received.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split(" ")[1]), headers, body


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_request_gets_a_problem_and_the_usual_headers(server: ServerProcess, name: str) -> None:
    """And the connection ends: nobody knows where the next request would begin."""
    status, headers, body = exchange(server, REFUSED[name])

    assert (status, headers["content-type"], headers["connection"]) == (400, "application/problem+json", "close")
    problem = json.loads(body)
    assert (problem["status"], problem["code"]) == (400, "invalid_input")
    assert headers["access-control-allow-origin"] == "http://localhost:3000"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "private, no-store"
    assert headers["x-request-id"]


@pytest.mark.parametrize("name", TAKEN)
def test_odd_requests_that_are_valid_are_answered(server: ServerProcess, name: str) -> None:
    """RFC 9112: chunked bodies, absolute targets, HTTP/1.0."""
    request, status = TAKEN[name]

    assert exchange(server, request)[0] == status


def test_the_host_of_an_absolute_target_counts(server: ServerProcess) -> None:
    """RFC 9112, section 3.2.2."""
    accept = b"Accept: application/json\r\nConnection: close\r\n"
    _, _, body = exchange(server, get(b"http://zoo.example/", b"Host: other.example\r\n", accept))

    assert json.loads(body)["docs"] == "http://zoo.example/ui/"


def test_a_head_without_an_end_is_refused(server: ServerProcess) -> None:
    """Long before it fills the memory."""
    head = b"GET /health HTTP/1.1\r\n" + HOST + b"X-A: " + b"a" * 300_000
    try:
        status, _, _ = exchange(server, head)
    except ConnectionError:
        # The server closed while this was still being sent.
        return

    assert status == 400


def test_garbage_behind_a_request_never_becomes_part_of_its_answer(server: ServerProcess) -> None:
    """The stream ends where it was."""
    request = b"POST /convo_turn_stream HTTP/1.1\r\n" + HOST + JSON + LENGTH + b"\r\n" + BODY
    received = b""
    with closing(socket.create_connection(("127.0.0.1", server.port), timeout=20)) as connection:
        connection.sendall(request)
        received += connection.recv(65_536)
        connection.sendall(b"\x00garbage\r\n\r\n")
        while data := connection.recv(65_536):
            received += data

    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.count(b"HTTP/1.1") == 1
    assert b"problem+json" not in received
