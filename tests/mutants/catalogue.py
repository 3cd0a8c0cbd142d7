"""Twenty servers with one thing broken each, and the check that has to catch it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutants.breakers import (
    Breaker,
    Edit,
    EditsAnswers,
    EditsHeaders,
    EditsStreams,
    hears_no_goodbye,
    never_closes,
    shows_jobs_to_anybody,
    tells_the_expected_id,
)
from tests.mutants.edits import (
    JobsGoBack,
    StopsOnce,
    as_text,
    ends_twice,
    errors_are_pages,
    falls_back,
    loses_a_chunk,
    out_of_order,
    repeats_on_resume,
    reuses_an_id,
    shows_a_traceback,
    silent,
    with_crlf,
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """What is broken, in which contract, and the name of the check that sees it."""

    name: str
    contract: str
    check: str
    breaker: Breaker

    @property
    def address(self) -> str:
        """Where it is served, beside the others."""
        return "/" + self.name.replace(" ", "-")


def always(edit: Edit) -> Breaker:
    """The same edit for every piece of every stream."""
    return EditsStreams(lambda scope: edit)


NO_COOKIE = EditsHeaders(answer=lambda name, value: None if name.lower() == b"set-cookie" else value)
PLAIN_TEXT = EditsHeaders(answer=as_text)
DEAF_TO_LAST_ID = EditsHeaders(without=b"last-event-id", path="/convo_turn/")
DEAF_TO_KEYS = EditsHeaders(without=b"idempotency-key")

MUTANTS = [
    Mutant("an event out of order", "convo", "order", always(out_of_order)),
    Mutant("an id twice", "convo", "ids", always(reuses_an_id)),
    Mutant("a resume that begins anew", "convo", "resume", DEAF_TO_LAST_ID),
    Mutant("a stop that works once", "convo", "stop", EditsAnswers(StopsOnce())),
    Mutant("no cookie", "platform", "cookie", NO_COOKIE),
    Mutant("progress that falls", "platform", "progress", always(falls_back)),
    Mutant("a job that goes back", "platform", "job", EditsAnswers(JobsGoBack())),
    Mutant("jobs for anybody", "platform", "foreign job", shows_jobs_to_anybody),
    Mutant("no heartbeat", "platform", "heartbeat", always(silent)),
    Mutant("a traceback in an error", "platform", "error stream", always(shows_a_traceback)),
    Mutant("a chunk lost", "sessions", "text", EditsStreams(loses_a_chunk)),
    Mutant("a chunk twice on resume", "sessions", "resume", EditsStreams(repeats_on_resume)),
    Mutant("the expected id told", "sessions", "mismatch", tells_the_expected_id),
    Mutant("a stream that stays open", "tokens", "end", never_closes),
    Mutant("errors as pages", "tokens", "refusals", EditsAnswers(errors_are_pages)),
    Mutant("an abort that does not stop", "tokens", "abort", hears_no_goodbye),
    Mutant("a plain content type", "devices", "headers", PLAIN_TEXT),
    Mutant("CRLF line ends", "devices", "bytes", always(with_crlf)),
    Mutant("two ends", "devices", "end", always(ends_twice)),
    Mutant("keys that nobody reads", "devices", "idempotency", DEAF_TO_KEYS),
]
