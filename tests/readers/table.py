"""All readers of the suite, and what each of them sees of a stream by its nature.

`docs/streams.md` says the same in a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.readers import python_readers as python
from tests.readers.python_readers import Parsed
from tests.readers.recordings import Told


class PythonReader(Protocol):
    """Reads a stream in this process."""

    def feed(self, pieces: Iterable[bytes]) -> Iterator[Parsed]:
        """The events of a body that comes in these pieces."""

    def post(self, url: str, body: object, headers: Mapping[str, str]) -> Iterator[Parsed]:
        """The events that a server answers with."""


def sees_all(block: str) -> bool:
    return True


def sees_data_blocks(block: str) -> bool:
    """Blocks that are a line of data and nothing else: those of a bare stream."""
    return block.startswith("data: ") and block.count("\n") == len("\n\n")


def sees_pairs(block: str) -> bool:
    """Blocks that begin with their name and their data."""
    first, second, *_ = block.split("\n")
    return first.startswith("event: ") and second.startswith("data: ")


def sees_unnamed(block: str) -> bool:
    return not any(line.startswith("event: ") for line in block.split("\n"))


@dataclass(frozen=True)
class Reader:
    """A reader, and what it sees. Without `python` it is one of `node_readers.mjs`.

    `sees` tells by an event's block, with the stream's opening in the first one, whether the reader shows that event.
    `is_library`: it knows the ids of events. `shows_comments`: it may show one as an event without data, which its
    users pass over. `shows_rests`: when the stream ends early, it shows what has come of the last event.
    Only one without a buffer loses the events that a border between two pieces cuts.
    """

    name: str
    python: PythonReader | None = None
    sees: Callable[[str], bool] = sees_all
    shows_names: bool = True
    is_library: bool = False
    shows_comments: bool = False
    shows_rests: bool = False
    has_buffer: bool = True

    def show(self, told: Told) -> Parsed:
        """An event as the reader shows it."""
        event = (told.event if self.shows_names else None) or "message"
        return Parsed(event, told.data, told.last_id if self.is_library else "")

    def parse(self, pieces: Iterable[bytes]) -> list[Parsed]:
        """What users of a reader in Python have of a body that comes in these pieces."""
        assert self.python
        return self.pass_over_comments(self.python.feed(pieces))

    def pass_over_comments(self, shown: Iterable[Parsed]) -> list[Parsed]:
        """As the users of some libraries have to."""
        return [event for event in shown if event.data or not self.shows_comments]

    def make_job(self, **members: Any) -> dict[str, Any]:
        """A job of `node_readers.mjs`."""
        return {"reader": self.name, "names": NAMES, "comesBack": False, **members}


def read_shown(answer: Mapping[str, Any]) -> list[list[Parsed]]:
    """What was shown of each feed of a job; equal lists are the same list."""
    shown = [[Parsed(**event) for event in events] for events in answer["shown"]]
    return [shown[number] for number in answer["which"]]


NODE_READERS = Path(__file__).with_name("node_readers.mjs")
# The names that any contract has for its events.
NAMES = [
    *("message", "metadata", "typing", "progress", "chunk", "heartbeat", "complete", "result", "done", "error"),
]

ALL_READERS = (
    Reader("a browser", python.PiecesReader(python.by_a_browser), is_library=True),
    Reader("sseclient-py", python.RequestsReader(python.by_sseclient), is_library=True, shows_rests=True),
    Reader("httpx-sse", python.HttpxReader(python.by_httpx_sse), is_library=True, shows_comments=True),
    Reader("eventsource", is_library=True),
    Reader("eventsource-parser", is_library=True),
    Reader("eventsource-parser/stream", is_library=True),
    Reader("fetch-event-source", is_library=True, shows_comments=True),
    Reader("fields of blocks", python.PiecesReader(python.by_fields_of_blocks), is_library=True),
    Reader("split lines", python.PiecesReader(python.by_split_lines)),
    Reader("split lines (JavaScript)", shows_names=False),
    Reader("requests iter_lines", python.RequestsReader(python.by_requests_lines), shows_rests=True),
    Reader("httpx aiter_lines", python.AsyncHttpxReader(python.by_httpx_lines), shows_rests=True),
    Reader("readline", shows_rests=True),
    Reader("lines of each piece", shows_names=False, has_buffer=False),
    Reader("data blocks", python.PiecesReader(python.by_data_blocks), sees_data_blocks),
    Reader("data blocks (JavaScript)", sees=sees_data_blocks),
    Reader("onmessage", sees=sees_unnamed, is_library=True),
    Reader("pairs", python.PiecesReader(python.by_pairs), sees_pairs),
)
READERS = {reader.name: reader for reader in ALL_READERS}

# Libraries, and the standard, for tests of single events.
Parser = Callable[[Iterable[bytes]], list[Parsed]]
PARSERS: dict[str, Parser] = {name: READERS[name].parse for name in ("a browser", "sseclient-py", "httpx-sse")}
