"""A dossier on the wire: one JSON document with all that is kept of somebody."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime

from openapi_server.models.audit import AuditEntry
from openapi_server.models.credits import LedgerEntry
from openapi_server.models.personal_data import Account, Dossier, Erased, Talk
from openapi_server.models.session import DeviceUser, Outcome, TurnRecord
from openapi_server.models.user import Login
from openapi_server.wire.convo import source_object
from openapi_server.wire.convo_json import moderation_object
from openapi_server.wire.timestamps import iso_millis


def dossier_object(dossier: Dossier, at: datetime) -> dict[str, object]:
    return {
        "exportedAt": iso_millis(at),
        "account": _account(dossier.account) if dossier.account else None,
        "devices": [_device(device) for device in dossier.devices],
        "sessions": [_talk(talk) for talk in dossier.talks],
        "audit": [audit_object(entry) for entry in dossier.deeds],
    }


def erased_object(erased: Erased) -> dict[str, int]:
    return {
        "sessions": erased.sessions,
        "turns": erased.turns,
        "messages": erased.messages,
        "devices": erased.devices,
    }


def audit_object(entry: AuditEntry) -> dict[str, object]:
    return {
        "at": iso_millis(entry.at),
        "deed": entry.deed,
        "role": entry.actor.role,
        "name": entry.actor.name,
        "about": entry.about,
        "requestId": entry.request_id,
    }


def _account(account: Account) -> dict[str, object]:
    """Without the password's hash: it is of use only to whoever wants to guess the password."""
    user, balance = account.user, account.balance
    return {
        "username": user.username,
        "role": user.role,
        "createdAt": iso_millis(user.created_at),
        "parent": user.parent,
        "logins": [_login(login) for login in account.logins],
        "credits": {
            "balance": balance.credits,
            "expiresAt": _moment(balance.expires_at),
            "ledger": [_ledger_entry(entry) for entry in account.entries],
        },
    }


def _login(login: Login) -> dict[str, object]:
    return {"beganAt": iso_millis(login.began_at), "expiresAt": iso_millis(login.expires_at)}


def _ledger_entry(entry: LedgerEntry) -> dict[str, object]:
    return {
        "entryId": entry.entry_id,
        "kind": entry.kind,
        "credits": entry.credits,
        "at": iso_millis(entry.at),
        "turnId": entry.turn_id,
        "notes": entry.notes,
    }


def _device(device: DeviceUser) -> dict[str, object]:
    return {"sessionId": device.user_id, "handle": device.handle, "createdAt": iso_millis(device.created_at)}


def _talk(talk: Talk) -> dict[str, object]:
    session = talk.session
    return {
        "sessionId": session.session_id,
        "animalId": session.animal_id,
        "owner": session.owner,
        "device": session.handle,
        "title": session.title,
        "opening": session.opening,
        "createdAt": iso_millis(session.created_at),
        "lastMessageAt": iso_millis(session.last_message_at),
        "expiresAt": iso_millis(session.expires_at),
        "turns": [_turn(turn) for turn in talk.turns],
    }


def _turn(turn: TurnRecord) -> dict[str, object]:
    return {
        "turnId": turn.turn_id,
        "animalId": turn.animal_id,
        "ageGroup": turn.age_group,
        "model": turn.model,
        "metadata": json.loads(turn.metadata) if turn.metadata else None,
        "status": turn.status,
        "messages": list(_messages(turn)),
        **(_outcome(turn.outcome) if turn.outcome else {}),
    }


def _messages(turn: TurnRecord) -> Iterator[dict[str, object]]:
    asked = {"direction": "incoming", "body": turn.message, "createdAt": iso_millis(turn.created_at)}
    yield asked | {"mediaUrls": list(turn.media_urls)}
    if turn.outcome and turn.outcome.reply is not None:
        yield {"direction": "outgoing", "body": turn.outcome.reply, "createdAt": iso_millis(turn.outcome.ended_at)}


def _outcome(outcome: Outcome) -> dict[str, object]:
    return {
        "endedAt": iso_millis(outcome.ended_at),
        "finishReason": outcome.finish_reason,
        "sources": [source_object(source) for source in outcome.sources],
        "moderation": moderation_object(outcome.moderation),
        "usage": {
            "promptTokens": outcome.usage.prompt_tokens,
            "completionTokens": outcome.usage.completion_tokens,
        },
        "creditsUsed": outcome.credits_used,
        "error": outcome.problem.code if outcome.problem else None,
    }


def _moment(at: datetime | None) -> str | None:
    return iso_millis(at) if at else None
