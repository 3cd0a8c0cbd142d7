"""The zoo's own contract, `/convo_turn_stream`: metadata, typing, progress, chunk, heartbeat, complete, error."""

from __future__ import annotations

from collections.abc import Iterator

from openapi_server.models.errors import Problem
from openapi_server.models.turn import Source, Stage
from openapi_server.models.turn_events import (
    Chunk,
    Completed,
    Entry,
    Failed,
    StageChanged,
    Started,
    TypingStarted,
    TypingStopped,
)
from openapi_server.wire.problem import encode_problem
from openapi_server.wire.sse import Contract, Frame, JsonObject
from openapi_server.wire.timestamps import format_timestamp


def encode(entry: Entry) -> Iterator[Frame]:
    """Frames for one log entry. Pure and stateless, so a resumed stream repeats the same bytes."""
    name, body = _encode_event(entry)
    yield Frame({"type": name, **body}, event=name, id=entry.id)


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
    raise TypeError(f"no word in this contract for {type(entry.event).__name__}")


def _encode_timestamp(entry: Entry) -> dict[str, object]:
    return {"timestamp": format_timestamp(entry.at)}


def _encode_started(started: Started) -> dict[str, object]:
    return {
        "turnId": started.turn_id,
        "sessionId": started.session_id,
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
    """A source as this contract shows it: `url` only where there is one."""
    shown: dict[str, object] = {
        "factId": source.fact_id,
        "topic": source.topic,
        "type": source.type,
        "title": source.title,
    }
    return shown | ({"url": source.url} if source.url else {})


def encode_error(problem: Problem) -> dict[str, object]:
    """The problem object with this contract's own key beside it."""
    return encode_problem(problem) | {"retryable": problem.retryable}


def encode_heartbeat(stage: Stage | None, elapsed_ms: int) -> str:
    """A named event without an id: it says which stage the turn is in, and for how long it has run."""
    body = {"type": "heartbeat", "stage": stage or "queued", "elapsedMs": elapsed_ms}
    return Frame(body, event="heartbeat").text


CONVO = Contract("convo", encode, encode_heartbeat)
