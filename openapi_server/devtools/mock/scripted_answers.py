"""The scripts that the mock server plays: turn events, with one `--delay` between two steps.

Change this file for other answers, sources or errors. `wire/platform.py` encodes the events, so clients see no event
here that the real server does not send.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from openapi_server.models.errors import ProviderFailed, TurnTimeout
from openapi_server.models.turn import AgeGroup, Source, Stage, Usage
from openapi_server.models.turn_event_order import TurnEventBuilder, TurnResult
from openapi_server.models.turn_events import Started, TurnEvent

DOCUMENTS_FOUND = 12
# At the default delay these are five minutes: longer than any client should wait.
STEPS_UNTIL_TIMEOUT = 200

MODEL = "mock"
ANIMAL = "lion_001"
SOURCES = (
    Source(fact_id="lion_001/social_sleep", topic="social", type="document", title="The keepers' notes on lions"),
    Source(
        fact_id="lion_001/top_speed",
        topic="speed",
        type="web",
        title="How fast animals run",
        url="https://zoo.example/speeds",
    ),
)

ScriptSteps = Iterator[Sequence[TurnEvent]]
Script = Callable[[TurnEventBuilder, str, Callable[[], int]], ScriptSteps]
"""Makes the steps of one turn, each a list of events that are sent together. Its arguments: the event builder, the
visitor's query, and a function for the milliseconds since the turn started."""


def make_start(turn_id: str, session_id: str) -> Started:
    """The first event of every turn."""
    return Started(
        turn_id=turn_id,
        session_id=session_id,
        animal_id=ANIMAL,
        animal_name="Mock",
        model=MODEL,
        age_group=AgeGroup.ADULT,
        disclosure="You are talking with a script.",
    )


def play_answer(builder: TurnEventBuilder, query: str, elapsed_ms: Callable[[], int]) -> ScriptSteps:
    """All steps, then the result."""
    yield builder.start()
    yield builder.change_stage(Stage.RETRIEVAL, is_complete=True, detail="notes found", found=DOCUMENTS_FOUND)
    yield builder.change_stage(Stage.RERANKING, is_complete=True, detail="notes chosen")
    yield builder.change_stage(Stage.GENERATION, is_complete=False, detail="answering")
    said = builder.add_text(_make_reply(query), elapsed_ms())
    usage = Usage(prompt_tokens=len(query.split()), completion_tokens=len(builder.reply.split()))
    yield [*said, *builder.complete(TurnResult(sources=SOURCES, usage=usage), elapsed_ms())]


def play_failure(builder: TurnEventBuilder, query: str, elapsed_ms: Callable[[], int]) -> ScriptSteps:
    """Some steps, then an error."""
    yield builder.start()
    yield builder.change_stage(Stage.RETRIEVAL, is_complete=True, detail="notes found", found=DOCUMENTS_FOUND)
    yield builder.fail(ProviderFailed("This error is simulated."), elapsed_ms())


def play_timeout(builder: TurnEventBuilder, query: str, elapsed_ms: Callable[[], int]) -> ScriptSteps:
    """One step, then silence for longer than a client should wait, then a timeout error."""
    yield builder.start()
    for _ in range(STEPS_UNTIL_TIMEOUT):
        yield []
    yield builder.fail(TurnTimeout("This timeout is simulated."), elapsed_ms())


def _make_reply(query: str) -> str:
    return "\n".join(
        [
            f'Based on my analysis of your query "{query}":',
            "1. This answer is scripted; no model has seen the question",
            "2. The progress before it came one --delay after another",
            "3. A real answer comes from the same path of a real server",
        ]
    )
