"""What the parts report about themselves while they work: figures (`Metrics`) and spans (`Tracer`).

Nobody who reports knows who listens: `telemetry/` has the implementations, and the defaults here do nothing. Neither
gets a text of a message, nor a whole id. Call them on the event loop only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from openapi_server.models.turn import Stage
from openapi_server.models.turn_events import Completed, Failed, Started


class ResumeResult(StrEnum):
    """What a client got that asked for the events after one that it had seen.

    `WHOLE`: every later event. `PARTIAL`: the events have expired, but the stored turn has its reply. `LOST`: the
    events are gone, and the turn ended without a complete reply. `REFUSED`: an error, such as an id of another turn.
    """

    WHOLE = "whole"
    PARTIAL = "partial"
    LOST = "lost"
    REFUSED = "refused"


class CheckedText(StrEnum):
    """Whose text a moderation rule matched: the visitor's message or the model's reply."""

    MESSAGE = "message"
    REPLY = "reply"


class OfflineAnswer(StrEnum):
    """Where an answer of the offline provider came from: facts, nowhere ("I don't know"), or small talk."""

    FOUND = "found"
    NOT_FOUND = "not_found"
    SMALL_TALK = "small_talk"


class TurnMetrics(Protocol):
    """The figures of one turn. Times are monotonic, in seconds."""

    def record_start(self, at_s: float) -> None:
        """A turn that has waited for another one runs now: its durations begin here."""

    def record_chunks(self, at_s: float, count: int) -> None:
        """Chunks were written together. Called for all of every turn, so it must take less than a microsecond."""

    def record_end(self, event: Completed | Failed, at_s: float) -> None: ...


class Metrics(Protocol):
    """Counts and measures what happens. Values become labels only where there are few of them."""

    def begin_turn(self, started: Started, contract: str, at_s: float) -> TurnMetrics: ...

    def count_refused_turn(self, contract: str, reason: str) -> None:
        """A turn that was not started. `reason` is the code of a `ChatError`."""

    def count_resume(self, contract: str, result: ResumeResult) -> None: ...

    def count_recovered_lease(self) -> None:
        """This process has settled a turn that another one, or it itself, had left running."""

    def count_rule_hits(self, text: CheckedText, categories: Iterable[str]) -> None: ...

    def count_offline_answer(self, answer: OfflineAnswer) -> None: ...

    def record_request(self, operation: str, status: int | None, wait_s: float) -> None:
        """An HTTP request. `status` None: the client left before the answer. `wait_s`: until the answer's head."""


class TurnTrace(Protocol):
    """The span of one turn, with one for each stage. A stage that is open at the end of the turn ends with it."""

    def start_stage(self, stage: Stage) -> None: ...

    def end_stage(self, found: int | None = None) -> None:
        """`found` is a number of facts."""

    def end(self, event: Completed | Failed) -> None: ...


class RequestSpan(Protocol):
    """The span of one HTTP request, as long as it is answered."""

    def describe(self, route: str | None, status: int | None) -> None:
        """`route`: the path as the spec writes it; None when the request is for no operation."""


class Tracer(Protocol):
    """Records spans. A turn that is begun during a request belongs to that request's trace."""

    def trace_request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[RequestSpan]:
        """The span continues the trace in `traceparent`, if that header is there (W3C Trace Context)."""

    def trace_turn(self, started: Started, contract: str) -> TurnTrace: ...


class NoTurnMetrics:
    """Implements `TurnMetrics`: records nothing."""

    def record_start(self, at_s: float) -> None:
        pass

    def record_chunks(self, at_s: float, count: int) -> None:
        pass

    def record_end(self, event: Completed | Failed, at_s: float) -> None:
        pass


class NoMetrics:
    """Implements `Metrics`: counts nothing."""

    def begin_turn(self, started: Started, contract: str, at_s: float) -> NoTurnMetrics:
        return NoTurnMetrics()

    def count_refused_turn(self, contract: str, reason: str) -> None:
        pass

    def count_resume(self, contract: str, result: ResumeResult) -> None:
        pass

    def count_recovered_lease(self) -> None:
        pass

    def count_rule_hits(self, text: CheckedText, categories: Iterable[str]) -> None:
        pass

    def count_offline_answer(self, answer: OfflineAnswer) -> None:
        pass

    def record_request(self, operation: str, status: int | None, wait_s: float) -> None:
        pass


class NoTrace:
    """Implements `TurnTrace` and `RequestSpan`: records nothing."""

    def start_stage(self, stage: Stage) -> None:
        pass

    def end_stage(self, found: int | None = None) -> None:
        pass

    def end(self, event: Completed | Failed) -> None:
        pass

    def describe(self, route: str | None, status: int | None) -> None:
        pass


class NoTracer:
    """Implements `Tracer`: records nothing."""

    _nothing = NoTrace()

    def trace_request(self, method: str, headers: Mapping[str, str]) -> AbstractContextManager[NoTrace]:
        return nullcontext(self._nothing)

    def trace_turn(self, started: Started, contract: str) -> NoTrace:
        return self._nothing


@dataclass(frozen=True, slots=True)
class Instruments:
    """Where a part reports to."""

    metrics: Metrics = field(default_factory=NoMetrics)
    tracer: Tracer = field(default_factory=NoTracer)
