"""Whose is it? A user's sessions need that user, or a role that may; to all others the id itself is the right.

What is foreign and what is missing answer alike.
"""

from __future__ import annotations

from enum import Enum, auto

from openapi_server.http.async_handlers import Call
from openapi_server.http.identity import known_owner
from openapi_server.models.errors import SessionNotFound, TurnNotFound, UserNotFound
from openapi_server.models.session import SessionRecord, TurnRecord
from openapi_server.models.user import USER_PREFIX, Person, Role


class Doing(Enum):
    """What somebody wants with a session: look at it, or speak in it, stop it, delete it."""

    READ = auto()
    CHANGE = auto()


def may(person: Person | None, owner: str | None, doing: Doing) -> bool:
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
    return doing is Doing.READ and person.may_act_as(Role.ZOOKEEPER)


def is_callers(call: Call, owner: str | None) -> bool:
    """The stricter rule, of jobs: what belongs to a cookie needs that cookie."""
    if call.person is not None and call.person.role is Role.ADMINISTRATOR:
        return True
    if owner is not None and owner.startswith(USER_PREFIX):
        return may(call.person, owner, Doing.READ)
    return owner is not None and owner == known_owner(call)


def account_named(call: Call, username: str) -> str:
    """The username, if it is the caller's own, a child's, or anybody's for an administrator; else `UserNotFound`."""
    if not may(call.person, USER_PREFIX + username, Doing.CHANGE):
        raise UserNotFound
    return username


async def session_for(call: Call, session_id: str, doing: Doing, advice: str | None = None) -> SessionRecord:
    """The session, if it is there and the caller may; else `SessionNotFound`, with the advice."""
    session = await call.services.store.session(session_id)
    if session is None or not may(call.person, session.owner, doing):
        raise SessionNotFound(advice)
    return session


async def turn_for(call: Call, turn_id: str, doing: Doing) -> TurnRecord:
    """The turn as it is kept, if it is there and the caller may; else `TurnNotFound`."""
    turn = await call.services.engine.turn(turn_id)
    if not may(call.person, turn.owner, doing):
        raise TurnNotFound
    return turn
