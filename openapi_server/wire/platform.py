"""The analytics platform's contract: `/api/v1/stream`, and jobs to poll.

The stream is `progress` for each stage that the turn reaches, then `result` and `complete`, or `error`. It has no
event for the pieces of the reply: its clients wait for the whole one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from openapi_server.models.errors import Problem
from openapi_server.models.turn import FinishReason, Source, Stage, TurnRecord, TurnStatus, Usage
from openapi_server.models.turn_events import Completed, Entry, Failed, StageChanged, Started, TurnState
from openapi_server.wire.problem import encode_problem
from openapi_server.wire.sse import Contract, Frame, JsonObject
from openapi_server.wire.timestamps import format_timestamp


class ProgressStep(NamedTuple):
    """A step of a turn: its name, a message for people, and `progress` in percent, which never falls."""

    name: str
    message: str
    progress: int


INITIALIZING = ProgressStep("initializing", "Waking the animal up", 10)
LOADING = ProgressStep("loading_documents", "Reading the keepers' notes", 25)
ANALYZING = ProgressStep("analyzing", "Choosing what fits the question", 50)
GENERATING = ProgressStep("generating_response", "The animal is answering", 75)
COMPLETE = ProgressStep("complete", "The animal has answered", 100)

# The step that a turn has reached with a stage, by (stage, is_complete).
STEPS_BY_STAGE = {
    (Stage.RETRIEVAL, True): LOADING,
    (Stage.RERANKING, True): ANALYZING,
    (Stage.GENERATION, False): GENERATING,
}

JOB_STATUS = {
    TurnStatus.QUEUED: "pending",
    TurnStatus.RUNNING: "running",
    TurnStatus.SUCCEEDED: "succeeded",
    TurnStatus.STOPPED: "succeeded",
    TurnStatus.FAILED: "failed",
}


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    match entry.event:
        case Started() as started:
            # The first event discloses that the animal is a computer program, and names the assumed age group.
            details = {"age_group": started.age_group, "disclosure": started.disclosure}
            yield Frame(_encode_progress(INITIALIZING) | {"details": details}, event="progress", id=entry.id)
        case StageChanged(stage=stage, is_complete=is_complete, found=found) if (stage, is_complete) in STEPS_BY_STAGE:
            step = STEPS_BY_STAGE[stage, is_complete]
            yield Frame(_encode_progress(step) | _encode_details(found), event="progress", id=entry.id)
        case Completed() as completed:
            yield Frame(_encode_completed(completed), event="result")
            body = {"progress": COMPLETE.progress, "message": COMPLETE.message, "step": COMPLETE.name}
            yield Frame(body, event="complete", id=entry.id)
        case Failed(problem=problem):
            yield Frame(encode_error(problem), event="error", id=entry.id)


def encode_heartbeat(stage: Stage | None, elapsed_ms: int) -> str:
    return Frame({}, event="heartbeat").text


def is_job_mode(mode: str) -> bool:
    """Whether a valid `mode` asks for a job. What clients put behind the name means nothing.

    >>> is_job_mode("job/stream"), is_job_mode("sse/stream"), is_job_mode("")
    (True, False, False)
    """
    return mode.partition("/")[0] == "job"


def make_job_id(turn_id: str) -> str:
    """The id of a turn as a job.

    >>> make_job_id("turn_3b1f"), parse_job_id("job_3b1f")
    ('job_3b1f', 'turn_3b1f')
    """
    return "job_" + turn_id.removeprefix("turn_")


def parse_job_id(job_id: str) -> str:
    return "turn_" + job_id.removeprefix("job_")


def encode_accepted(turn_id: str, root_path: str = "") -> dict[str, object]:
    """The answer to a request with `?mode=job`. `root_path` is where a proxy serves the server, such as `/zoo`."""
    job_id = make_job_id(turn_id)
    return {"job_id": job_id, "status": "pending", "polling_url": f"{root_path}/jobs/{job_id}"}


def encode_job(turn: TurnRecord, live: TurnState | None) -> dict[str, object]:
    """A turn as a job: from the stored outcome once there is one, else from the events so far (`live`)."""
    outcome = turn.outcome
    job: dict[str, object] = {
        "job_id": make_job_id(turn.turn_id),
        "status": JOB_STATUS[turn.status],
        "latest_progress": _encode_progress(_find_step(turn, live)),
        "result": None,
        "error": None,
        "created_at": format_timestamp(turn.created_at),
        "updated_at": format_timestamp(turn.updated_at),
    }
    if turn.problem is not None:
        return job | encode_error(turn.problem)
    if outcome is not None:
        metadata = _encode_metadata(
            turn.turn_id, turn.session_id, outcome.finish_reason, outcome.usage, outcome.latency_ms
        )
        job["result"] = _encode_result(outcome.reply or "", outcome.sources, metadata)
    return job


def _find_step(turn: TurnRecord, live: TurnState | None) -> ProgressStep:
    if turn.outcome is None:
        reached = live.progress if live else 0
    elif turn.status is TurnStatus.FAILED and turn.is_queued:
        reached = INITIALIZING.progress
    elif turn.status is TurnStatus.FAILED:
        # Where it is not known, the last step before the end: a turn spends nearly all of its time in it, and no poll
        # can have shown a later one.
        reached = GENERATING.progress if turn.outcome.progress is None else turn.outcome.progress
    else:
        return COMPLETE
    return next((step for step in (GENERATING, ANALYZING, LOADING) if reached >= step.progress), INITIALIZING)


def _encode_progress(step: ProgressStep) -> dict[str, object]:
    return {"step": step.name, "message": step.message, "progress": step.progress}


def _encode_details(found: int | None) -> dict[str, object]:
    return {} if found is None else {"details": {"documents_found": found}}


def _encode_completed(completed: Completed) -> JsonObject:
    metadata = _encode_metadata(
        completed.turn_id, completed.session_id, completed.finish_reason, completed.usage, completed.latency_ms
    )
    return _encode_result(completed.reply, completed.sources, metadata)


def _encode_result(response: str, sources: tuple[Source, ...], metadata: dict[str, object]) -> dict[str, object]:
    return {"response": response, "sources": [_encode_source(source) for source in sources], "metadata": metadata}


def _encode_metadata(
    turn_id: str, session_id: str, finish_reason: FinishReason | None, usage: Usage, latency_ms: int
) -> dict[str, object]:
    return {
        "job_id": make_job_id(turn_id),
        "session_id": session_id,
        "finish_reason": finish_reason or FinishReason.STOP,
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "latency_ms": latency_ms,
    }


def _encode_source(source: Source) -> dict[str, object]:
    encoded: dict[str, object] = {
        "type": source.type,
        "title": source.title,
        "document_id": source.fact_id,
        "detail": source.topic,
    }
    return encoded | ({"url": source.url} if source.url else {})


def encode_error(problem: Problem) -> dict[str, object]:
    """`error` is a sentence for people, `problem` the problem object."""
    return {"error": problem.detail, "problem": encode_problem(problem)}


PLATFORM = Contract("platform", encode, encode_heartbeat)
