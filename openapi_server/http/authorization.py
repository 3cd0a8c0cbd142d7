"""Whose is it? A user's sessions need that user, or a role that may; to all others the id itself is the right.

What is foreign and what is missing answer alike.
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
    """What somebody wants with a session: look at it, or speak in it, stop it, delete it."""

    READ = auto()
    CHANGE = auto()


def is_allowed(person: AuthenticatedUser | None, owner: str | None, access: Access) -> bool:
    """The rule. A parent may what the child may, a zookeeper may read all, an administrator may all.

    >>> may(None, "cookie:1f", Doing.CHANGE), may(None, "user:mia", Doing.READ)
    (True, False)
    """
    if owner is None or not owner.startswith(USER_PREFIX):
        # The server issued the id, and it cannot be guessed.
        return True
    if person is None:
        return False
    username = owner.removeprefix(USER_PREFIX)
    is_child = person.may_act_as(Role.PARENT) and username in person.children
    if username == person.username or is_child or person.role is Role.ADMINISTRATOR:
        return True
    return access is Access.READ and person.may_act_as(Role.ZOOKEEPER)


def may_read_job(context: RequestContext, owner: str | None) -> bool:
    """The stricter rule, of jobs: what belongs to a cookie needs that cookie."""
    if context.user is not None and context.user.role is Role.ADMINISTRATOR:
        return True
    if owner is not None and owner.startswith(USER_PREFIX):
        return is_allowed(context.user, owner, Access.READ)
    return owner is not None and owner == find_owner(context)


def authorize_account(context: RequestContext, username: str) -> str:
    """The username, if it is the caller's own, a child's, or anybody's for an administrator; else `UserNotFound`."""
    if not is_allowed(context.user, USER_PREFIX + username, Access.CHANGE):
        raise UserNotFound
    return username


async def get_authorized_session(
    context: RequestContext, session_id: str, access: Access, detail: str | None = None
) -> SessionRecord:
    """The session, if it is there and the caller may; else `SessionNotFound`, with the advice."""
    session = await context.services.store.get_session(session_id)
    if session is None or not is_allowed(context.user, session.owner, access):
        raise SessionNotFound(detail)
    return session


async def get_authorized_turn(context: RequestContext, turn_id: str, access: Access) -> TurnRecord:
    """The turn as it is kept, if it is there and the caller may; else `TurnNotFound`."""
    turn = await context.services.engine.get_turn(turn_id)
    if not is_allowed(context.user, turn.owner, access):
        raise TurnNotFound
    return turn
