"""The analytics platform's contract: exact bytes for every event, and a turn as a job that is polled."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from itertools import accumulate, pairwise

import pytest
from hypothesis import given, settings

from openapi_server.models.turn import FinishReason, Outcome, Stage, TurnRecord, TurnStatus
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Entry,
    Failed,
    StageChanged,
    TurnEvent,
    TurnState,
    TypingStarted,
    TypingStopped,
    fold,
)
from openapi_server.wire.platform import (
    ANALYZING,
    GENERATING,
    INITIALIZING,
    LOADING,
    PLATFORM,
    ProgressStep,
    encode_accepted,
    encode_job,
    make_job_id,
    parse_job_id,
)
from openapi_server.wire.sse import encode_json
from tests.support.contract import assert_conforms
from tests.support.examples import (
    BLOCKED,
    COMPLETED,
    DISCLOSURE,
    FAILED,
    NOON,
    NOTEBOOK,
    SESSION_ID,
    STARTED,
    TURN_ID,
    WEB,
    make_failure,
    make_outcome,
    make_turn,
    number_events,
)
from tests.support.turn_scripts import TURN_SCRIPTS, TurnScript, turn_scripts
from tests.wire.literals import AT, ID, PROBLEM_BYTES, told

JOB_ID = "job_3b1f0c52a9d94e6f8a7b6c5d4e3f2a1b"
LATER = NOON + timedelta(seconds=2)
RANKS = ["pending", "running", "succeeded", "failed"]

BYTES: list[tuple[TurnEvent, str, str]] = [
    (
        STARTED,
        "progress",
        '{"step":"initializing","message":"Waking the animal up","progress":10,'
        f'"details":{{"age_group":"elementary","disclosure":"{DISCLOSURE}"}}}}',
    ),
    (
        StageChanged(Stage.RETRIEVAL, True, 25, "3 facts found", 3),
        "progress",
        '{"step":"loading_documents","message":"Reading the keepers\' notes","progress":25,'
        '"details":{"documents_found":3}}',
    ),
    (
        StageChanged(Stage.RERANKING, True, 50, "No facts chosen", 0),
        "progress",
        '{"step":"analyzing","message":"Choosing what fits the question","progress":50,'
        '"details":{"documents_found":0}}',
    ),
    (
        StageChanged(Stage.GENERATION, False, 75, "Leo is thinking"),
        "progress",
        '{"step":"generating_response","message":"The animal is answering","progress":75}',
    ),
    (FAILED, "error", f'{{"error":"The animal lost its voice.","problem":{PROBLEM_BYTES}}}'),
]
SILENT: list[TurnEvent] = [
    TypingStarted(),
    TypingStopped(180),
    Chunk(1, "Roar! "),
    StageChanged(Stage.MODERATION, False, 5, "..."),
    StageChanged(Stage.MODERATION, True, 10, "..."),
    StageChanged(Stage.RETRIEVAL, False, 15, "..."),
    StageChanged(Stage.RERANKING, False, 35, "..."),
    StageChanged(Stage.GENERATION, True, 100, "..."),
]
COMPLETE = '{"progress":100,"message":"The animal has answered","step":"complete"}'


@pytest.mark.parametrize(("event", "name", "data"), BYTES, ids=[f"{type(row[0]).__name__}-{row[1]}" for row in BYTES])
def test_each_event_is_these_bytes(event: TurnEvent, name: str, data: str) -> None:
    """A step is told when the engine has reached it, with how many documents there were."""
    assert told(PLATFORM, event) == f"{ID}event: {name}\ndata: {data}\n\n"


def metadata_bytes(finish_reason: str, prompt: int, completion: int, latency_ms: int) -> str:
    return (
        f'{{"job_id":"{JOB_ID}","session_id":"{SESSION_ID}","finish_reason":"{finish_reason}",'
        f'"prompt_tokens":{prompt},"completion_tokens":{completion},"latency_ms":{latency_ms}}}'
    )


SOURCES = (
    '[{"type":"web","title":"Panthera leo","document_id":"lion_001/top_speed","detail":"speed",'
    '"url":"https://zoo.example/lion?a=1&b=2"},'
    '{"type":"document","title":"Keepers\' notebook","document_id":"lion_001/mane","detail":"body"}]'
)
RESULTS: list[tuple[Completed, str]] = [
    (
        COMPLETED,
        f'{{"response":"Roar! L\\u00f6we.","sources":{SOURCES},"metadata":{metadata_bytes("stop", 3, 5, 1730)}}}',
    ),
    (
        BLOCKED,
        '{"response":"Let us talk about something else.","sources":[],'
        f'"metadata":{metadata_bytes("blocked", 0, 0, 4)}}}',
    ),
    (
        replace(COMPLETED, reply="", sources=(), finish_reason=FinishReason.STOPPED),
        f'{{"response":"","sources":[],"metadata":{metadata_bytes("stopped", 3, 5, 1730)}}}',
    ),
]


@pytest.mark.parametrize(("event", "result"), RESULTS, ids=["answered", "blocked", "stopped"])
def test_the_last_entry_is_two_events_with_one_id(event: Completed, result: str) -> None:
    """It stands in the last of them: whoever read only the result resumes before it, and gets both."""
    assert told(PLATFORM, event) == f"event: result\ndata: {result}\n\n{ID}event: complete\ndata: {COMPLETE}\n\n"


@pytest.mark.parametrize("event", SILENT)
def test_what_the_contract_has_no_word_for_is_silence(event: TurnEvent) -> None:
    """A gap in the ids, and no byte on the wire: this client waits for the whole answer."""
    assert told(PLATFORM, event) == ""


@pytest.mark.parametrize("stage", [None, *Stage])
def test_the_heartbeat_is_an_empty_event(stage: Stage | None) -> None:
    """The contract has a name for it; without an id, so that nobody resumes from it."""
    assert PLATFORM.heartbeat(stage, 15_000) == "event: heartbeat\ndata: {}\n\n"


# Jobs


def test_a_job_is_a_turn_by_another_name() -> None:
    """The two ids have the same random part."""
    assert (make_job_id(TURN_ID), parse_job_id(JOB_ID)) == (JOB_ID, TURN_ID)
    assert encode_json(encode_accepted(TURN_ID)) == (
        f'{{"job_id":"{JOB_ID}","status":"pending","polling_url":"/jobs/{JOB_ID}"}}'
    )
    assert_conforms(encode_accepted(TURN_ID), "AcceptedJob")


def encode_job_text(turn: TurnRecord, live: TurnState | None = None) -> str:
    """The job's bytes, after its schema was checked."""
    job = encode_job(turn, live)
    assert_conforms(json.loads(encode_json(job)), "Job")
    return encode_json(job)


