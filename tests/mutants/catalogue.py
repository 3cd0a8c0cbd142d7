"""Servers with one defect each, and the check that must find it."""

from __future__ import annotations

from dataclasses import dataclass

from tests.mutants.mutations import (
    AnswerMutation,
    Edit,
    HeaderMutation,
    ListEverything,
    MoveJobBack,
    Mutation,
    RefuseSecondStop,
    RequestMutation,
    ShowObservedToEverybody,
    StreamMutation,
    add_ids,
    add_retry,
    change_content_type,
    complete_failed_jobs,
    drop_heartbeats,
    drop_third_chunk,
    drop_total_credits,
    ignore_disconnects,
    keep_open,
    leak_expected_id,
    leak_traceback,
    lower_progress,
    repeat_end,
    repeat_id,
    repeat_on_resume,
    replace_errors_by_pages,
    show_jobs_to_everybody,
    swap_first_events,
    use_crlf,
)


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defect, the contract in which it is, and the name of the check that must find it."""

    name: str
    contract: str
    check: str
    mutation: Mutation

    @property
    def path(self) -> str:
        """The prefix of its paths: all mutants are served by one process."""
        return "/" + self.name.replace(" ", "-")


def mutate_every_piece(edit: Edit) -> Mutation:
    """Apply the same edit to every piece of every stream."""
    return StreamMutation(lambda scope: edit)


NO_COOKIE = HeaderMutation(answer=lambda name, value: None if name.lower() == b"set-cookie" else value)
PLAIN_TEXT = HeaderMutation(answer=change_content_type)
IGNORE_LAST_EVENT_ID = HeaderMutation(without=b"last-event-id", path="/convo_turn/")
ALL_SESSIONS = ListEverything("/chat/sessions", "/chat/sessions", "sessions", "sessionId")
ALL_JOBS = ListEverything("/jobs", "/api/v1/stream", "jobs", "job_id")
IGNORE_IDEMPOTENCY_KEY = HeaderMutation(without=b"idempotency-key")

MUTANTS = [
    Mutant("an event out of order", "convo", "order", mutate_every_piece(swap_first_events)),
    Mutant("a repeated id", "convo", "ids", mutate_every_piece(repeat_id)),
    Mutant("a resume from the start", "convo", "resume", IGNORE_LAST_EVENT_ID),
    Mutant("a stop that works once", "convo", "stop", AnswerMutation(RefuseSecondStop())),
    Mutant("no cookie", "platform", "cookie", NO_COOKIE),
    Mutant("progress that falls", "platform", "progress", mutate_every_piece(lower_progress)),
    Mutant("a job that goes back", "platform", "job", AnswerMutation(MoveJobBack())),
    Mutant("jobs visible to everybody", "platform", "foreign job", show_jobs_to_everybody),
    Mutant("no heartbeat", "platform", "heartbeat", mutate_every_piece(drop_heartbeats)),
    Mutant("a traceback in an error", "platform", "error stream", mutate_every_piece(leak_traceback)),
    Mutant("a chunk lost", "sessions", "text", StreamMutation(drop_third_chunk)),
    Mutant("a chunk twice on resume", "sessions", "resume", StreamMutation(repeat_on_resume)),
    Mutant("the expected id leaked", "sessions", "mismatch", leak_expected_id),
    Mutant("a stream that stays open", "tokens", "end", keep_open),
    Mutant("errors as pages", "tokens", "refusals", AnswerMutation(replace_errors_by_pages)),
    Mutant("an abort that does not stop", "tokens", "abort", ignore_disconnects),
    Mutant("a plain content type", "devices", "headers", PLAIN_TEXT),
    Mutant("CRLF line ends", "devices", "bytes", mutate_every_piece(use_crlf)),
    Mutant("two ends", "devices", "end", mutate_every_piece(repeat_end)),
    Mutant("idempotency keys ignored", "devices", "idempotency", IGNORE_IDEMPOTENCY_KEY),
    Mutant("ids in a bare stream", "tokens", "data blocks", mutate_every_piece(add_ids)),
    Mutant("a retry line in a bare stream", "tokens", "data blocks", StreamMutation(add_retry)),
    Mutant("a second message refused", "tokens", "second message", RequestMutation(("/chat",), onBusy="reject")),
    Mutant("a first reply cut off", "tokens", "second message", RequestMutation(("/chat",), onBusy="interrupt")),
    Mutant(
        "a second message of a device refused",
        "devices",
        "second message",
        RequestMutation(("/chat/", "/chat/stream"), onBusy="reject"),
    ),
    Mutant("sessions of others listed", "sessions", "own sessions", AnswerMutation(ALL_SESSIONS)),
    Mutant("jobs of others listed", "platform", "job list", AnswerMutation(ALL_JOBS)),
    Mutant("a balance without its total", "sessions", "balance", AnswerMutation(drop_total_credits)),
    Mutant("a turn observed by anybody", "sessions", "observe", ShowObservedToEverybody),
    Mutant("a failed job at 100 percent", "platform", "failed job", AnswerMutation(complete_failed_jobs)),
]
