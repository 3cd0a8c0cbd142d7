"""Demo accounts for development. Their passwords are in the documentation, so production must not have them."""

from __future__ import annotations

from openapi_server.accounts.passwords import Passwords
from openapi_server.models.user import Role, User
from openapi_server.protocols import AccountStore, Clock

# Username, role, parent: parents come before their children.
DEMO_USERS = (
    ("parent1", Role.PARENT, None),
    ("user1", Role.USER, "parent1"),
    ("keeper1", Role.ZOOKEEPER, None),
    ("admin", Role.ADMINISTRATOR, None),
)


async def create_demo_users(store: AccountStore, passwords: Passwords, clock: Clock) -> None:
    """Create the missing ones; the password is the name followed by `-demo`."""
    for username, role, parent in DEMO_USERS:
        if await store.get_user(username) is None:
            password_hash = await passwords.hash(f"{username}-demo")
            await store.create_user(User(username, role, password_hash, clock.now(), parent, is_demo=True))


async def list_demo_users(store: AccountStore) -> list[str]:
    """The names of the demo accounts in the store whose passwords were never changed."""
    return [user.username for user in await store.list_users() if user.is_demo]
