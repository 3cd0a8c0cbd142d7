"""The stand-in's process: its banner, its log and its end."""

from __future__ import annotations

import logging
import signal
import socket
import sys

import click
import uvicorn

from openapi_server.devtools.mock.app import create_mock
from openapi_server.devtools.mock.turns import MockTurns
from openapi_server.devtools.terminal import replace_unencodable

BANNER_WIDTH = 78
SHUTDOWN_GRACE_S = 1


class MockServer(uvicorn.Server):
    """uvicorn that says where it listens, and whose open streams end when it does."""

    def __init__(self, config: uvicorn.Config, turns: MockTurns) -> None:
        super().__init__(config)
        self._turns = turns

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            # The true port, also where --port 0 let the system choose.
            port = self.servers[0].sockets[0].getsockname()[1]
            # Named, or click would write UTF-8 also where the terminal has none.
            click.echo(_format_banner(f"http://{self.config.host}:{port}"), file=sys.stdout)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._turns.close()
        await super().shutdown(sockets)


def serve_mock(host: str, port: int, delay_s: float) -> None:
    """Serve until Ctrl-C or SIGTERM, which is an orderly end with exit code 0."""
    replace_unencodable(sys.stdout, sys.stderr)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s - %(message)s", stream=sys.stderr)
    for name in ("uvicorn", "asyncio"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for number in (signal.SIGINT, signal.SIGTERM):
        # uvicorn raises the signal again once it has shut down.
        signal.signal(number, lambda number, frame: sys.exit(0))
    turns = MockTurns(delay_s)
    config = uvicorn.Config(
        create_mock(turns),
        host=host,
        port=port,
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_GRACE_S,
    )
    MockServer(config, turns).run()


def _format_banner(url: str) -> str:
    line = "═" * BANNER_WIDTH
    title = "MOCK CHATBOT SERVER".center(BANNER_WIDTH)
    return f"╔{line}╗\n║{title}║\n╚{line}╝\n\nServer running at: {url}\n"