def test_a_job_that_runs_is_these_bytes() -> None:
    """As far as its log says; where there is no log, it has begun, and no more is known."""
    times = f'"created_at":"{AT}","updated_at":"{AT}"'
    live = fold(number_events([STARTED, StageChanged(Stage.RERANKING, True, 50, "1 fact chosen", 1)]))

    assert encode_job_text(make_turn(), live) == (
        f'{{"job_id":"{JOB_ID}","status":"running","latest_progress":{{"step":"analyzing",'
        f'"message":"Choosing what fits the question","progress":50}},"result":null,"error":null,{times}}}'
    )
    assert encode_job_text(make_turn()) == (
        f'{{"job_id":"{JOB_ID}","status":"running","latest_progress":{{"step":"initializing",'
        f'"message":"Waking the animal up","progress":10}},"result":null,"error":null,{times}}}'
    )


def test_a_job_that_succeeded_has_the_streams_result() -> None:
    """The same object, to the byte, whether its log is still there or not."""
    outcome = replace(make_outcome(COMPLETED.reply, at=LATER, sources=(WEB, NOTEBOOK)), usage=COMPLETED.usage)
    turn = make_turn(outcome=replace(outcome, latency_ms=1730))
    expected = (
        f'{{"job_id":"{JOB_ID}","status":"succeeded","latest_progress":{{"step":"complete",'
        f'"message":"The animal has answered","progress":100}},"result":{RESULTS[0][1]},"error":null,'
        f'"created_at":"{AT}","updated_at":"2026-11-21T12:00:02.123Z"}}'
    )

    assert encode_job_text(turn) == encode_job_text(turn, fold(number_events([STARTED, COMPLETED]))) == expected


def test_a_job_that_failed_says_why() -> None:
    """One sentence, the problem and the step; what was said before the failure is no result."""
    assert encode_job_text(make_turn(outcome=make_failure(at=LATER, partial_reply="Ro", progress=50))) == (
        f'{{"job_id":"{JOB_ID}","status":"failed","latest_progress":{{"step":"analyzing",'
        '"message":"Choosing what fits the question","progress":50},"result":null,'
        f'"error":"The animal lost its voice.","created_at":"{AT}","updated_at":"2026-11-21T12:00:02.123Z",'
        f'"problem":{PROBLEM_BYTES}}}'
    )


