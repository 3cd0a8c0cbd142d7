"""An HTTP server with canned answers, which keeps the requests: for answers that no correct server gives."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STREAM = "text/event-stream; charset=utf-8"


@dataclass(frozen=True, slots=True)
class CannedAnswer:
    """One answer. With `breaks_off` the connection is closed before the end of the body."""

    body: str = ""
    status: int = 200
    media_type: str = STREAM
    headers: dict[str, str] = field(default_factory=dict)
    breaks_off: bool = False


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request; header names are lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: object


@dataclass(slots=True)
class CannedServer:
    """The server at `url`; `received` holds the requests so far."""

    url: str
    received: list[ReceivedRequest]


def make_json_answer(body: object, status: int = 200, **headers: str) -> CannedAnswer:
    return CannedAnswer(json.dumps(body), status, "application/json", headers)


class CannedHTTPServer(ThreadingHTTPServer):
    """Takes as many connections at once as a whole run of the checks opens."""

    request_queue_size = 128


@contextmanager
def serve_answers(*answers: CannedAnswer) -> Iterator[CannedServer]:
    """Sends the answers in order, one for each request, and repeats the last one."""
    received: list[ReceivedRequest] = []
    server = CannedHTTPServer(("127.0.0.1", 0), _make_handler(answers, received))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield CannedServer(f"http://127.0.0.1:{server.server_port}", received)
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _parse_body(raw: bytes) -> object:
    """The JSON value; the text itself where it is no JSON."""
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode()


def _make_handler(answers: Sequence[CannedAnswer], received: list[ReceivedRequest]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = answers[min(len(received), len(answers) - 1)]
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received.append(ReceivedRequest(self.command, self.path, headers, _parse_body(raw)))
            body = answer.body.encode()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.media_type)
            self.send_header("Content-Length", str(len(body) + answer.breaks_off))
            for name, value in answer.headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815  # the name that http.server looks for

        def log_message(self, format: str, *args: object) -> None:
            pass

    return Handler
