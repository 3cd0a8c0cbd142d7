"""The JSON of `GET /privacy/export`, of `DELETE /privacy`, and of audit entries."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from openapi_server.models.audit import AuditEntry
from openapi_server.models.credits import CreditEntry
from openapi_server.models.personal_data import AccountData, Erasure, PersonalData, SessionData
from openapi_server.models.session import DeviceUser
from openapi_server.models.turn import Outcome, TurnRecord
from openapi_server.models.user import Login
from openapi_server.wire.convo import encode_moderation, encode_source
from openapi_server.wire.timestamps import format_timestamp


def encode_personal_data(data: PersonalData, at: datetime) -> dict[str, object]:
    return {
        "exportedAt": format_timestamp(at),
        "account": _encode_account(data.account) if data.account else None,
        "devices": [_encode_device(device) for device in data.devices],
        "sessions": [_encode_session(session) for session in data.sessions],
        "audit": [encode_audit_entry(entry) for entry in data.audit_entries],
    }


def encode_erasure(erasure: Erasure) -> dict[str, int]:
    return {
        "sessions": erasure.sessions,
        "turns": erasure.turns,
        "messages": erasure.messages,
        "devices": erasure.devices,
    }


def encode_audit_entry(entry: AuditEntry) -> dict[str, object]:
    return {
        "at": format_timestamp(entry.at),
        "deed": entry.action,
        "role": entry.actor.role,
        "name": entry.actor.name,
        "about": entry.target,
        "requestId": entry.request_id,
    }


def _encode_account(account: AccountData) -> dict[str, object]:
    """Without the hash of the password, which helps only those who want to guess it."""
    user, balance = account.user, account.balance
    return {
        "username": user.username,
        "role": user.role,
        "createdAt": format_timestamp(user.created_at),
        "parent": user.parent,
        "logins": [_encode_login(login) for login in account.logins],
        "credits": {
            "balance": balance.credits,
            "expiresAt": _encode_time(balance.expires_at),
            "ledger": [_encode_credit_entry(entry) for entry in account.credit_entries],
        },
    }


def _encode_login(login: Login) -> dict[str, object]:
    return {"beganAt": format_timestamp(login.began_at), "expiresAt": format_timestamp(login.expires_at)}


def _encode_credit_entry(entry: CreditEntry) -> dict[str, object]:
    return {
        "entryId": entry.entry_id,
        "kind": entry.kind,
        "credits": entry.credits,
        "at": format_timestamp(entry.at),
        "turnId": entry.turn_id,
        "notes": entry.notes,
        "tokens": entry.tokens,
        "spent": entry.spent,
    }


def _encode_device(device: DeviceUser) -> dict[str, object]:
    return {"sessionId": device.user_id, "handle": device.handle, "createdAt": format_timestamp(device.created_at)}


def _encode_session(data: SessionData) -> dict[str, object]:
    session = data.session
    return {
        "sessionId": session.session_id,
        "animalId": session.animal_id,
        "owner": session.owner,
        "device": session.handle,
        "name": session.name,
        "title": session.title,
        "opening": session.opening,
        "createdAt": format_timestamp(session.created_at),
        "lastMessageAt": format_timestamp(session.last_message_at),
        "expiresAt": format_timestamp(session.expires_at),
        "turns": [_encode_turn(turn) for turn in data.turns],
    }


def _encode_turn(turn: TurnRecord) -> dict[str, object]:
    return {
        "turnId": turn.turn_id,
        "animalId": turn.animal_id,
        "ageGroup": turn.age_group,
        "model": turn.model,
        "metadata": json.loads(turn.metadata) if turn.metadata else None,
        "status": turn.status,
        "messages": list(_encode_messages(turn)),
        **(_encode_outcome(turn.outcome) if turn.outcome else {}),
    }


def _encode_messages(turn: TurnRecord) -> Iterator[dict[str, object]]:
    incoming = {"direction": "incoming", "body": turn.message, "createdAt": format_timestamp(turn.created_at)}
    yield incoming | {"mediaUrls": list(turn.media_urls)}
    if turn.outcome and turn.outcome.reply is not None:
        yield {
            "direction": "outgoing",
            "body": turn.outcome.reply,
            "createdAt": format_timestamp(turn.outcome.ended_at),
        }


def _encode_outcome(outcome: Outcome) -> dict[str, object]:
    return {
        "endedAt": format_timestamp(outcome.ended_at),
        "finishReason": outcome.finish_reason,
        "sources": [encode_source(source) for source in outcome.sources],
        "moderation": encode_moderation(outcome.moderation),
        "usage": {
            "promptTokens": outcome.usage.prompt_tokens,
            "completionTokens": outcome.usage.completion_tokens,
        },
        "creditsUsed": outcome.credits_used,
        "error": outcome.problem.code if outcome.problem else None,
    }


def _encode_time(at: datetime | None) -> str | None:
    return format_timestamp(at) if at else None
