"""Authorization: who may read or change which session, turn, job or account.

A user's things need that user, the user's parent, or a role that may see them. What belongs to no user needs no more
than its id, which the server made and nobody can guess. What the caller may not see answers like what does not exist.
"""

from __future__ import annotations

from enum import Enum, auto

from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.identity import find_owner
from openapi_server.models.errors import SessionNotFound, TurnNotFound, UserNotFound
from openapi_server.models.session import SessionRecord
from openapi_server.models.turn import TurnRecord
from openapi_server.models.user import USER_PREFIX, AuthenticatedUser, Role


class Access(Enum):
    """What the caller wants to do. `CHANGE` includes sending a message, stopping a turn and deleting."""

    READ = auto()
    CHANGE = auto()


def is_allowed(user: AuthenticatedUser | None, owner: str | None, access: Access) -> bool:
    """The rule: users may do all with their own, parents with their children's, administrators with everybody's;
    zookeepers may read everybody's.

    >>> is_allowed(None, "cookie:1f", Access.CHANGE), is_allowed(None, "user:mia", Access.READ)
    (True, False)
    """
    if owner is None or not owner.startswith(USER_PREFIX):
        return True
    if user is None:
        return False
    username = owner.removeprefix(USER_PREFIX)
    is_own_child = user.may_act_as(Role.PARENT) and username in user.children
    if username == user.username or is_own_child or user.role is Role.ADMINISTRATOR:
        return True
    return access is Access.READ and user.may_act_as(Role.ZOOKEEPER)


def require_user(context: RequestContext) -> AuthenticatedUser:
    """The caller of an operation whose `security` in `openapi.yaml` requires a login."""
    assert context.user is not None  # noqa: S101  # the authentication middleware has let nobody else through
    return context.user


def is_administrator(context: RequestContext) -> bool:
    return context.user is not None and context.user.role is Role.ADMINISTRATOR


def may_read_job(context: RequestContext, owner: str | None) -> bool:
    """The rule for jobs is stricter: a job that was started with a session cookie needs that cookie."""
    if is_administrator(context):
        return True
    if owner is not None and owner.startswith(USER_PREFIX):
        return is_allowed(context.user, owner, Access.READ)
    return owner is not None and owner == find_owner(context)


def authorize_account(context: RequestContext, username: str) -> str:
    """The username, if the caller may change that account's data; else `UserNotFound`."""
    if not is_allowed(context.user, USER_PREFIX + username, Access.CHANGE):
        raise UserNotFound
    return username


async def get_authorized_session(
    context: RequestContext, session_id: str, access: Access, detail: str | None = None
) -> SessionRecord:
    """The session, if it exists and the caller may; else `SessionNotFound` with the detail."""
    session = await context.services.store.get_session(session_id)
    if session is None or not is_allowed(context.user, session.owner, access):
        raise SessionNotFound(detail)
    return session


async def get_authorized_turn(context: RequestContext, turn_id: str, access: Access) -> TurnRecord:
    """The stored turn, if it exists and the caller may; else `TurnNotFound`."""
    turn = await context.services.engine.get_turn(turn_id)
    if not is_allowed(context.user, turn.owner, access):
        raise TurnNotFound
    return turn
