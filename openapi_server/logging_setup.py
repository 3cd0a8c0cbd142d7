"""Logging: one line for each event, on standard error. Lines contain no text of messages and no whole ids.

Lines are rendered where they are logged and written by a thread, because a pipe that nobody reads, or a terminal that
is paused, blocks whoever writes to it. What waits is bounded: further lines are dropped and counted.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

LogFormat = Literal["console", "logfmt", "json"]
# Libraries whose INFO lines repeat our own.
NOISY_LOGGERS = ("uvicorn", "connexion", "httpx", "httpcore", "boto3", "botocore", "urllib3", "asyncio")
# At DEBUG these log the texts of messages and replies.
CONTENT_LOGGERS = ("anthropic", "httpcore2", "httpx2", "openai")
QUIET_LOGGERS = NOISY_LOGGERS + CONTENT_LOGGERS
# What may wait for the thread that writes: some thirty thousand lines.
MAX_QUEUED_BYTES = 4 * 1024 * 1024
# A write of at most so many bytes to a pipe is not mixed with those of other processes (POSIX, PIPE_BUF).
WRITE_BYTES = 4096
# How long the thread gathers lines before it writes, in seconds: waking it costs as much as a line.
GATHER_S = 0.005
# How long the end of the process waits for a reader of its last lines, in seconds.
FLUSH_TIMEOUT_S = 1.0
# Everything that a terminal or a reader of lines may take for a command or for the end of a line.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROLS_BUT_LINE_ENDS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")

# Lines of every turn that tell a person at a terminal nothing new.
_HIDDEN_ON_CONSOLE = ("stage_complete", "First token latency")

log = structlog.get_logger(__name__)


class BackgroundWriter:
    """Writes lines to a file descriptor in a thread of its own; `write` never waits and never raises.

    `dropped` counts the lines that were lost so far: they did not fit into the queue, or could not be written.
    """

    def __init__(self, descriptor: int, max_queued_bytes: int = MAX_QUEUED_BYTES) -> None:
        self.dropped = 0
        self._descriptor = descriptor
        self._max_queued_bytes = max_queued_bytes
        self._lines: deque[bytes] = deque()
        self._queued_bytes = 0
        self._told = 0
        self._is_closing = False
        self._is_idle = False
        self._changed = threading.Condition()
        # A daemon, because a write that is blocked must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="log-writer", daemon=True)
        self._thread.start()

    @property
    def queued_bytes(self) -> int:
        """How much waits to be written."""
        return self._queued_bytes

    def write(self, line: bytes) -> None:
        with self._changed:
            if self._is_closing or self._queued_bytes + len(line) > self._max_queued_bytes:
                self.dropped += 1
                return
            self._lines.append(line)
            self._queued_bytes += len(line)
            if self._is_idle:
                self._is_idle = False
                self._changed.notify()

    def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Write what waits, for at most `timeout_s` seconds. Later lines are dropped."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while batch := self._take_batch():
            if not self._write_all(b"".join(batch)):
                with self._changed:
                    self.dropped += len(batch)
            elif self._told != self.dropped and self._queued_bytes * 2 <= self._max_queued_bytes:
                count, self._told = self.dropped - self._told, self.dropped
                log.warning("dropped_log_lines", lines=count)

    def _take_batch(self) -> list[bytes]:
        """The next lines, together at most `WRITE_BYTES` unless one is longer; empty at the end."""
        with self._changed:
            while not self._lines and not self._is_closing:
                self._is_idle = True
                self._changed.wait()
                if not self._is_closing:
                    self._changed.wait(GATHER_S)
            batch: list[bytes] = []
            size = 0
            while self._lines and (not batch or size + len(self._lines[0]) <= WRITE_BYTES):
                size += len(self._lines[0])
                batch.append(self._lines.popleft())
            self._queued_bytes -= size
            return batch

    def _write_all(self, data: bytes) -> bool:
        """False when the other end is gone, the disk is full, or the descriptor is closed."""
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Whoever started the process made the pipe non-blocking.
                select.select([], [self._descriptor], [])
            except OSError as error:
                if error.errno != errno.EINTR:
                    return False
        return True


class BackgroundHandler(logging.Handler):
    """Renders a record at once, while its context is known, and leaves the writing to a `BackgroundWriter`."""

    def __init__(self, writer: BackgroundWriter, encoding: str) -> None:
        super().__init__()
        self._writer = writer
        self._encoding = encoding

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except structlog.DropEvent:
            return
        except Exception as error:  # of whatever a library passed as arguments
            line = f"a log line of {record.name} could not be rendered: {type(error).__name__}"
        self._writer.write(line.encode(self._encoding, "backslashreplace") + b"\n")


_writer: BackgroundWriter | None = None


def count_dropped_log_lines() -> int:
    """How many log lines were lost since the start: nobody read them fast enough, or they could not be written."""
    return _writer.dropped if _writer else 0


def count_queued_log_bytes() -> int:
    """How many bytes of log lines wait to be written."""
    return _writer.queued_bytes if _writer else 0


def flush_log() -> None:
    """Write the lines that wait, for at most `FLUSH_TIMEOUT_S` seconds: for a process that ends without `open_log`."""
    if _writer is not None:
        _writer.close()


@contextmanager
def open_log(level: str, log_format: LogFormat) -> Iterator[None]:
    """Log to standard error for as long as the block lasts; at its end, lines that wait are written."""
    global _writer  # logging is configured for the whole process
    _writer = BackgroundWriter(2)
    configure_logging(level, log_format, _writer)
    try:
        yield
    finally:
        _writer.close()


def choose_log_format(setting: str, environment: str, stream: TextIO | None) -> LogFormat:
    """What `LOG_FORMAT` means: `auto` is JSON in production, else short lines on a terminal and logfmt elsewhere."""
    match setting:
        case "console" | "logfmt" | "json":
            return setting
    if environment == "production":
        return "json"
    return "console" if stream is not None and stream.isatty() else "logfmt"


def has_colors(stream: TextIO | None) -> bool:
    """Whether to colour lines: on a terminal, unless `NO_COLOR` is set (https://no-color.org) or it has no colours."""
    is_wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return is_wanted and stream is not None and stream.isatty()


def configure_logging(level: str, log_format: LogFormat, writer: BackgroundWriter) -> None:
    """Log what has at least that level through the writer, our lines and those of libraries alike."""
    structlog.configure(
        processors=[*_make_shared_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = BackgroundHandler(writer, getattr(sys.stderr, "encoding", None) or "utf-8")
    handler.setFormatter(make_formatter(log_format))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    _log_what_python_prints()


def make_formatter(log_format: LogFormat) -> logging.Formatter:
    """Renders a record as one line. No value can end the line or send a command to a terminal."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_make_shared_processors(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.format_exc_info,
            *_make_renderers(log_format),
        ],
    )


def _make_shared_processors() -> list[Processor]:
    """What our lines and those of libraries both get."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]


def _log_what_python_prints() -> None:
    """Warnings, and exceptions that nobody can catch, are printed to standard error by default, which may block."""
    logging.captureWarnings(capture=True)
    errors = logging.getLogger("python")

    def log_thread_error(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and args.exc_type is not SystemExit:
            errors.error("unexpected_error", exc_info=args.exc_value)

    def log_unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            errors.error("unraisable_error", exc_info=args.exc_value)

    threading.excepthook = log_thread_error
    sys.unraisablehook = log_unraisable


def _make_renderers(log_format: LogFormat) -> list[Processor]:
    if log_format == "json":
        return [structlog.processors.JSONRenderer()]
    if log_format == "logfmt":
        order = ["timestamp", "level", "event"]
        return [_escape_controls, structlog.processors.LogfmtRenderer(key_order=order, bool_as_flag=False)]
    return [_escape_controls, ConsoleRenderer(colors=has_colors(sys.stderr))]


def _escape_controls(_: WrappedLogger, __: str, event_dict: EventDict) -> EventDict:
    """Replace control characters in all values. Line ends stay in tracebacks, which are ours."""
    for name, value in event_dict.items():
        if isinstance(value, str):
            pattern = _CONTROLS_BUT_LINE_ENDS if name == "exception" else _CONTROLS
            event_dict[name] = pattern.sub(_escape_control, value)
    return event_dict


def _escape_control(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")


class ConsoleRenderer:
    """For a person who watches a terminal: one short line for each request and each turn; structlog's form otherwise.

    >>> ConsoleRenderer(colors=False)(None, "info", {"event": "request", "level": "info", "method": "GET",
    ...     "path": "/health", "status": 200, "duration_ms": 3}).split(" ", 1)[1]
    'GET /health 200 3 ms'
    """

    def __init__(self, *, colors: bool) -> None:
        self._colors = colors
        # The default formatter shows the variables of each frame, which contain messages.
        self._fallback = structlog.dev.ConsoleRenderer(
            colors=colors, pad_event_to=0, exception_formatter=structlog.dev.plain_traceback
        )

    def __call__(self, logger: WrappedLogger, name: str, event_dict: EventDict) -> str:
        event_dict.pop("timestamp", None)
        at = self._paint(time.strftime("%H:%M:%S"), "2")
        match event_dict.get("event"):
            case "request":
                return f"{at} {self._format_request(event_dict)}"
            case "turn_ended":
                return f"{at} {self._format_turn(event_dict)}"
            case "shutting_down":
                if event_dict.get("signal") == "SIGINT":
                    # Whoever pressed Ctrl-C has been told already.
                    raise structlog.DropEvent
                return f"{at} {event_dict.get('detail')}"
            case event:
                if str(event).startswith(_HIDDEN_ON_CONSOLE) and event_dict.get("level") == "info":
                    raise structlog.DropEvent
                event_dict.pop("request_id", None)
                return f"{at} {self._fallback(logger, name, event_dict)}"

    def _format_request(self, line: EventDict) -> str:
        status = line.get("status")
        color = "32" if isinstance(status, int) and status < 400 else "33" if status and status < 500 else "31"
        shown = self._paint(str(status or "no answer"), color)
        return f"{line.get('method')} {line.get('path')} {shown} {_format_duration(line.get('duration_ms'))}"

    def _format_turn(self, line: EventDict) -> str:
        status = str(line.get("status"))
        color = {"succeeded": "32", "failed": "31"}.get(status, "33")
        shown = self._paint(status, color)
        reason = f" ({line['reason']})" if line.get("reason") else ""
        return f"turn {line.get('animal')} {shown}{reason} {_format_duration(line.get('latency_ms'))}"

    def _paint(self, text: str, color: str) -> str:
        return f"\x1b[{color}m{text}\x1b[0m" if self._colors else text


def _format_duration(milliseconds: object) -> str:
    """A short form.

    >>> _format_duration(3), _format_duration(1240)
    ('3 ms', '1.2 s')
    """
    if not isinstance(milliseconds, int):
        return "-"
    return f"{milliseconds} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.1f} s"
