"""What every encoder promises, whatever its contract looks like.

A new contract adds one line to `wire/contracts.py` and passes unchanged: nothing here knows the name of an event.
"""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib import import_module
from itertools import pairwise

import pytest
from hypothesis import example, given, settings

from openapi_server import wire
from openapi_server.devtools.check.runner import PROBES as CHECKED_CONTRACTS
from openapi_server.devtools.check.stream_rules import (
    SseEvent,
    StreamRules,
    Violation,
    check_bytes,
    check_ids,
    check_progress,
    parse_events,
)
from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Chunk, Completed, Entry, TurnEvent
from openapi_server.spec import load_strict_spec
from openapi_server.wire.contracts import CONTRACTS
from openapi_server.wire.sse import Contract
from tests.support.examples import EVENTS, TURN_ID, number_events
from tests.support.turn_scripts import TURN_SCRIPTS, TurnScript, turn_scripts


def name_contract(contract: Contract) -> str:
    return f"bare {contract.name}" if contract.is_bare else contract.name


each_contract = pytest.mark.parametrize("contract", CONTRACTS, ids=name_contract)
each_turn_script = pytest.mark.parametrize("script", TURN_SCRIPTS.values(), ids=TURN_SCRIPTS.keys())
any_turn_script = given(script=turn_scripts)
modestly = settings(max_examples=30, deadline=None)


@cache
def rules_of(contract: Contract) -> StreamRules:
    operation = CONTRACTS[contract]
    return StreamRules.from_spec(load_strict_spec(), operation.path, operation.method)


@dataclass(frozen=True)
class Recorded:
    """A turn as one contract shows it. Each read encodes fresh entries: nothing comes from their cache."""

    contract: Contract
    events: Sequence[TurnEvent]

    @property
    def length(self) -> int:
        return len(self.events)

    @property
    def entries(self) -> list[Entry]:
        return number_events(self.events)

    def raw(self, after: int = 0, until: int | None = None) -> bytes:
        """The bytes of the entries behind `after`, up to and with `until`."""
        return self.contract.encode_entries(self.entries[after:until])

    def stream(self, after: int = 0, until: int | None = None) -> bytes:
        """The same, as an answer sends it."""
        return self.contract.opening.encode() + self.raw(after, until)

    def text(self, after: int = 0, until: int | None = None) -> str:
        """The reply as far as the contract tells it there."""
        return rules_of(self.contract).join_text(parse_events(self.raw(after, until)))


def recorded(contract: Contract, script: TurnScript) -> Recorded:
    return Recorded(contract, script.build_events())


# Each of them


@each_contract
@each_turn_script
def test_every_kind_of_turn_is_a_stream_of_the_contract(contract: Contract, script: TurnScript) -> None:
    """Its bytes, its events and their order are those of `openapi.yaml`, with one end, the last event."""
    assert_is_whole_stream(recorded(contract, script))


@each_contract
@modestly
@any_turn_script
def test_any_turn_is_a_stream_of_the_contract(contract: Contract, script: TurnScript) -> None:
    """Whatever was said, found, stopped or broken, and after however many steps."""
    assert_is_whole_stream(recorded(contract, script))


def assert_is_whole_stream(turn: Recorded) -> None:
    rules, raw = rules_of(turn.contract), turn.stream()
    check_bytes(raw, is_bare=turn.contract.is_bare)
    events = parse_events(raw)
    rules.check_events(events)
    rules.check_order(events)
    check_progress(events)
    assert [rules.is_terminal(event) for event in events] == [False] * (len(events) - 1) + [True]


@each_contract
@modestly
@example(script=TURN_SCRIPTS["answered"])
@any_turn_script
def test_a_resumed_stream_is_the_rest_of_the_whole_one(contract: Contract, script: TurnScript) -> None:
    """Behind every entry: the same bytes, in an order that the contract allows, no text lost and none twice."""
    turn = recorded(contract, script)
    rules, whole, text = rules_of(contract), turn.raw(), turn.text()

    for after in range(turn.length + 1):
        before, rest = turn.raw(until=after), turn.raw(after)
        assert before + rest == whole
        assert turn.text(until=after) + turn.text(after) == text
        if 0 < after < turn.length:
            rules.check_order(parse_events(rest), is_resumed=True)


@each_contract
@modestly
@example(script=TURN_SCRIPTS["answered"])
@any_turn_script
def test_whichever_event_a_reader_came_to_its_last_id_leads_on(contract: Contract, script: TurnScript) -> None:
    """Also in the middle of an entry that makes several events: the resumed stream begins with the first of them."""
    turn = recorded(contract, script)
    events = parse_events(turn.raw())

    for place in range(1, len(events) + 1):
        numbered_ones = [event for event in events[:place] if event.id is not None]
        kept = events[: events.index(numbered_ones[-1]) + 1] if numbered_ones else []
        after = numbered_ones[-1].seq if numbered_ones else 0
        assert kept + parse_events(turn.raw(after)) == events


@each_contract
@modestly
@any_turn_script
def test_an_entrys_last_frame_has_its_id_and_no_other_has_one(contract: Contract, script: TurnScript) -> None:
    """So a resume never splits an entry, and ids rise by themselves; what a contract has no word for leaves a gap.

    A bare stream has no ids at all.
    """
    turn = recorded(contract, script)

    for entry in turn.entries:
        ids = [frame.id for frame in contract.encode(entry)]
        last_id = None if contract.is_bare else entry.id
        assert ids == [None] * (len(ids) - 1) + [last_id] * bool(ids)
    events = parse_events(turn.raw())
    check_ids(events, TURN_ID)
    assert events[-1].id == (None if contract.is_bare else turn.entries[-1].id)


