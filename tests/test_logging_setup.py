"""Logging: nobody waits for the reader of the log, lost lines are counted, and no value can forge a line."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from io import StringIO

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from openapi_server import logging_setup
from openapi_server.logging_setup import (
    BackgroundHandler,
    BackgroundWriter,
    ConsoleRenderer,
    LogFormat,
    choose_log_format,
    has_colors,
    make_formatter,
)
from tests.support.timing import wait_until


class Pipe:
    """A pipe whose reader may wait, or be gone."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def close_reader(self) -> None:
        if self.reader >= 0:
            os.close(self.reader)
            self.reader = -1

    def close(self) -> None:
        self.close_reader()
        os.close(self.writer)

    def read_to_end(self) -> bytes:
        """All that is in the pipe, until the writer has closed it."""
        with os.fdopen(self.reader, "rb") as stream:
            self.reader = -1
            return stream.read()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    opened = Pipe()
    yield opened
    opened.close()


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_lines_are_written_in_order(pipe: Pipe) -> None:
    """Closing waits for all of them."""
    writer = BackgroundWriter(pipe.writer)
    for number in range(2000):
        writer.write(b"line %d\n" % number)
    writer.close(10)

    assert writer.dropped == 0
    # What fits into a pipe without a reader.
    assert os.read(pipe.reader, 65_536).splitlines() == [b"line %d" % number for number in range(2000)]


