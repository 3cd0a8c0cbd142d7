"""Export and erasure of the caller's personal data."""

from __future__ import annotations

import json
from datetime import datetime
from functools import partial

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import authorize_account
from openapi_server.http.identity import DEVICE_COOKIE, derive_session_id, find_owner, get_name_scope, identify_device
from openapi_server.models.audit import AuditAction
from openapi_server.models.personal_data import DataSubject, PersonalData
from openapi_server.models.user import USER_PREFIX
from openapi_server.wire.personal_data import encode_erasure, encode_personal_data
from openapi_server.worker_threads import run_in_worker


@async_handler
async def export_privacy(context: RequestContext, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = _get_subject(context, user_id, session_id)
    data = await context.services.personal_data.export(subject)
    await record_audit(context, AuditAction.EXPORTED, subject.audit_name)
    # The document may be large: it is encoded off the event loop.
    body = await run_in_worker(partial(_encode_document, data, context.services.clock.now()))
    disposition = {"Content-Disposition": 'attachment; filename="zoochat.json"'}
    return Response(body, media_type="application/json", headers=disposition)


@async_handler
async def erase_privacy(context: RequestContext, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = _get_subject(context, user_id, session_id)
    erasure = await context.services.personal_data.erase(subject)
    await context.services.engine.delete_turns(erasure.turn_ids)
    await record_audit(context, AuditAction.ERASED, subject.audit_name)
    return JSONResponse(encode_erasure(erasure))


def _encode_document(data: PersonalData, at: datetime) -> str:
    return json.dumps(encode_personal_data(data, at), ensure_ascii=False, indent=2)


def _get_subject(context: RequestContext, user_id: str | None, session_name: str | None) -> DataSubject:
    """The account that is named; else the caller, identified by account or cookie, by the device that the request comes
    from, and by the name that a client of the `chat` contract gave its session."""
    if user_id is not None:
        return DataSubject(owner=USER_PREFIX + authorize_account(context, user_id))
    is_on_device = "x-device-id" in context.headers or DEVICE_COOKIE in context.cookies
    sessions = [identify_device(context).session_id] if is_on_device else []
    if session_name is not None:
        sessions.append(derive_session_id(context, "tokens", get_name_scope(context, session_name), session_name))
    return DataSubject(owner=find_owner(context), session_ids=tuple(sessions))
