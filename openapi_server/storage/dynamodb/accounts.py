"""Accounts and their logins in DynamoDB.

A login counts only with the number that its account has now (`loginEpoch`): a new password ends every login by changing
one item.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from openapi_server.models.user import AuthenticatedUser, Login, Role, User
from openapi_server.protocols import Clock
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Table, Transaction
from openapi_server.storage.dynamodb.credits import account_key
from openapi_server.storage.dynamodb.items import SELF, end_of, make_state_key, make_ttl
from openapi_server.storage.retention_window import encode_time

DIRECTORY = f"USERS#{SELF}"


def directory_key(username: str) -> Key:
    """Of the list of all accounts."""
    return Key(Table.STATE, DIRECTORY, username)


def child_key(parent: str, username: str) -> Key:
    return make_state_key("PARENT", parent, username)


def login_key(login_id: str) -> Key:
    return make_state_key("LOGIN", login_id)


def user_login_key(username: str, login_id: str) -> Key:
    """Finds a user's logins, for an export and to delete them."""
    return make_state_key("USER", username, f"LOGIN#{login_id}")


def token_key(token_hash: str) -> Key:
    return make_state_key("TOKEN", token_hash)


class DynamoAccounts:
    """`AccountStore` over the tables of a `DynamoStore`."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    @property
    def _now(self) -> str:
        return encode_time(self._clock.now())

    async def create_user(self, user: User) -> bool:
        def create(transaction: Transaction) -> bool:
            if transaction.get(account_key(user.username)) is not None:
                return False
            transaction.put(account_key(user.username), {**encode_user(user), "loginEpoch": 0})
            transaction.put(directory_key(user.username), {})
            if user.parent is not None:
                transaction.put(child_key(user.parent, user.username), {})
            return True

        return await self._database.transact(create)

    async def get_user(self, username: str) -> User | None:
        def read() -> User | None:
            item = self._database.get(account_key(username))
            return decode_user(item) if item else None

        return await self._database.run(read)

    async def list_users(self) -> Sequence[User]:
        def read() -> list[User]:
            names = [place["sk"] for place in self._database.query(Table.STATE, DIRECTORY)]
            found = self._database.get_many(map(account_key, names))
            return [decode_user(found[account_key(name)]) for name in names if account_key(name) in found]

        return await self._database.run(read)

    async def set_role(self, username: str, role: Role) -> bool:
        return await self._change(username, lambda item: {"role": role.value})

    async def reset_password(self, username: str, password_hash: str) -> bool:
        return await self._change(
            username,
            lambda item: {"passwordHash": password_hash, "isDemo": False, "loginEpoch": item["loginEpoch"] + 1},
        )

    async def rehash_password(self, username: str, old_hash: str, new_hash: str) -> None:
        def change(transaction: Transaction) -> None:
            item = transaction.get(account_key(username))
            if item is not None and item["passwordHash"] == old_hash:
                transaction.put(account_key(username), {**item, "passwordHash": new_hash})

        await self._database.transact(change)

    async def _change(self, username: str, choose: Any) -> bool:
        def change(transaction: Transaction) -> bool:
            item = transaction.get(account_key(username))
            if item is None:
                return False
            transaction.put(account_key(username), {**item, **choose(item)})
            return True

        return await self._database.transact(change)

    async def create_login(self, login: Login, token_hash: str, password_hash: str) -> bool:
        def insert(transaction: Transaction) -> bool:
            account = transaction.get(account_key(login.username))
            if account is None or account["passwordHash"] != password_hash:
                return False
            item = {**encode_login(login), "loginEpoch": account["loginEpoch"], "tokens": [token_hash]}
            transaction.put(login_key(login.login_id), item)
            transaction.put(user_login_key(login.username, login.login_id), {"ttl": item["ttl"]})
            _put_token(transaction, token_hash, item)
            return True

        return await self._database.transact(insert)

    async def refresh_login(
        self, token_hashes: Sequence[str], expires_at: datetime, repeatable_since: datetime
    ) -> tuple[Login, int] | None:
        now = self._now

        def rotate(transaction: Transaction) -> tuple[Login, int] | None:
            found = _find_login(transaction, token_hashes[0], now)
            if found is None:
                return None
            token, item = found
            used_at = token.get("usedAt")
            if used_at is not None and used_at <= encode_time(repeatable_since):
                transaction.put(login_key(item["loginId"]), {**item, "endedAt": now})
                return None
            if used_at is not None:
                number = _find_unused_token(transaction, token_hashes)
                return (decode_login(item), number) if number is not None else None
            login = replace(decode_login(item), expires_at=expires_at)
            extended = {**item, **encode_login(login), "tokens": [*item["tokens"], token_hashes[1]]}
            transaction.put(token_key(token_hashes[0]), {**token, "usedAt": now})
            _put_token(transaction, token_hashes[1], extended)
            transaction.put(login_key(login.login_id), extended)
            transaction.put(user_login_key(login.username, login.login_id), {"ttl": extended["ttl"]})
            return login, 1

        return await self._database.transact(rotate, f"token {token_hashes[0]}")

    async def end_login(self, login_id: str) -> bool:
        now = self._now

        def end(transaction: Transaction) -> bool:
            item = _get_active_login(transaction, login_id, now)
            if item is not None:
                transaction.put(login_key(login_id), {**item, "endedAt": now})
            return item is not None

        return await self._database.transact(end)

    async def end_login_of_token(self, token_hash: str) -> bool:
        now = self._now

        def end(transaction: Transaction) -> bool:
            found = _find_login(transaction, token_hash, now)
            if found is not None:
                transaction.put(login_key(found[1]["loginId"]), {**found[1], "endedAt": now})
            return found is not None

        return await self._database.transact(end)

    async def get_authenticated_user(self, username: str, login_id: str) -> AuthenticatedUser | None:
        now = self._now

        def read() -> AuthenticatedUser | None:
            found = self._database.get_many([account_key(username), login_key(login_id)])
            account, login = found.get(account_key(username)), found.get(login_key(login_id))
            if login is None or login["username"] != username or not is_active_login(login, account, now):
                return None
            role = Role((account or {})["role"])
            children: tuple[str, ...] = ()
            if role.rank >= Role.PARENT.rank:
                children = tuple(place["sk"] for place in self._database.query(Table.STATE, f"PARENT#{username}"))
            return AuthenticatedUser(username, role, children, login_id)

        return await self._database.run(read)


def is_active_login(login: Item, account: Item | None, now: str) -> bool:
    return (
        account is not None
        and login["loginEpoch"] == account["loginEpoch"]
        and "endedAt" not in login
        and login["expiresAt"] > now
    )


def _get_active_login(transaction: Transaction, login_id: str, now: str) -> Item | None:
    login = transaction.get(login_key(login_id))
    if login is None or not is_active_login(login, transaction.get(account_key(login["username"])), now):
        return None
    return login


def _find_login(transaction: Transaction, token_hash: str, now: str) -> tuple[Item, Item] | None:
    """The refresh token, whether it is used or not, and its login. None when the login has ended."""
    token = transaction.get(token_key(token_hash))
    login = _get_active_login(transaction, token["loginId"], now) if token is not None else None
    return (token, login) if token is not None and login is not None else None


def _find_unused_token(transaction: Transaction, token_hashes: Sequence[str]) -> int | None:
    """The number of the first stored token that is not used; None when there is none in the list."""
    transaction.load(*map(token_key, token_hashes))
    for number, token_hash in enumerate(token_hashes):
        token = transaction.get(token_key(token_hash))
        if token is not None and "usedAt" not in token:
            return number
    return None


def _put_token(transaction: Transaction, token_hash: str, login: Item) -> None:
    transaction.put(token_key(token_hash), {"loginId": login["loginId"], "ttl": login["ttl"]})


def list_logins(database: Database, username: str) -> list[Item]:
    """All stored logins of the user, the first of them first."""
    places = database.query(Table.STATE, f"USER#{username}", low="LOGIN#", high=end_of("LOGIN#"))
    keys = [login_key(place["sk"].removeprefix("LOGIN#")) for place in places]
    return sorted(database.get_many(keys).values(), key=lambda login: str(login["beganAt"]))


def encode_user(user: User) -> Item:
    return {
        "username": user.username,
        "role": user.role.value,
        "passwordHash": user.password_hash,
        "createdAt": encode_time(user.created_at),
        "parent": user.parent,
        "isDemo": user.is_demo,
    }


def decode_user(item: Item) -> User:
    return User(
        username=item["username"],
        role=Role(item["role"]),
        password_hash=item["passwordHash"],
        created_at=datetime.fromisoformat(item["createdAt"]),
        parent=item.get("parent"),
        is_demo=item["isDemo"],
    )


def encode_login(login: Login) -> Item:
    return {
        "loginId": login.login_id,
        "username": login.username,
        "beganAt": encode_time(login.began_at),
        "expiresAt": encode_time(login.expires_at),
        "ttl": make_ttl(login.expires_at),
    }


def decode_login(item: Item) -> Login:
    began_at, expires_at = datetime.fromisoformat(item["beganAt"]), datetime.fromisoformat(item["expiresAt"])
    return Login(item["loginId"], item["username"], began_at, expires_at)