@pytest.mark.parametrize("contract", [each for each in CONTRACTS if each.is_bare], ids=name_contract)
@modestly
@any_turn_script
def test_a_bare_stream_is_the_same_without_its_ids(contract: Contract, script: TurnScript) -> None:
    """Whoever splits it at blank lines and takes the blocks that begin with `data: ` has every event."""
    (whole,) = [each for each in CONTRACTS if each.name == contract.name and not each.is_bare]

    blocks = recorded(contract, script).stream().decode().split("\n\n")[:-1]

    taken = [json.loads(block.removeprefix("data: ")) for block in blocks if block.startswith("data: ")]
    assert taken == [event.data for event in parse_events(recorded(whole, script).raw())]


@each_contract
@modestly
@any_turn_script
def test_encoding_is_pure(contract: Contract, script: TurnScript) -> None:
    """In this process or the next, before and after: the same frames, and the bytes are theirs."""
    turn = recorded(contract, script)

    for entry, again in zip(turn.entries, turn.entries, strict=True):
        frames = list(contract.encode(entry))
        assert frames == list(contract.encode(entry)) == list(contract.encode(again))
        assert contract.encode_entry(entry) == contract.encode_entry(entry) == "".join(f.text for f in frames).encode()


@each_contract
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_type_of_entry_is_accepted(contract: Contract, event: TurnEvent) -> None:
    """A contract that has no word for one says nothing; every ending has its words in every contract."""
    frames = list(contract.encode(Entry(TURN_ID, 7, number_events([event])[0].at, event)))

    assert frames or not event.is_terminal


@each_contract
@each_turn_script
def test_heartbeats_may_come_between_any_two_entries(contract: Contract, script: TurnScript) -> None:
    """In any stage of the turn, and before it has one: they carry no id, and the other events stay as they were."""
    turn = recorded(contract, script)
    beats = [contract.heartbeat(stage, 15_000 * place) for place, stage in enumerate([None, *Stage])]
    beating = "".join(beats).encode().join([contract.encode_entry(entry) for entry in turn.entries])
    raw, rules = contract.opening.encode() + beating, rules_of(contract)

    check_bytes(raw, is_bare=contract.is_bare)
    events = parse_events(raw)
    rules.check_events(events)
    rules.check_order(events)
    beaten = parse_events("".join(beats).encode())
    assert [event.id for event in beaten] == [None] * len(beaten)
    assert without(events, beaten) == parse_events(turn.raw())
    assert rules.join_text(events) == turn.text()


def without(events: Sequence[SseEvent], beaten: Sequence[SseEvent]) -> list[SseEvent]:
    return [event for event in events if event not in beaten]


# All of them together


@each_turn_script
def test_one_log_is_the_same_text_in_every_contract(script: TurnScript) -> None:
    """At every resume point: whoever changes the contract in the middle of a turn still has the reply, once."""
    assert_tell_the_same(script)


@modestly
@any_turn_script
def test_any_log_is_the_same_text_in_every_contract(script: TurnScript) -> None:
    """To the character, whatever was said. Contracts that only show whole replies show none of a broken one."""
    assert_tell_the_same(script)


def assert_tell_the_same(script: TurnScript) -> None:
    turns = [recorded(contract, script) for contract in CONTRACTS]
    events = turns[0].events
    ending = events[-1]
    said = "".join(event.text for event in events if isinstance(event, Chunk))
    told = {name_contract(turn.contract): turn.text() for turn in turns}
    if isinstance(ending, Completed):
        assert ending.reply == said
        assert told == dict.fromkeys(told, said)
    else:
        assert set(told.values()) <= {said, ""}
    assert_may_change_contracts([turn for turn in turns if told[name_contract(turn.contract)] == said])


def assert_may_change_contracts(turns: Sequence[Recorded]) -> None:
    """Contracts that tell the text piece by piece tell the same pieces at the same places of the log."""
    length = turns[0].length
    by_piece = [turn for turn in turns if turn.text(until=length - 1) == turn.text()]
    for before, behind in pairwise(by_piece):
        for after in range(length + 1):
            assert before.text(until=after) + behind.text(after) == before.text()


def test_the_registry_leaves_no_contract_out() -> None:
    """One that is missing there would be tested by nobody."""
    modules = [import_module(f"{wire.__name__}.{module.name}") for module in pkgutil.iter_modules(wire.__path__)]
    found = {value for module in modules for value in vars(module).values() if isinstance(value, Contract)}

    assert found == set(CONTRACTS)
    assert len({name_contract(contract) for contract in CONTRACTS}) == len(CONTRACTS)


def test_the_checker_looks_where_the_registry_says() -> None:
    """Whatever it finds out about a contract, it finds out where that contract really is."""
    # The option `--contract tokens` of `zoochat check` kept its name.
    checked = {"chat" if name == "tokens" else name: probes.operation for name, probes in CHECKED_CONTRACTS.items()}

    assert checked.items() <= {contract.name: operation.path for contract, operation in CONTRACTS.items()}.items()


# The suite itself


@each_contract
def test_the_rules_notice_a_stream_that_is_not_the_contracts(contract: Contract) -> None:
    """An end that comes twice, or not at all, is no stream; a rule that lets it pass proves nothing."""
    turn = recorded(contract, TurnScript())
    twice = replace(turn, events=[*turn.events, turn.events[-1]])

    for broken in (twice, replace(turn, events=turn.events[:-1])):
        with pytest.raises(Violation):
            assert_is_whole_stream(broken)
