"""Export and erasure of the caller's personal data."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import authorize_account, find_token_session
from openapi_server.http.identity import choose_session_id, find_owner, get_device_cookie
from openapi_server.http.named_sessions import CHAT, CONVO, find_device_session, find_named_session
from openapi_server.models.audit import AuditAction
from openapi_server.models.personal_data import DataSubject, Erasure, PersonalData
from openapi_server.models.user import USER_PREFIX
from openapi_server.wire.personal_data import encode_erasure, encode_personal_data
from openapi_server.worker_threads import run_in_worker


@async_handler
async def export_privacy(context: RequestContext, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = await _find_subject(context, user_id, session_id)
    data = await context.services.personal_data.export(subject)
    if not data.is_empty:
        await record_audit(context, AuditAction.EXPORTED, subject.audit_name)
    # The document may be large: it is encoded off the event loop.
    body = await run_in_worker(partial(_encode_document, data, context.services.clock.now()))
    disposition = {"Content-Disposition": 'attachment; filename="zoochat.json"'}
    return Response(body, media_type="application/json", headers=disposition)


@async_handler
async def erase_privacy(context: RequestContext, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = await _find_subject(context, user_id, session_id)
    erasure = await context.services.personal_data.erase(subject)
    await context.services.engine.delete_turns(erasure.turn_ids)
    # Erasing the data of nobody is not recorded: anybody could fill the audit trail with it.
    if erasure != Erasure() or not (await context.services.personal_data.export(subject)).is_empty:
        await record_audit(context, AuditAction.ERASED, subject.audit_name)
    return JSONResponse(encode_erasure(erasure))


def _encode_document(data: PersonalData, at: datetime) -> str:
    return json.dumps(encode_personal_data(data, at), ensure_ascii=False, indent=2)


async def _find_subject(context: RequestContext, user_id: str | None, session_name: str | None) -> DataSubject:
    """The account that is named; else the caller, identified by account or cookie, by the session token, by the device
    that the request comes from, and by the name that a client gave its session.

    Where a device or a name is not enough to read a session, it names nothing.
    """
    if user_id is not None:
        return DataSubject(owner=USER_PREFIX + authorize_account(context, user_id))
    token_session = await find_token_session(context)
    sessions = [token_session.session_id if token_session else None]
    if "x-device-id" in context.headers or get_device_cookie(context):
        sessions.append((await find_device_session(context)).readable_id)
    name = choose_session_id(context, session_name, "session_id")
    if name is not None:
        sessions += [(await find_named_session(context, kind, name)).readable_id for kind in (CHAT, CONVO)]
    session_ids = dict.fromkeys(session_id for session_id in sessions if session_id is not None)
    return DataSubject(owner=find_owner(context), session_ids=tuple(session_ids))