@pytest.mark.parametrize(
    ("progress", "step"),
    [
        (0, INITIALIZING),
        (10, INITIALIZING),
        (15, INITIALIZING),
        (25, LOADING),
        (35, LOADING),
        (50, ANALYZING),
        (75, GENERATING),
        (100, GENERATING),
        # Its process died, or an earlier version stored it: no poll can have shown more than the last step.
        (None, GENERATING),
    ],
)
def test_a_job_that_failed_names_the_step_it_failed_in(progress: int | None, step: ProgressStep) -> None:
    """It is never complete, and its progress never 100 %."""
    job = json.loads(encode_job_text(make_turn(outcome=make_failure(progress=progress))))

    assert job["latest_progress"] == {"step": step.name, "message": step.message, "progress": step.progress}


def test_a_job_that_failed_before_it_had_its_turn_is_at_the_first_step() -> None:
    """Also where a crash ended it, and nothing is known of its progress."""
    job = json.loads(encode_job_text(replace(make_turn(outcome=make_failure(progress=None)), is_queued=True)))

    assert (job["status"], job["latest_progress"]["step"]) == ("failed", "initializing")


def test_a_job_that_was_stopped_succeeded_with_what_was_said() -> None:
    """The contract has no status for stopped; the metadata has the finish reason."""
    outcome = Outcome(TurnStatus.STOPPED, LATER, "Ro", FinishReason.STOPPED)
    job = json.loads(encode_job_text(make_turn(outcome=outcome)))

    assert (job["status"], job["result"]["response"]) == ("succeeded", "Ro")
    assert job["result"]["metadata"]["finish_reason"] == "stopped"


@settings(max_examples=30, deadline=None)
@given(script=turn_scripts)
def test_a_polled_job_never_goes_back(script: TurnScript) -> None:
    """Asked after every entry of its log, then from the store: status and progress only rise, and end as the stream."""
    assert_only_rises(script)


@pytest.mark.parametrize("script", TURN_SCRIPTS.values(), ids=TURN_SCRIPTS.keys())
def test_no_kind_of_job_ever_goes_back(script: TurnScript) -> None:
    """The log may know of the end before the store is asked: until the store says so, the job runs."""
    assert_only_rises(script)


def assert_only_rises(script: TurnScript) -> None:
    entries = number_events(script.build_events())
    polls = [
        json.loads(encode_job_text(make_turn(), live))
        for live in accumulate(entries, TurnState.apply, initial=TurnState())
    ]
    outcome = _outcome_of(entries[-1], fold(entries).progress)
    polls.append(json.loads(encode_job_text(make_turn(outcome=outcome))))

    for before, after in pairwise(polls):
        assert before["latest_progress"]["progress"] <= after["latest_progress"]["progress"]
        assert RANKS.index(before["status"]) <= RANKS.index(after["status"])
    assert [poll["status"] in ("succeeded", "failed") for poll in polls] == [False] * (len(polls) - 1) + [True]
    assert_ends_alike(polls[-1], entries[-1])


def assert_ends_alike(job: dict[str, object], entry: Entry) -> None:
    """Assert that the job's result or error equals the stream's."""
    first, *_ = PLATFORM.encode(entry)
    assert isinstance(first.data, dict)
    if isinstance(entry.event, Completed):
        assert job["result"] == json.loads(encode_json(first.data))
    else:
        assert {"error": job["error"], "problem": job["problem"]} == json.loads(encode_json(first.data))


def _outcome_of(entry: Entry, progress: int) -> Outcome:
    """The outcome that the engine settles before it appends this entry."""
    match entry.event:
        case Completed() as done:
            stopped = done.finish_reason is FinishReason.STOPPED
            status = TurnStatus.STOPPED if stopped else TurnStatus.SUCCEEDED
            outcome = Outcome(status, entry.at, done.reply, done.finish_reason, done.sources, done.usage)
            return replace(outcome, latency_ms=done.latency_ms)
        case Failed(problem=problem):
            return Outcome(TurnStatus.FAILED, entry.at, problem=problem, progress=progress)
    raise TypeError("no ending")
