"""Sessions that a client names itself: its own `sessionId` of the zoo's contract, the `session_id` of `/chat`, and the
devices of `/chat/` and `/chat/stream`.

A name counts within the caller's account or session cookie. A caller without either is given a cookie and a session
token with the first answer, and until one of them comes with a message, the name alone continues the conversation: a
UUID from anywhere, any other name from the same address, and that only with `SESSION_BINDING=id`. That message claims
the session; from then on its cookie or token is needed. Nothing else claims it: no other cookie and no login, which
anybody may bring, and no request that only reads.

Reading or changing the session of a device, and exporting or erasing any, takes more than a name that others can guess:
see `NamedSession.readable_id`.
"""

from __future__ import annotations

import hashlib
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server.engine.turn_request import SessionRef
from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.authorization import Access, get_authorized_session
from openapi_server.http.identity import (
    DEVICE_COOKIE,
    Identity,
    build_cookie,
    derive_name_key,
    derive_session_id,
    derive_session_name,
    find_owner,
    get_anonymous_scope,
    get_device_cookie,
    is_unguessable,
    make_new_cookie_identity,
    read_session_token,
)
from openapi_server.models.errors import SessionNotFound, StoreUnavailable
from openapi_server.models.ids import is_made_id
from openapi_server.models.session import SessionClaim, SessionRecord
from openapi_server.models.user import USER_PREFIX, derive_device_owner

CHAT, CONVO, DEVICE = "tokens", "convo", "device"


@dataclass(frozen=True, slots=True)
class NamedSession:
    """The session that a client's own name stands for, for this caller.

    `record`: the stored session, None before its first message. `is_proved`: the caller showed the cookie, login or
    token of the session, or would begin it in a scope that is the caller's alone.
    """

    session_id: str
    name_key: str
    identity: Identity
    is_proved: bool
    is_unguessable: bool
    record: SessionRecord | None = None
    handle: str | None = None
    name: str | None = None

    @property
    def ref(self) -> SessionRef:
        """For a turn in this session."""
        return SessionRef(
            session_id=self.session_id,
            owner=self.identity.owner,
            is_client_chosen=True,
            handle=self.handle,
            name_key=self.name_key,
            name=self.name,
            is_proved=self.is_proved,
        )

    @property
    def readable_id(self) -> str | None:
        """The id of the stored session, if this caller may read, change, export and erase it.

        A name that others can guess is not enough, not even from the same address.
        """
        return self.session_id if self.record and (self.is_proved or self.is_unguessable) else None

    @property
    def key_scopes(self) -> tuple[str, ...]:
        """Where idempotency keys count besides the owner: a UUID is as good as an owner."""
        return (self.session_id,) if self.is_unguessable and not self.is_proved else ()


def make_session_name(context: RequestContext) -> str:
    """The name of a new session of a client that leaves the choice to the server: a UUID, which nobody else knows."""
    key = context.headers.get("idempotency-key")
    derived = derive_session_name(context, key, find_owner(context)) if key else None
    return derived or str(uuid.uuid4())


