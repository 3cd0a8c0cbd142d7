"""Authorization: who may read or change which session, turn, job or account.

A user's things need that user, the user's parent, or a role that may see them. What belongs to a visitor without an
account needs, with `SESSION_BINDING=id`, no more than its id, which the server made and nobody can guess; with `caller`
the cookie, device or session token that began it. What the caller may not see answers like what does not exist, after
the same reads of the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.audit import record_audit
from openapi_server.http.identity import list_owners, read_session_token
from openapi_server.models.audit import AuditAction, shorten_owner
from openapi_server.models.errors import SessionNotFound, TurnNotFound, UserNotFound
from openapi_server.models.ids import shorten_id
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import TurnRecord
from openapi_server.models.user import USER_PREFIX, AuthenticatedUser, Role


class Access(Enum):
    """What the caller wants to do. `WRITE` is sending a message, and confirming or stopping its reply."""

    READ = auto()
    WRITE = auto()
    DELETE = auto()


def is_allowed(user: AuthenticatedUser | None, owner: str | None, access: Access) -> bool:
    """The rule: users may do all with their own, administrators with everybody's; parents may read and delete their
    children's, but neither speak for them nor spend their credits; zookeepers may read everybody's.

    >>> is_allowed(None, "cookie:1f", Access.WRITE), is_allowed(None, "user:mia", Access.READ)
    (True, False)
    """
    if owner is None or not owner.startswith(USER_PREFIX):
        return True
    if user is None:
        return False
    username = owner.removeprefix(USER_PREFIX)
    if username == user.username or user.role is Role.ADMINISTRATOR:
        return True
    if user.may_act_as(Role.PARENT) and username in user.children:
        return access is not Access.WRITE
    return access is Access.READ and user.may_act_as(Role.ZOOKEEPER)


def require_user(context: RequestContext) -> AuthenticatedUser:
    """The caller of an operation whose `security` in `openapi.yaml` requires a login."""
    assert context.user is not None  # noqa: S101  # the authentication middleware has let nobody else through
    return context.user


def is_administrator(context: RequestContext) -> bool:
    return context.user is not None and context.user.role is Role.ADMINISTRATOR


@dataclass(frozen=True, slots=True)
class Proof:
    """What a request proves about its caller: its owners, and the session whose token it brings.

    It is read before anything is looked up, so that the time of an answer does not tell whether something was found.
    """

    owners: frozenset[str]
    token_session_id: str | None

    @classmethod
    def read(cls, context: RequestContext) -> Proof:
        return cls(list_owners(context), read_session_token(context))


def may_access(
    context: RequestContext,
    proof: Proof,
    session_id: str,
    owner: str | None,
    access: Access,
    *,
    is_bound: bool = False,
) -> bool:
    """Whether the caller may do this with the session, or with a turn of it. `owner` is the session's.

    `is_bound`: the turn needs its caller, whatever the setting.
    """
    if owner is not None and owner.startswith(USER_PREFIX):
        return is_allowed(context.user, owner, access)
    if not is_bound and not context.services.settings.binds_sessions_to_callers:
        return True
    if owner in proof.owners or session_id == proof.token_session_id:
        return True
    least = Role.ZOOKEEPER if access is Access.READ else Role.ADMINISTRATOR
    return context.user is not None and context.user.may_act_as(least)


def _needs_role(context: RequestContext, proof: Proof, session_id: str, owner: str | None) -> bool:
    """Whether the caller, who may read the session, reads another's: as a parent, zookeeper or administrator."""
    user = context.user
    if user is None or owner in proof.owners or session_id == proof.token_session_id:
        return False
    return (owner or "").startswith(USER_PREFIX) or user.may_act_as(Role.ZOOKEEPER)


def _name_owner(session_id: str, owner: str | None) -> str:
    """Whose session it is, as the audit trail names it."""
    return shorten_owner(owner) if owner else shorten_id(session_id)


