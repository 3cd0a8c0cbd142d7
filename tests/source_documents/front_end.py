"""A front end's own server, as in development or behind a proxy: its page, and `/chat...` handed on to ours."""

from __future__ import annotations

from contextlib import closing, suppress
from http.client import HTTPConnection
from typing import ClassVar

from tests.support.browser import PageHandler

ASKED = ("Content-Type", "Cookie", "Accept", "Last-Event-ID")
ANSWERED = ("Content-Type", "Set-Cookie")


class FrontEnd(PageHandler):
    """Hands on piece by piece, so that a stream stays one. A reader that leaves early is no error."""

    chat_port: ClassVar[int]

    def do_GET(self) -> None:  # noqa: N802  # the library's name
        self._hand_on() if self.path.startswith("/chat") else super().do_GET()

    def do_POST(self) -> None:  # noqa: N802  # likewise
        self._hand_on() if self.path.startswith("/chat") else super().do_POST()

    def _hand_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        headers = {name: self.headers[name] for name in ASKED if name in self.headers}
        with closing(HTTPConnection("127.0.0.1", self.chat_port)) as connection, suppress(ConnectionError):
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            self.send_response(answer.status)
            for name in ANSWERED:
                if name in answer.headers:
                    self.send_header(name, answer.headers[name])
            self.end_headers()
            while piece := answer.read1(65_536):
                self.wfile.write(piece)


def front_end_of(chat_port: int) -> type[FrontEnd]:
    return type("FrontEndOfOne", (FrontEnd,), {"chat_port": chat_port})
