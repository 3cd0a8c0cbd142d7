"""Ask for `/health` from a process of its own: a busy load generator must not measure its own waiting."""

from __future__ import annotations

import http.client
import multiprocessing
import time
from multiprocessing.connection import Connection
from types import TracebackType

EVERY_S = 0.1


class HealthWatch:
    """Asks ten times a second until it is stopped; `stop` returns how long each answer took, in seconds."""

    def __init__(self, port: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_watch, args=(port, there), daemon=True)

    def __enter__(self) -> HealthWatch:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()
        self._here.close()

    def stop(self) -> list[float]:
        self._here.send("stop")
        took_s: list[float] = self._here.recv()
        return took_s


def _watch(port: int, there: Connection) -> None:
    took_s: list[float] = []
    while not there.poll(EVERY_S):
        began_s = time.perf_counter()
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/health")
        assert connection.getresponse().status == 200
        connection.close()
        took_s.append(time.perf_counter() - began_s)
    there.send(took_s)