async def find_named_session(
    context: RequestContext, kind: str, name: str, *, handle: str | None = None, is_storage_optional: bool = False
) -> NamedSession:
    """The caller's session with the name. It takes one read of the store, whoever calls.

    With `is_storage_optional`, a store that cannot be read counts as one without sessions.
    """
    shown_name = name if kind == CONVO else None
    name_key = derive_name_key(context, kind, name)
    owner, token_id = find_owner(context), read_session_token(context)
    open_id = derive_session_id(context, kind, get_anonymous_scope(context, name), name)
    own_id = derive_session_id(context, kind, owner, name) if owner else None
    ids = [each for each in (own_id, open_id, token_id) if each is not None]
    found = await _find_records(context, ids, owner, name_key, is_storage_optional=is_storage_optional)
    is_uuid = is_unguessable(name)

    def make(session_id: str, owner: str | None, *, is_proved: bool, record: SessionRecord | None) -> NamedSession:
        identity = make_new_cookie_identity(context) if owner is None else Identity(owner)
        return NamedSession(session_id, name_key, identity, is_proved, is_uuid, record, handle, shown_name)

    proved = _choose_proved(found, own_id, owner, token_id, name_key)
    if proved is not None:
        return make(proved.session_id, proved.owner or owner, is_proved=True, record=proved)
    open_record = next((record for record in found if record.session_id == open_id), None)
    is_open = is_uuid or not context.services.settings.binds_sessions_to_callers
    if owner is not None:
        # A UUID that nobody has claimed yet: another cookie or login opens no more than the name alone does.
        if is_uuid and open_record is not None and not open_record.is_claimed:
            return make(open_id, owner, is_proved=False, record=open_record)
        return make(own_id or open_id, owner, is_proved=True, record=None)
    if is_open and (open_record is None or not open_record.is_claimed):
        return make(open_id, None, is_proved=False, record=open_record)
    stranger = make_new_cookie_identity(context)
    own_id = derive_session_id(context, kind, stranger.owner, name)
    return NamedSession(own_id, name_key, stranger, True, is_uuid, handle=handle, name=shown_name)


async def find_convo_session(
    context: RequestContext, session_id: str, access: Access, detail: str | None = None
) -> SessionRecord:
    """The stored session that a client of the zoo's contract means: by the server's id, or by its own name for it.

    A name reaches the session that it begins or continues, and no other. Raises `SessionNotFound` with the detail.
    """
    if is_made_id("sess", session_id):
        return await get_authorized_session(context, session_id, access, detail)
    named = await find_named_session(context, CONVO, session_id)
    if named.record is None:
        raise SessionNotFound(detail)
    return named.record


async def find_device_session(context: RequestContext, *, is_storage_optional: bool = False) -> NamedSession:
    """The session of the device that `X-Device-ID` names, else the device cookie; a new device gets a cookie."""
    name = context.headers.get("x-device-id")
    if name is not None:
        return await find_named_session(
            context, DEVICE, name, handle=f"chat_{name}", is_storage_optional=is_storage_optional
        )
    cookie = get_device_cookie(context)
    value = cookie or secrets.token_urlsafe(16)
    owner = find_owner(context) or derive_device_owner(value)
    # The cookie is secret and unique by itself. Two users of one device have two sessions.
    session_id = derive_session_id(context, DEVICE, context.user.owner if context.user else "cookie", value)
    name_key, token_id = derive_name_key(context, DEVICE, ""), read_session_token(context)
    ids = [session_id] if token_id is None else [session_id, token_id]
    found = await _find_records(context, ids, None, name_key, is_storage_optional=is_storage_optional)
    record = _choose_proved(found, session_id, None, token_id, name_key)
    if record is not None:
        session_id, owner = record.session_id, record.owner or owner
    set_cookie = None if cookie or record else build_cookie(context, DEVICE_COOKIE, value)
    # The name stands in logs and answers.
    handle = record.handle if record else f"chat_{hashlib.sha256(value.encode()).hexdigest()[:16]}"
    return NamedSession(session_id, name_key, Identity(owner, set_cookie), True, False, record, handle)


async def _find_records(
    context: RequestContext, ids: Sequence[str], owner: str | None, name_key: str, *, is_storage_optional: bool
) -> Sequence[SessionRecord]:
    try:
        return await context.services.store.find_named_sessions(ids, owner, name_key)
    except StoreUnavailable:
        if not is_storage_optional:
            raise
        return ()


def _choose_proved(
    found: Sequence[SessionRecord], own_id: str | None, owner: str | None, token_id: str | None, name_key: str
) -> SessionRecord | None:
    """The session whose token the caller shows, else the one that is the caller's by cookie or login."""
    for record in found:
        is_visitors = not (record.owner or "").startswith(USER_PREFIX)
        if record.session_id == token_id and record.name_key == name_key and is_visitors:
            return record
    for record in found:
        if record.session_id == own_id:
            return record
    own = SessionClaim(owner, is_proved=True)
    return next(
        (each for each in found if owner and each.owner == owner and each.name_key == name_key and own.matches(each)),
        None,
    )
