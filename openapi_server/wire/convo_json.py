"""The zoo's own contract as JSON: the whole answer of a turn, its state while it is polled, and how it was stopped."""

from __future__ import annotations

from openapi_server.models.errors import Problem
from openapi_server.models.turn import Moderation, Outcome, TurnRecord
from openapi_server.models.turn_events import Failed, TurnState
from openapi_server.wire.convo import encode_error, encode_source
from openapi_server.wire.timestamps import format_timestamp


def encode_answer(turn: TurnRecord) -> dict[str, object]:
    """The answer of `POST /convo_turn`: a turn that has ended, and not in a problem."""
    outcome = _require_outcome(turn)
    timestamp = format_timestamp(outcome.ended_at)
    return {
        "reply": outcome.reply or "",
        "sessionId": turn.session_id,
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
    """The answer of a stop: how the turn ended, by this stop or before it, and how long stopping took."""
    outcome = _require_outcome(turn)
    return {
        "turnId": turn.turn_id,
        "status": outcome.status,
        "finishReason": outcome.finish_reason,
        "reply": outcome.reply or "",
        "stoppedInMs": took_ms,
    }


def encode_state(turn: TurnRecord, live: TurnState | None) -> dict[str, object]:
    """A turn as polling shows it: the stored outcome once there is one, else what its log says so far."""
    state: dict[str, object] = {
        "turnId": turn.turn_id,
        "status": turn.status,
        "progress": 100 if turn.outcome else (live.progress if live else 0),
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


def _find_problem(turn: TurnRecord, live: TurnState | None) -> Problem | None:
    if turn.outcome is not None:
        return turn.outcome.problem
    return live.terminal_event.problem if live and isinstance(live.terminal_event, Failed) else None


def _require_outcome(turn: TurnRecord) -> Outcome:
    if turn.outcome is None:
        raise ValueError("the turn has not ended")
    return turn.outcome
