"""The zoo's own contract: the events of `/convo_turn_stream`, and the JSON of `/convo_turn`.

The stream is `metadata`, `typing` start, `progress`, `chunk` for each piece of the reply, `typing` stop, and
`complete` or `error`, with a `heartbeat` in every long silence.
"""

from __future__ import annotations

from collections.abc import Iterator

from openapi_server.models.errors import Problem
from openapi_server.models.turn import Moderation, Outcome, Source, Stage, TurnRecord, TurnStatus
from openapi_server.models.turn_event_order import STAGE_PROGRESS
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Entry,
    Failed,
    StageChanged,
    Started,
    TurnState,
    TypingStarted,
    TypingStopped,
)
from openapi_server.wire.problem import encode_problem
from openapi_server.wire.sse import Contract, Frame, JsonObject, encode_id_field, encode_text
from openapi_server.wire.timestamps import format_timestamp


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    name, body = _encode_event(entry)
    yield Frame({"type": name, **body}, event=name, id=entry.id)


def encode_chunk(entry: Entry, chunk: Chunk) -> str:
    """The text of the frame that `encode` yields."""
    data = f'{{"type":"chunk","chunkId":{chunk.index},"content":{encode_text(chunk.text)}}}'
    return f"{encode_id_field(entry)}event: chunk\ndata: {data}\n\n"


def _encode_event(entry: Entry) -> tuple[str, JsonObject]:
    match entry.event:
        case Chunk(index=index, text=text):
            return "chunk", {"chunkId": index, "content": text}
        case Started() as started:
            return "metadata", _encode_started(started) | _encode_timestamp(entry)
        case TypingStarted():
            return "typing", {"status": "start"} | _encode_timestamp(entry)
        case TypingStopped(duration_ms=duration_ms):
            return "typing", {"status": "stop", "durationMs": duration_ms} | _encode_timestamp(entry)
        case StageChanged() as change:
            return "progress", _encode_progress(change) | _encode_timestamp(entry)
        case Completed() as completed:
            return "complete", _encode_completed(completed) | _encode_timestamp(entry)
        case Failed(problem=problem):
            return "error", {"error": encode_error(problem)} | _encode_timestamp(entry)
    raise TypeError(f"this contract has no event for {type(entry.event).__name__}")


def _encode_timestamp(entry: Entry) -> dict[str, object]:
    return {"timestamp": format_timestamp(entry.at)}


def _encode_started(started: Started) -> dict[str, object]:
    return {
        "turnId": started.turn_id,
        "sessionId": started.session_name or started.session_id,
        "animalId": started.animal_id,
        "animalName": started.animal_name,
        "model": started.model,
        "ageGroup": started.age_group,
        "disclosure": started.disclosure,
    }


def _encode_progress(change: StageChanged) -> dict[str, object]:
    return {
        "stage": change.stage,
        "status": "complete" if change.is_complete else "started",
        "progress": change.progress,
        "detail": change.detail,
    }


def _encode_completed(completed: Completed) -> dict[str, object]:
    return {
        "turnId": completed.turn_id,
        "sessionId": completed.session_id,
        "fullResponse": completed.reply,
        "chunkCount": completed.chunk_count,
        "finishReason": completed.finish_reason,
        "sources": [encode_source(source) for source in completed.sources],
        "usage": {
            "promptTokens": completed.usage.prompt_tokens,
            "completionTokens": completed.usage.completion_tokens,
        },
        "latencyMs": completed.latency_ms,
        "firstTokenMs": completed.first_token_ms,
        "heldBackMs": completed.held_back_ms,
        "model": completed.model,
    }


def encode_source(source: Source) -> dict[str, object]:
    """A source, without `url` when it has none."""
    encoded: dict[str, object] = {
        "factId": source.fact_id,
        "topic": source.topic,
        "type": source.type,
        "title": source.title,
    }
    return encoded | ({"url": source.url} if source.url else {})


def encode_error(problem: Problem) -> dict[str, object]:
    """The problem object and `retryable`."""
    return encode_problem(problem) | {"retryable": problem.retryable}


def encode_heartbeat(stage: Stage | None, elapsed_ms: int) -> str:
    """The heartbeat event: the stage of the turn and how long it has run, in milliseconds. It has no id."""
    body = {"type": "heartbeat", "stage": stage or "queued", "elapsedMs": elapsed_ms}
    return Frame(body, event="heartbeat").text


def encode_answer(turn: TurnRecord, session_id: str) -> dict[str, object]:
    """The JSON answer of `POST /convo_turn`, for a turn that has ended without an error.

    `session_id` is the session's id, or the name that the client gave it.
    """
    outcome = _require_outcome(turn)
    timestamp = format_timestamp(outcome.ended_at)
    return {
        "reply": outcome.reply or "",
        "sessionId": session_id,
        "turnId": turn.turn_id,
        "timestamp": timestamp,
        "turn": {
            "convoTurnId": turn.turn_id,
            "timestamp": timestamp,
            "tokensPrompt": outcome.usage.prompt_tokens,
            "tokensCompletion": outcome.usage.completion_tokens,
            "latencyMs": outcome.latency_ms,
        },
        "moderation": encode_moderation(outcome.moderation),
        "sources": [encode_source(source) for source in outcome.sources],
        "metadata": {"animalId": turn.animal_id, "model": outcome.model or turn.model},
    }


def encode_moderation(moderation: Moderation) -> dict[str, object]:
    return {"flagged": moderation.flagged, "categories": list(moderation.categories)}


def encode_stop(turn: TurnRecord, took_ms: int) -> dict[str, object]:
    """The answer to a stop request: how the turn ended, by this stop or before it, and how long stopping took."""
    outcome = _require_outcome(turn)
    return {
        "turnId": turn.turn_id,
        "status": outcome.status,
        "finishReason": outcome.finish_reason,
        "reply": outcome.reply or "",
        "stoppedInMs": took_ms,
    }


def encode_state(turn: TurnRecord, live: TurnState | None) -> dict[str, object]:
    """The status of a turn: from the stored outcome once there is one, else from the events so far (`live`)."""
    state: dict[str, object] = {
        "turnId": turn.turn_id,
        "status": turn.status,
        "progress": _find_progress(turn, live),
        "createdAt": format_timestamp(turn.created_at),
        "updatedAt": format_timestamp(turn.updated_at),
    }
    reply = turn.outcome.reply if turn.outcome else (live.reply if live else None)
    if reply:
        state["reply"] = reply
    problem = _find_problem(turn, live)
    if problem is not None:
        state["error"] = encode_error(problem)
    return state


def _find_progress(turn: TurnRecord, live: TurnState | None) -> int:
    if turn.outcome is None:
        return live.progress if live else 0
    if turn.status is not TurnStatus.FAILED:
        return 100
    if turn.is_queued:
        return 0
    if turn.outcome.progress is None:
        # Not known. A turn spends nearly all of its time in generation.
        return STAGE_PROGRESS[Stage.GENERATION][False]
    return turn.outcome.progress


def _find_problem(turn: TurnRecord, live: TurnState | None) -> Problem | None:
    if turn.outcome is not None:
        return turn.outcome.problem
    return live.terminal_event.problem if live and isinstance(live.terminal_event, Failed) else None


def _require_outcome(turn: TurnRecord) -> Outcome:
    if turn.outcome is None:
        raise ValueError("the turn has not ended")
    return turn.outcome


CONVO = Contract("convo", encode, encode_heartbeat, encode_chunk)
