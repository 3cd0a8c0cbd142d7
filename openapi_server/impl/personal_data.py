"""Privacy: what is kept of the caller, to be seen and to be erased."""

from __future__ import annotations

import asyncio
import json

from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from openapi_server.http.async_handlers import Call, on_loop
from openapi_server.http.audit import noted
from openapi_server.http.authorization import account_named
from openapi_server.http.identity import DEVICE_COOKIE, device_of, known_owner, scope_of, session_named
from openapi_server.models.audit import Deed
from openapi_server.models.personal_data import Subject
from openapi_server.models.user import USER_PREFIX
from openapi_server.wire.personal_data import dossier_object, erased_object

NO_STORE = {"Cache-Control": "no-store"}


@on_loop
async def export_privacy(call: Call, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = _subject(call, user_id, session_id)
    dossier = await call.services.privacy.dossier(subject)
    await noted(call, Deed.EXPORTED, subject.mark)
    shown = dossier_object(dossier, call.services.clock.now())
    # Of somebody who has talked for months it is long: nobody else waits for it.
    body = await asyncio.to_thread(json.dumps, shown, ensure_ascii=False, indent=2)
    disposition = {"Content-Disposition": 'attachment; filename="zoochat.json"'}
    return Response(body, media_type="application/json", headers=NO_STORE | disposition)


@on_loop
async def erase_privacy(call: Call, user_id: str | None = None, session_id: str | None = None) -> ASGIApp:
    subject = _subject(call, user_id, session_id)
    erased = await call.services.privacy.erase(subject)
    await call.services.engine.forget(erased.turn_ids)
    await noted(call, Deed.ERASED, subject.mark)
    return JSONResponse(erased_object(erased), headers=NO_STORE)


def _subject(call: Call, user_id: str | None, chosen: str | None) -> Subject:
    """The account that is named, or the caller: by account or cookie, by the device that the request comes from, and by
    the name that a client of the token stream chose for its session."""
    if user_id is not None:
        return Subject(owner=USER_PREFIX + account_named(call, user_id))
    is_on_device = "x-device-id" in call.headers or DEVICE_COOKIE in call.cookies
    sessions = [device_of(call).session_id] if is_on_device else []
    if chosen is not None:
        sessions.append(session_named(call, "tokens", scope_of(call, chosen), chosen))
    return Subject(owner=known_owner(call), session_ids=tuple(sessions))
