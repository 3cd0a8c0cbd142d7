"""Every reader over recorded streams of every contract: fed whole, byte by byte, in any pieces, cut, and resumed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from tests.conftest import OpensZoo
from tests.readers.python_readers import Parsed
from tests.readers.recordings import ENDPOINTS, RESUMABLE, SCENARIOS, Feed, Recording, Told
from tests.readers.table import READERS, Reader, read_shown, sees_all
from tests.support.node import NodeProcess

# The streams that are cut at every place: they have all that there is.
CUT_SCENARIOS = ("silent",)
LIBRARIES = {name: reader for name, reader in READERS.items() if reader.is_library and reader.sees is sees_all}

each_reader = pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
each_library = pytest.mark.parametrize("reader", LIBRARIES.values(), ids=LIBRARIES)


def each_recording(scenarios: Sequence[str], endpoints: Sequence[str]) -> pytest.MarkDecorator:
    keys = [(scenario, name) for scenario in scenarios for name in endpoints]
    return pytest.mark.parametrize("recording", keys, indirect=True, ids=map(" ".join, keys))


_recordings: dict[tuple[str, str], Recording] = {}


@pytest.fixture
async def recording(request: pytest.FixtureRequest, open_zoo: OpensZoo) -> Recording:
    """A stream of the scenario and the contract, recorded once."""
    scenario, name = request.param
    if request.param not in _recordings:
        _recordings[request.param] = await SCENARIOS[scenario](open_zoo, ENDPOINTS[name])
    return _recordings[request.param]


@dataclass(frozen=True)
class Reading:
    """Feeds recordings to readers. What Node's readers show of a recording is asked once, for all of them."""

    node: NodeProcess
    _shown_in_node: dict[tuple[int, str], dict[str, list[list[Parsed]]]] = field(default_factory=dict)

    def __call__(
        self, reader: Reader, recording: Recording, make_feeds: Callable[[Recording], list[Feed]]
    ) -> list[list[Parsed]]:
        """What the reader shows of each feed, with what looks like an event to it and has no data."""
        feeds = make_feeds(recording)
        if reader.python is not None:
            return [list(reader.python.feed(feed.pieces)) for feed in feeds]
        key = (id(recording), make_feeds.__name__)
        if key not in self._shown_in_node:
            self._shown_in_node[key] = self._ask_node(feeds)
        return self._shown_in_node[key][reader.name]

    def _ask_node(self, feeds: Sequence[Feed]) -> dict[str, list[list[Parsed]]]:
        streams = list(dict.fromkeys(feed.raw for feed in feeds))
        members = {
            "streams": [base64.b64encode(stream).decode() for stream in streams],
            "feeds": [[streams.index(feed.raw), list(feed.cuts), feed.end] for feed in feeds],
        }
        names = [name for name, reader in READERS.items() if reader.python is None]
        answers = self.node.ask([READERS[name].make_job(**members) for name in names])
        return dict(zip(names, map(read_shown, answers), strict=True))


@pytest.fixture(scope="module")
def read(node_readers: NodeProcess) -> Reading:
    return Reading(node_readers)


def show(reader: Reader, told: Sequence[Told]) -> list[Parsed]:
    """What the reader has to show of these events."""
    return [reader.show(each) for each in told if reader.sees(each.block)]


class Expected:
    """What the reader has to show of each feed of a recording."""

    def __init__(self, reader: Reader, recording: Recording) -> None:
        self._reader = reader
        self._told = [each for each in recording.told if reader.sees(each.block)]
        self._shown = show(reader, recording.told)

    def get(self, feed: Feed) -> list[Parsed]:
        pairs = zip(self._told, self._shown, strict=True)
        return [shown for told, shown in pairs if is_readable(self._reader, told, feed)]


def is_readable(reader: Reader, told: Told, feed: Feed) -> bool:
    """Whether the pieces hold the event as the reader needs it."""
    line = told.data_line
    return reader.has_buffer or (line.stop <= feed.end and not any(line.start < cut < line.stop for cut in feed.cuts))


