"""The rules for every event stream: its bytes, and what `openapi.yaml` says about its events, their order and text.

Pure: takes bytes and the spec, raises `Violation`. The test suite checks every stream that it sees by these rules.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from openapi_schema_validator import OAS30ReadValidator, oas30_format_checker

from openapi_server.wire.sse import encode_json

FIELD_ORDER = ("retry", "id", "event", "data")
EVENT_STREAM = "text/event-stream"

# A split takes time linear in the stream, whatever the server sends.
_BLOCK_END = re.compile(rb"(\r\n\r\n|\n\n|\r\r)")
_RETRY_LINE = re.compile(rb"\Aretry: ?\d+(?:\r\n|\r|\n)")
_LINE_END = re.compile(r"\r\n|\r|\n")
_EVENT_ID = re.compile(r"([A-Za-z0-9_-]{1,118})-([1-9][0-9]{0,8})")


class Violation(Exception):
    """The server breaks the contract. The message is the evidence: one line that says what was seen, and where."""


def require(claim: object, evidence: str) -> None:
    """Raise `Violation` with the evidence unless the claim is true."""
    if not claim:
        raise Violation(evidence)


@dataclass(frozen=True, slots=True)
class SseEvent:
    """One server-sent event, its data decoded from JSON. `raw`: its bytes on the wire, without a retry line."""

    event: str
    data: dict[str, Any]
    id: str | None = None
    raw: bytes = field(default=b"", compare=False, repr=False)

    @property
    def seq(self) -> int:
        """The sequence number in the id. Raises `Violation` when the id is missing or malformed."""
        found = _EVENT_ID.fullmatch(self.id or "")
        require(found, f"the id {self.id!r} is not <turnId>-<seq>")
        return int(found[2]) if found else 0

    @property
    def item(self) -> dict[str, Any]:
        """The event as an object, as `x-itemSchema` and the JSON pointers of `x-event-order` see it."""
        return {"event": self.event, "data": self.data} | ({"id": self.id} if self.id is not None else {})


def parse_events(raw: bytes) -> list[SseEvent]:
    """The events of a stream, parsed as the WHATWG standard says: any line end, any field order, no comments.

    >>> parse_events(b'retry: 2000\\nid: turn_a-1\\nevent: chunk\\ndata: {"text":"Roar"}\\n\\n: still here\\n\\n')
    [SseEvent(event='chunk', data={'text': 'Roar'}, id='turn_a-1')]
    """
    # Blocks and their ends in turns; what stands behind the last end is incomplete, and no event.
    parts = _BLOCK_END.split(raw)
    blocks = (block + end for block, end in zip(parts[0:-1:2], parts[1::2], strict=True))
    events = (_parse_event(_RETRY_LINE.sub(b"", block)) for block in blocks)
    return [event for event in events if event is not None]


def _parse_event(block: bytes) -> SseEvent | None:
    fields: dict[str, list[str]] = {}
    for line in _LINE_END.split(block.decode(errors="replace")):
        name, _, value = line.partition(":")
        fields.setdefault(name, []).append(value.removeprefix(" "))
    if "data" not in fields:
        return None
    name, event_id = fields.get("event", ["message"])[-1], fields.get("id", [None])[-1]
    return SseEvent(name, _parse_object(fields["data"]), event_id, block)


def _parse_object(lines: list[str]) -> dict[str, Any]:
    text = "\n".join(lines)
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    require(isinstance(data, dict), f"data is not a JSON object: {text[:60]!r}")
    return dict(data)


def check_bytes(raw: bytes, *, is_whole: bool = True, is_bare: bool = False) -> str:
    """Check the bytes: ASCII, `\\n`, a retry line first, field order, compact JSON, a blank line after each event.

    A bare stream has no retry line and no ids: each of its blocks is a comment or begins with `data: `.
    Returns a summary; raises `Violation`.
    """
    require(raw.isascii(), f"not ASCII: {raw[_find_non_ascii(raw) :][:12]!r}")
    text = raw.decode("ascii")
    require("\r" not in text, "a carriage return in the stream: lines must end in \\n")
    require(is_bare or re.match(r"retry: \d+\n", text), f"the first line is not the retry line: {text[:30]!r}")
    require(not is_whole or text.endswith("\n\n"), f"no blank line after the last event: {text[-30:]!r}")
    blocks = text.split("\n\n")[:-1]
    for block in blocks:
        is_fit = not is_bare or block.startswith(("data: ", ":"))
        require(is_fit, f"a block of a bare stream that does not begin with data: {block[:60]!r}")
        _check_block(block.split("\n"))
    return f"{len(raw):,} bytes in {len(blocks)} blocks"


def _find_non_ascii(raw: bytes) -> int:
    return next((position for position, byte in enumerate(raw) if byte > 127), 0)


def _check_block(lines: list[str]) -> None:
    fields = [line.partition(": ")[::2] for line in lines if not line.startswith(":")]
    names = [name for name, _ in fields]
    require(set(names) <= set(FIELD_ORDER), f"a line that is not a field with one space after its colon: {lines}")
    require(names == sorted(names, key=FIELD_ORDER.index), f"field order {names}")
    require(len(set(names)) == len(names), f"a repeated field: {names}")
    values = dict(fields)
    if set(names) <= {"retry"}:
        return
    require(values.get("data"), f"a block without data: {lines}")
    data = values["data"]
    require(data == encode_json(json.loads(data)), f"data is not compact, ASCII-escaped JSON: {data[:60]!r}")


def check_data_blocks(raw: bytes) -> str:
    """Check that every block of a stream begins with `data: `, but for comments, which clients pass over.

    Many clients split a stream at its blank lines and take only such blocks: with an `id:` or a `retry:` line in front
    they would see no event at all.
    """
    blocks = [block for block in raw.decode(errors="replace").split("\n\n") if block]
    comments = [block for block in blocks if all(line.startswith(":") for line in block.split("\n"))]
    other = [block for block in blocks if not block.startswith("data: ") and block not in comments]
    require(not other, f"a block that does not begin with 'data: ': {other[:1]}")
    return f"{len(blocks) - len(comments)} blocks, {len(comments)} comments"


def require_members(data: Mapping[str, Any], where: str, **kinds: type | tuple[type, ...]) -> None:
    """Raise `Violation` unless the object has members with these names and of these types."""
    require(isinstance(data, Mapping), f"{where} is no object: {str(data)[:80]}")
    for name, kind in kinds.items():
        require(name in data, f"{where} has no {name}: {str(data)[:80]}")
        require(isinstance(data[name], kind), f"{where} has {name} {str(data[name])[:40]!r}")


def check_ids(events: Sequence[SseEvent], turn_id: str | None = None, *, is_gapless: bool = False) -> str:
    """Check that ids are `<turnId>-<seq>`, of one turn, and rising; with `is_gapless`, by one. Heartbeats have none."""
    numbered = [event for event in events if event.id is not None]
    seqs = [event.seq for event in numbered]
    for before, after in pairwise(numbered):
        step = after.seq - before.seq
        require(step > 0, f"the ids do not rise: {after.id} after {before.id}")
        require(step == 1 or not is_gapless, f"a gap in the ids: {after.id} after {before.id}")
    turn_ids = {str(event.id).rpartition("-")[0] for event in numbered} | ({turn_id} if turn_id else set())
    require(len(turn_ids) <= 1, f"ids of several turns: {sorted(turn_ids)}")
    return f"{len(seqs)} ids, {seqs[0]} to {seqs[-1]}" if seqs else "no ids"


def check_progress(events: Sequence[SseEvent]) -> str:
    """Check that `progress`, in the events that have it, never falls."""
    values = [event.data["progress"] for event in events if "progress" in event.data]
    require(values == sorted(values), f"progress falls: {values}")
    return "progress " + " ".join(map(str, values)) if values else "no event has a progress"


@dataclass(frozen=True)
class StreamRules:
    """The spec's rules for one stream. `media` is the spec's object under `text/event-stream`."""

    media: Mapping[str, Any]
    components: Mapping[str, Any]

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], path: str, method: str = "post") -> StreamRules:
        """The rules of an operation. Raises KeyError when the spec has none."""
        media = spec["paths"][path][method]["responses"]["200"]["content"][EVENT_STREAM]
        return cls(media, spec["components"])

    @property
    def is_bare_by_default(self) -> bool:
        """Whether the stream has ids and a retry line only for clients that mean to resume it."""
        return bool(self.media.get("x-bare-by-default", False))

    @property
    def order(self) -> Mapping[str, Any]:
        order: Mapping[str, Any] = self.media["x-event-order"]
        return order

    def get_name(self, event: SseEvent) -> str:
        """The event's name in the state machine: its own, or the value at the JSON pointer `by`."""
        return _format_name(_resolve_pointer(event.item, self.order.get("by", "/event")))

    def is_terminal(self, event: SseEvent) -> bool:
        """Whether the state machine ends with this event."""
        name = self.get_name(event)
        return any(moves.get(name) == self.order["end"] for moves in self.order["states"].values())

    def check_events(self, events: Sequence[SseEvent]) -> str:
        """Check each event by `x-itemSchema`."""
        for event in events:
            error = next(self._validator.iter_errors(event.item), None)
            require(error is None, f"not an event of this contract: {event.raw[:120]!r}")
        return f"{len(events)} events: {', '.join(dict.fromkeys(map(self.get_name, events)))}"

    def check_order(self, events: Sequence[SseEvent], *, is_resumed: bool = False, is_whole: bool = True) -> str:
        """Check the events by `x-event-order`: a whole stream ends with its only terminal event."""
        return self.check_names([self.get_name(event) for event in events], is_resumed=is_resumed, is_whole=is_whole)

    def check_names(self, names: Sequence[str], *, is_resumed: bool = False, is_whole: bool = True) -> str:
        """As `check_order`, with the names of the events."""
        state = self.order["resume" if is_resumed else "start"]
        for position, name in enumerate(names, 1):
            moves = self.order["states"].get(state, {})
            require(name in moves, f"{name} as event {position} of {len(names)}, in state {state}")
            state = moves[name]
        require(not is_whole or state == self.order["end"], f"the stream ended in state {state}, after {names[-1:]}")
        return " ".join(_collapse_runs(names))

    def join_text(self, events: Sequence[SseEvent]) -> str:
        """The reply: the text of all events together."""
        pointers = self.order["text"]
        named = [(self.get_name(event), event.item) for event in events]
        return "".join(_resolve_pointer(item, pointers[name]) for name, item in named if name in pointers)

    @cached_property
    def _validator(self) -> OAS30ReadValidator:
        schema = {"allOf": [self.media["x-itemSchema"]], "components": self.components}
        return OAS30ReadValidator(schema, format_checker=oas30_format_checker)


def _resolve_pointer(item: Any, pointer: str) -> Any:
    """The value at a JSON pointer (RFC 6901). Raises `Violation` when there is none."""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        require(isinstance(item, dict) and name in item, f"an event has nothing at {pointer}")
        item = item[name]
    return item


def _format_name(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _collapse_runs(names: Sequence[str]) -> Iterator[str]:
    """`chunk x12` for twelve times `chunk`."""
    start = 0
    for position in range(1, len(names) + 1):
        if position == len(names) or names[position] != names[start]:
            count = position - start
            yield names[start] + (f" x{count}" if count > 1 else "")
            start = position