def authorize_account(context: RequestContext, username: str) -> str:
    """The username, if all data of that account is the caller's to see and to erase; else `UserNotFound`."""
    if not is_allowed(context.user, USER_PREFIX + username, Access.DELETE):
        raise UserNotFound
    return username


async def get_authorized_session(
    context: RequestContext, session_id: str, access: Access, detail: str | None = None
) -> SessionRecord:
    """The session, if it exists and the caller may; else `SessionNotFound` with the detail.

    That somebody reads another's session is recorded in the audit trail.
    """
    proof = Proof.read(context)
    session = await context.services.store.get_session(session_id)
    if session is None or not may_access(context, proof, session_id, session.owner, access):
        raise SessionNotFound(detail)
    if access is Access.READ and _needs_role(context, proof, session_id, session.owner):
        await record_audit(context, AuditAction.SESSION_READ, _name_owner(session_id, session.owner))
    return session


async def get_observed_session(context: RequestContext, session_id: str) -> SessionRecord:
    """The session, if it exists and the caller is a zookeeper or an administrator; else `SessionNotFound`."""
    session = await context.services.store.get_session(session_id)
    if session is None or not require_user(context).may_act_as(Role.ZOOKEEPER):
        raise SessionNotFound
    return session


async def record_observation(context: RequestContext, session: SessionRecord) -> None:
    """Record in the audit trail who looks at whose running turn."""
    await record_audit(context, AuditAction.SESSION_OBSERVED, _name_owner(session.session_id, session.owner))


async def get_session_of_user(context: RequestContext, username: str, session_id: str) -> SessionRecord:
    """The session, if it is that user's and the caller may read it; else `SessionNotFound`. The look is recorded."""
    session = await context.services.store.get_session(session_id)
    owner = USER_PREFIX + username
    if session is None or session.owner != owner or not is_allowed(context.user, owner, Access.READ):
        raise SessionNotFound
    await record_audit(context, AuditAction.SESSION_READ, username)
    return session


async def authorize_listing(context: RequestContext, username: str) -> str:
    """The owner of the user's sessions, if there is such a user and the caller may read them; else `UserNotFound`.

    That somebody lists another's sessions is recorded in the audit trail.
    """
    owner = USER_PREFIX + username
    if not is_allowed(context.user, owner, Access.READ):
        raise UserNotFound
    if context.user is not None and context.user.username != username:
        if not await context.services.accounts.has_user(username):
            raise UserNotFound
        await record_audit(context, AuditAction.SESSIONS_LISTED, username)
    return owner


async def get_authorized_turn(
    context: RequestContext, turn_id: str, access: Access, named_session_id: str | None = None
) -> TurnRecord:
    """The stored turn, if it exists and the caller may; else `TurnNotFound`.

    `named_session_id`: the session that the caller has reached by name, and may read.
    """
    proof = Proof.read(context)
    # Only what decides: to decode a whole turn takes a time that can be measured.
    ownership = await context.services.store.get_turn_ownership(turn_id)
    if ownership is None:
        raise TurnNotFound
    session_id, owner, is_bound = ownership.session_id, ownership.owner, ownership.is_bound
    if session_id != named_session_id and not may_access(context, proof, session_id, owner, access, is_bound=is_bound):
        raise TurnNotFound
    if access is Access.READ and session_id != named_session_id and _needs_role(context, proof, session_id, owner):
        await record_audit(context, AuditAction.SESSION_READ, _name_owner(session_id, owner))
    return await context.services.engine.get_turn(turn_id)


async def find_token_session(context: RequestContext) -> SessionRecord | None:
    """The visitor's session whose token the request brings; None without a valid token."""
    session_id = read_session_token(context)
    session = await context.services.store.get_session(session_id) if session_id else None
    # An account's session is never given a token; one that was a visitor's before the login keeps no other way in.
    return None if session is None or (session.owner or "").startswith(USER_PREFIX) else session