@each_reader
@each_recording(list(SCENARIOS), list(ENDPOINTS))
def test_a_reader_shows_what_the_contract_tells(reader: Reader, recording: Recording, read: Reading) -> None:
    """Every event once and in its order, to the character, however the bytes come."""
    feeds, expected = recording.feed_in_pieces(), Expected(reader, recording)

    for feed, shown in zip(feeds, read(reader, recording, Recording.feed_in_pieces), strict=True):
        assert reader.pass_over_comments(shown) == expected.get(feed), feed.cuts


@each_reader
@each_recording(CUT_SCENARIOS, list(ENDPOINTS))
def test_a_border_between_two_pieces_may_stand_anywhere(reader: Reader, recording: Recording, read: Reading) -> None:
    """Also inside a field's name, an escaped character, or the blank line."""
    feeds, expected = recording.feed_in_two(), Expected(reader, recording)

    for feed, shown in zip(feeds, read(reader, recording, Recording.feed_in_two), strict=True):
        assert reader.pass_over_comments(shown) == expected.get(feed), feed.cuts


@each_reader
@each_recording(CUT_SCENARIOS, list(ENDPOINTS))
def test_a_stream_that_ends_early_shows_nothing_wrong(reader: Reader, recording: Recording, read: Reading) -> None:
    """At every place: all that was complete, in its order. Some show a rest, which nobody can take for an event."""
    feeds, expected = recording.feed_a_part(), show(reader, recording.told)
    ends = [each.end for each in recording.told if reader.sees(each.block)]

    for feed, every in zip(feeds, read(reader, recording, Recording.feed_a_part), strict=True):
        shown = without_rest(reader, reader.pass_over_comments(every), expected)
        assert shown == expected[: len(shown)], feed.end
        assert len(shown) >= sum(end <= feed.end for end in ends)


def without_rest(reader: Reader, shown: list[Parsed], expected: Sequence[Parsed]) -> list[Parsed]:
    """The events without what a broken stream left of the last one: its data is no JSON, or its id is not whole."""
    if not reader.shows_rests or shown == expected[: len(shown)]:
        return shown
    rest, whole = shown[-1].data, expected[len(shown) - 1].data
    assert whole.startswith(rest)
    if rest != whole:
        with pytest.raises(ValueError):  # noqa: PT011  # the whole of JSON's errors
            json.loads(rest)
    return shown[:-1]


@each_library
@each_recording(CUT_SCENARIOS, RESUMABLE)
def test_a_resumed_stream_has_each_event_once(reader: Reader, recording: Recording, read: Reading) -> None:
    """Cut at every place: the events up to the last id and those that follow it are those of the whole stream.

    Events without an id that came behind the last one come again.
    """
    all_shown = show(reader, recording.told)
    expected = [event for event in all_shown if event.event != "heartbeat"]
    rests = dict(zip(recording.rests, read(reader, recording, Recording.feed_the_rests), strict=True))

    for every in read(reader, recording, Recording.feed_a_part):
        shown = without_rest(reader, reader.pass_over_comments(every), all_shown)
        last_id = shown[-1].id if shown else ""
        numbered = [event.id for event in shown].index(last_id) + 1 if last_id else 0
        again = [Parsed(event.event, event.data, event.id or last_id) for event in rests[last_id]]
        assert [event for event in [*shown[:numbered], *again] if event.event != "heartbeat"] == expected


@each_recording(["silent", "queued"], list(ENDPOINTS))
def test_two_libraries_show_a_comment_as_an_event_without_data(recording: Recording, read: Reading) -> None:
    """Their users pass over it. httpx-sse does so only behind an id or a retry line; the others show nothing."""
    first = {
        name: read(reader, recording, Recording.feed_in_pieces)[0]
        for name, reader in READERS.items()
        if recording.has_comments
    }

    found = {name for name, shown in first.items() if not all(event.data for event in shown)}
    known = {"fetch-event-source"} if recording.contract.is_bare else {"fetch-event-source", "httpx-sse"}
    assert found == (known if recording.has_comments else set())
