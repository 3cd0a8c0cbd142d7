"""Privacy: what is kept of the caller, to be seen and to be erased."""

from __future__ import annotations

import asyncio
import json

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import RequestContext, async_handler
from openapi_server.http.audit import record_audit
from openapi_server.http.authorization import authorize_account
from openapi_server.http.identity import DEVICE_COOKIE, derive_session_id, find_owner, get_name_scope, identify_device
from openapi_server.models.audit import AuditAction
from openapi_server.models.personal_data import DataSubject
from openapi_server.models.user import USER_PREFIX
from openapi_server.wire.personal_data import encode_erasure, encode_personal_data

NO_STORE = {"Cache-Control": "no-store"}


@async_handler
async def export_privacy(context: RequestContext, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = _get_subject(context, user_id, session_id)
    dossier = await context.services.personal_data.export(subject)
    await record_audit(context, AuditAction.EXPORTED, subject.audit_name)
    shown = encode_personal_data(dossier, context.services.clock.now())
    # Of somebody who has talked for months it is long: nobody else waits for it.
    body = await asyncio.to_thread(json.dumps, shown, ensure_ascii=False, indent=2)
    disposition = {"Content-Disposition": 'attachment; filename="zoochat.json"'}
    return Response(body, media_type="application/json", headers=NO_STORE | disposition)


@async_handler
async def erase_privacy(context: RequestContext, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = _get_subject(context, user_id, session_id)
    erased = await context.services.personal_data.erase(subject)
    await context.services.engine.delete_turns(erased.turn_ids)
    await record_audit(context, AuditAction.ERASED, subject.audit_name)
    return JSONResponse(encode_erasure(erased), headers=NO_STORE)


def _get_subject(context: RequestContext, user_id: str | None, chosen: str | None) -> DataSubject:
    """The account that is named, or the caller: by account or cookie, by the device that the request comes from, and by
    the name that a client of the token stream chose for its session."""
    if user_id is not None:
        return DataSubject(owner=USER_PREFIX + authorize_account(context, user_id))
    is_on_device = "x-device-id" in context.headers or DEVICE_COOKIE in context.cookies
    sessions = [identify_device(context).session_id] if is_on_device else []
    if chosen is not None:
        sessions.append(derive_session_id(context, "tokens", get_name_scope(context, chosen), chosen))
    return DataSubject(owner=find_owner(context), session_ids=tuple(sessions))
