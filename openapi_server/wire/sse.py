"""Server-Sent Events (WHATWG HTML, section 9.2) as text, in the subset that all clients read alike.

The fields come in the order `id`, `event`, `data`, and lines end in `\\n`. JSON is compact and ASCII-escaped, because
some clients search the raw lines. An `id` always comes with `data`. CR, LF or NUL in `id` or `event` raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Chunk, Entry, Failed

RETRY_MS = 2000
MAX_ID_BYTES = 128
# The number of an entry never has more digits.
_MAX_SEQ_DIGITS = 19
STREAM_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache, no-store, no-transform",
    # Without it, nginx buffers the stream.
    "X-Accel-Buffering": "no",
}
_LINE_END = re.compile(r"\r\n|\r|\n")
_FORBIDDEN = re.compile(r"[\r\n\0]")

_ENCODER = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)
# The encoder in C, which `JSONEncoder` makes anew for each value. There is none where Python is not CPython.
_make_encoder: Any = getattr(json.encoder, "c_make_encoder", None)
_ENCODE_PARTS = _make_encoder and _make_encoder(
    None, _ENCODER.default, json.encoder.encode_basestring_ascii, None, ":", ",", False, False, False
)

JsonObject = Mapping[str, object]


@dataclass(slots=True)
class Frame:
    """One event of a stream. `data` is a JSON object, or text that is sent as it is. Not frozen: that takes longer.

    >>> Frame({"type": "chunk", "chunkId": 1, "content": "Roar"}, event="chunk", id="turn_a-3").text
    'id: turn_a-3\\nevent: chunk\\ndata: {"type":"chunk","chunkId":1,"content":"Roar"}\\n\\n'
    """

    data: JsonObject | str
    event: str | None = None
    id: str | None = None
    retry_ms: int | None = None

    def __post_init__(self) -> None:
        if self.event is not None:
            _require_plain("event", self.event)
        if self.data == "":
            raise ValueError("data of a frame is empty: some clients drop such an event, others do not")
        if self.id is not None:
            _require_plain("id", self.id)
            if len(self.id.encode()) > MAX_ID_BYTES:
                raise ValueError(f"id of a frame is over {MAX_ID_BYTES} bytes")

    @property
    def text(self) -> str:
        """The frame with the blank line that ends it."""
        retry = f"retry: {self.retry_ms}\n" if self.retry_ms is not None else ""
        id_ = f"id: {self.id}\n" if self.id is not None else ""
        event = f"event: {self.event}\n" if self.event is not None else ""
        return f"{retry}{id_}{event}data: {self._data_lines}\n\n"

    @property
    def _data_lines(self) -> str:
        if isinstance(self.data, str):
            return "\ndata: ".join(_LINE_END.split(self.data))
        return encode_json(self.data)


def _require_plain(name: str, value: str) -> None:
    # What can be printed has none of them, which is seen faster.
    if not value or not (value.isprintable() or _FORBIDDEN.search(value) is None):
        raise ValueError(f"{name} of a frame is empty or holds CR, LF or NUL: {value!r}")


def encode_json(value: object) -> str:
    """One line of JSON without spaces, every non-ASCII character escaped.

    >>> encode_json({"type": "done", "content": "Löwe\\u2028"})
    '{"type":"done","content":"L\\\\u00f6we\\\\u2028"}'
    """
    return "".join(_ENCODE_PARTS(value, 0)) if _ENCODE_PARTS else _ENCODER.encode(value)


encode_text = json.encoder.encode_basestring_ascii
"""A text as `encode_json` writes it, with its quotes."""


def encode_id_field(entry: Entry) -> str:
    """The line with the entry's id, as the frame of an entry begins."""
    return f"{_make_id_prefix(entry.turn_id)}{entry.seq}\n"


@lru_cache(maxsize=1024)
def _make_id_prefix(turn_id: str) -> str:
    """What the ids of a turn begin with. It is checked once, for all of them."""
    _require_plain("id", turn_id)
    if len(turn_id.encode()) + 1 + _MAX_SEQ_DIGITS > MAX_ID_BYTES:
        raise ValueError(f"id of a frame is over {MAX_ID_BYTES} bytes")
    return f"id: {turn_id}-"


def encode_comment(text: str) -> str:
    """A comment, which clients ignore."""
    return f": {_LINE_END.sub(' ', text)}\n\n"


def encode_comment_heartbeat(stage: Stage | None, elapsed_ms: int) -> str:
    """The heartbeat of contracts that have no heartbeat event: a comment. Without a stage the turn is queued."""
    return encode_comment("heartbeat" if stage else "queued")


def encode_retry(retry_ms: int = RETRY_MS) -> str:
    """The reconnection time, as the first line of a stream. The next frame completes its block."""
    return f"retry: {retry_ms}\n"


def parse_event_id(event_id: str, turn_id: str) -> int | None:
    """The sequence number in an event id of this turn; None when the id is of another form or turn.

    >>> parse_event_id("turn_a-17", "turn_a"), parse_event_id("turn_b-17", "turn_a")
    (17, None)
    """
    prefix, _, digits = event_id.rpartition("-")
    is_ours = prefix == turn_id and re.fullmatch(r"0|[1-9][0-9]{0,8}", digits, re.ASCII)
    return int(digits) if is_ours else None


@dataclass(frozen=True, slots=True)
class Contract:
    """How one kind of client reads a turn.

    `encode` returns the frames of one log entry, of which only the last has the entry's id. It is pure and stateless,
    so a resumed stream repeats the same bytes. `heartbeat` makes a frame without id from the current stage and the
    milliseconds since the turn began; it is sent during silences.

    With `is_bare` the stream has neither ids nor a retry line, for readers that take only blocks that begin with
    `data: `.

    `encode_chunk` returns the text of what `encode` yields for a chunk, sooner: most entries are chunks, and of their
    frames only the id, the number, the time and the text change.
    """

    name: str
    encode: Callable[[Entry], Iterator[Frame]]
    heartbeat: Callable[[Stage | None, int], str]
    encode_chunk: Callable[[Entry, Chunk], str] | None = None
    is_bare: bool = False
    _key: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_key", f"{self.name} bare" if self.is_bare else self.name)

    @property
    def opening(self) -> str:
        """What a stream sends before its first event."""
        return "" if self.is_bare else encode_retry()

    def encode_entry(self, entry: Entry) -> bytes:
        """The entry's bytes. They are made once or twice and then kept with the entry, for all further readers.

        But for a failure: its problem names a path that depends on the reader's proxies.
        """
        encoded = entry.encoded if entry.contract == self._key else entry.get_encoded(self._key)
        if encoded is None:
            event = entry.event
            if self.encode_chunk is not None and isinstance(event, Chunk):
                encoded = self.encode_chunk(entry, event).encode()
            else:
                encoded = "".join([frame.text for frame in self.encode(entry)]).encode()
            if not isinstance(event, Failed):
                entry.keep_encoded(self._key, encoded)
        return encoded

    def encode_without_ids(self, entry: Entry) -> bytes:
        """The bytes of an entry that has no number."""
        return "".join([replace(frame, id=None).text for frame in self.encode(entry)]).encode()

    def encode_entries(self, entries: Iterable[Entry]) -> bytes:
        """The bytes of several entries, to be sent in one write."""
        return b"".join([self.encode_entry(entry) for entry in entries])
