"""What a broken server says: edits of its events, and of its whole answers."""

from __future__ import annotations

import json
import re
from collections import Counter

from starlette.types import Scope

from tests.mutants.breakers import Answer, Edit, frames_of, json_answer


def out_of_order(piece: bytes) -> bytes:
    """The first two events change places."""
    head, first, rest = piece.partition(b"id: ")
    frames = frames_of(first + rest)
    is_opening = len(frames) > 1 and b"event: metadata" in frames[0]
    return head + b"".join([frames[1], frames[0], *frames[2:]]) if is_opening else piece


def reuses_an_id(piece: bytes) -> bytes:
    return re.sub(rb"(id: \S+)-9\n", rb"\1-8\n", piece)


def loses_a_chunk(scope: Scope) -> Edit:
    """The third chunk never leaves."""
    chunks: Counter[str] = Counter()

    def keep(found: re.Match[bytes]) -> bytes:
        chunks["seen"] += 1
        return b"" if chunks["seen"] == 3 else found[0]

    return lambda piece: re.sub(rb"id: \S+\nevent: chunk\n.*\n\n", keep, piece)


def repeats_on_resume(scope: Scope) -> Edit:
    """A resumed stream says its first event twice."""
    if b"last-event-id" not in dict(scope["headers"]):
        return lambda piece: piece
    times = Counter[str]()

    def repeat(found: re.Match[bytes]) -> bytes:
        times["seen"] += 1
        return found[0] * 2 if times["seen"] == 1 else found[0]

    return lambda piece: re.sub(rb"id: .*\n(?:.+\n)+\n", repeat, piece)


def ends_twice(piece: bytes) -> bytes:
    """The last event once more, with an id of its own."""
    last = re.search(rb"(id: \S+-)(\d+)(\n.*\"is_final\":true.*\n\n)", piece)
    return piece + b"%b%d%b" % (last[1], int(last[2]) + 1, last[3]) if last else piece


def shows_a_traceback(piece: bytes) -> bytes:
    return piece.replace(b'"detail":"', rb'"detail":"Traceback (most recent call last): ')


class StopsOnce:
    """The second stop of a turn is refused."""

    def __init__(self) -> None:
        self._stopped: set[str] = set()

    def __call__(self, scope: Scope, status: int, body: bytes) -> Answer | None:
        if not scope["path"].endswith("/stop"):
            return None
        is_again = scope["path"] in self._stopped
        self._stopped.add(scope["path"])
        return json_answer(404, {"code": "turn_not_found"}) if is_again else None


class JobsGoBack:
    """A job that was running is pending again when it is looked at for the second time."""

    def __init__(self) -> None:
        self._looks: Counter[str] = Counter()

    def __call__(self, scope: Scope, status: int, body: bytes) -> Answer | None:
        if not scope["path"].startswith("/jobs/") or status != 200:
            return None
        self._looks[scope["path"]] += 1
        told = {1: "running", 2: "pending"}.get(self._looks[scope["path"]])
        return json_answer(200, json.loads(body) | {"status": told}) if told else None


def errors_are_pages(scope: Scope, status: int, body: bytes) -> Answer | None:
    """Every refusal is a friendly page."""
    return (200, b"<html><h1>Oops!</h1></html>", "text/html") if status >= 400 else None


def as_text(name: bytes, value: bytes) -> bytes:
    return b"text/plain" if value.startswith(b"text/event-stream") else value


def silent(piece: bytes) -> bytes:
    return b"" if b"event: heartbeat" in piece else piece


def falls_back(piece: bytes) -> bytes:
    """Half way is told as the beginning."""
    return piece.replace(b'"progress":50', b'"progress":10')


def with_crlf(piece: bytes) -> bytes:
    return piece.replace(b"\n", b"\r\n")