def test_lines_that_come_soon_after_another_leave_in_one_write(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waking the thread for each line costs as much as the line; closing does not wait for further ones."""
    monkeypatch.setattr(logging_setup, "GATHER_S", 60)
    writes: list[bytes] = []

    def note_write(_: int, data: bytes) -> int:
        writes.append(data)
        return len(data)

    monkeypatch.setattr(os, "write", note_write)
    writer = BackgroundWriter(pipe.writer)
    for number in range(50):
        writer.write(b"line %d\n" % number)
    writer.close(10)

    assert [data.count(b"\n") for data in writes] == [50]


def test_a_pipe_that_nobody_reads_blocks_nobody(pipe: Pipe) -> None:
    """What does not fit is dropped and counted, and the end of the process does not wait either."""
    writer = BackgroundWriter(pipe.writer, max_queued_bytes=10_000)
    for _ in range(2000):
        writer.write(b"x" * 99 + b"\n")
    writer.close(0.05)

    assert writer.queued_bytes <= 10_000
    assert writer.dropped > 1000


def test_when_somebody_reads_again_the_log_tells_what_was_lost(pipe: Pipe) -> None:
    """The count of `dropped_log_lines` adds up with the lines that were written."""
    writer = BackgroundWriter(pipe.writer, max_queued_bytes=10_000)
    with structlog.testing.capture_logs() as lines:
        for _ in range(2000):
            writer.write(b"x" * 99 + b"\n")
        received = b""
        while writer.queued_bytes or not lines:
            received += os.read(pipe.reader, 65_536)
            if not writer.queued_bytes:
                wait_until(lambda: bool(lines), within_s=10)
        writer.close(10)

    assert [(line["event"], line["lines"]) for line in lines] == [("dropped_log_lines", writer.dropped)]
    assert received.count(b"\n") + writer.dropped >= 2000 - 65_536 // 100


def test_a_reader_that_is_gone_costs_lines_only(pipe: Pipe) -> None:
    """EPIPE, like a full disk under the log, is counted and raises nowhere."""
    pipe.close_reader()
    writer = BackgroundWriter(pipe.writer)
    for _ in range(100):
        writer.write(b"lost\n")
    writer.close(10)

    assert writer.dropped == 100


def test_a_pipe_that_is_set_not_to_block_gets_every_line(pipe: Pipe) -> None:
    """The process that started the server may have set the flag for itself."""
    os.set_blocking(pipe.writer, False)
    writer = BackgroundWriter(pipe.writer)
    for _ in range(3000):
        writer.write(b"x" * 99 + b"\n")
    received = 0
    while received < 300_000:
        received += len(os.read(pipe.reader, 65_536))
    writer.close(10)

    assert (received, writer.dropped) == (300_000, 0)


def test_a_library_that_logs_nonsense_raises_nowhere(pipe: Pipe) -> None:
    """Python prints such errors to standard error by default."""
    writer = BackgroundWriter(pipe.writer)
    handler = BackgroundHandler(writer, "utf-8")
    handler.handle(logging.LogRecord("lib", logging.INFO, "f", 1, "%d %d", ("one",), None))
    writer.close(10)

    assert os.read(pipe.reader, 1000) == b"a log line of lib could not be rendered: TypeError\n"


@pytest.mark.parametrize(
    ("setting", "environment", "stream", "expected"),
    [
        ("auto", "development", Terminal(), "console"),
        ("auto", "development", StringIO(), "logfmt"),
        ("auto", "development", None, "logfmt"),
        ("auto", "production", Terminal(), "json"),
        ("auto", "production", StringIO(), "json"),
        ("console", "production", StringIO(), "console"),
        ("json", "development", Terminal(), "json"),
        ("logfmt", "production", Terminal(), "logfmt"),
    ],
)
def test_the_format_follows_the_setting_then_the_place(
    setting: str, environment: str, stream: StringIO | None, expected: str
) -> None:
    """A person at a terminal gets short lines, production gets JSON."""
    assert choose_log_format(setting, environment, stream) == expected


@pytest.mark.parametrize(
    ("variables", "stream", "expected"),
    [
        ({}, Terminal(), True),
        ({"NO_COLOR": "1"}, Terminal(), False),
        ({"NO_COLOR": ""}, Terminal(), True),
        ({"TERM": "dumb"}, Terminal(), False),
        ({}, StringIO(), False),
        ({}, None, False),
    ],
)
def test_colours_are_for_terminals_that_want_them(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], stream: StringIO | None, *, expected: bool
) -> None:
    """NO_COLOR counts when it is not empty (https://no-color.org)."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert has_colors(stream) is expected


def render(log_format: LogFormat, event: str, **values: object) -> str:
    """One line as the handler renders it, of our own or, with `library`, of a library."""
    record = logging.LogRecord("zoo", logging.INFO, "f", 1, {"event": event, "level": "info", **values}, (), None)
    record.__dict__.update(_logger=None, _name="info", _from_structlog=True)
    return make_formatter(log_format).format(record)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            {"event": "request", "method": "POST", "path": "/convo_turn", "status": 200, "duration_ms": 1240},
            "POST /convo_turn 200 1.2 s",
        ),
        (
            {"event": "request", "method": "GET", "path": "/nothing", "status": None, "duration_ms": 2},
            "GET /nothing no answer 2 ms",
        ),
        (
            {"event": "turn_ended", "turn": "turn_1", "animal": "lion_001", "status": "succeeded", "latency_ms": 900},
            "turn lion_001 succeeded 900 ms",
        ),
        (
            {
                "event": "turn_ended",
                "animal": "lion_001",
                "status": "failed",
                "reason": "turn_timeout",
                "latency_ms": 1,
            },
            "turn lion_001 failed (turn_timeout) 1 ms",
        ),
    ],
)
def test_a_person_reads_one_short_line(values: dict[str, object], expected: str) -> None:
    """For each request and each turn."""
    line = ConsoleRenderer(colors=False)(None, "info", dict(values))

    assert re.fullmatch(rf"\d\d:\d\d:\d\d {re.escape(expected)}", line)


@pytest.mark.parametrize("event", ["stage_complete", "First token latency: 0.1s"])
def test_the_steps_of_a_turn_are_not_for_the_console(event: str) -> None:
    """They are in the other formats."""
    assert event in render("logfmt", event)
    with pytest.raises(structlog.DropEvent):
        render("console", event)


@pytest.mark.parametrize("log_format", ["console", "logfmt", "json"])
@given(
    text=st.text(st.characters(codec="utf-8") | st.sampled_from("\x00\x1b\r\n\x85\u2028\u2029\x7f\x9b"), max_size=40)
)
def test_no_value_ends_a_line_or_commands_a_terminal(log_format: LogFormat, text: str) -> None:
    """Whatever a client manages to put into a value."""
    line = render(log_format, "event", value=text, path=text)

    assert len(line.splitlines()) == 1
    assert not re.search(r"[\x00-\x1f\x7f-\x9f]", line)


def test_json_lines_are_json() -> None:
    """One object a line."""
    assert json.loads(render("json", "request", path="/a\nb"))["path"] == "/a\nb"
