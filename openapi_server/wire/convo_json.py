"""The zoo's own contract as JSON: the whole answer of a turn, and the state that polling shows."""

from __future__ import annotations

from openapi_server.errors import Problem
from openapi_server.records import TurnRecord
from openapi_server.turn import Completed, Failed, Moderation, Started, TurnState
from openapi_server.wire.convo import error_object, source_object
from openapi_server.wire.timestamps import iso_millis


def answer_object(started: Started, completed: Completed, timestamp: str) -> dict[str, object]:
    """The answer of `POST /convo_turn`."""
    return {
        "reply": completed.reply,
        "sessionId": started.session_id,
        "turnId": started.turn_id,
        "timestamp": timestamp,
        "turn": {
            "convoTurnId": started.turn_id,
            "timestamp": timestamp,
            "tokensPrompt": completed.usage.prompt_tokens,
            "tokensCompletion": completed.usage.completion_tokens,
            "latencyMs": completed.latency_ms,
        },
        "moderation": moderation_object(completed.moderation),
        "sources": [source_object(source) for source in completed.sources],
        "metadata": {"animalId": started.animal_id},
    }


def moderation_object(moderation: Moderation) -> dict[str, object]:
    return {"flagged": moderation.flagged, "categories": list(moderation.categories)}


def state_object(turn: TurnRecord, live: TurnState | None) -> dict[str, object]:
    """A turn as polling shows it: the stored outcome once there is one, else what its log says so far."""
    state: dict[str, object] = {
        "turnId": turn.turn_id,
        "status": turn.status,
        "progress": 100 if turn.outcome else (live.progress if live else 0),
        "createdAt": iso_millis(turn.created_at),
        "updatedAt": iso_millis(turn.updated_at),
    }
    reply = turn.outcome.reply if turn.outcome else (live.reply if live else None)
    if reply:
        state["reply"] = reply
    problem = _problem(turn, live)
    if problem is not None:
        state["error"] = error_object(problem)
    return state


def _problem(turn: TurnRecord, live: TurnState | None) -> Problem | None:
    if turn.outcome is not None:
        return turn.outcome.problem
    return live.ending.problem if live and isinstance(live.ending, Failed) else None
