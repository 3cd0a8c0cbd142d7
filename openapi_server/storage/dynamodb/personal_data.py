"""All data of one person in DynamoDB: collects it for an export, and erases it.

A new item or attribute with data about people must be added here, and to `models/personal_data.py`. An export and an
erasure take many requests, and so are no single moment; what an erasure has left when its process stops, the next one
erases.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from itertools import islice

from openapi_server.models.audit import ERASED_NAME, AuditEntry
from openapi_server.models.personal_data import (
    MAX_AUDIT_ENTRIES,
    AccountData,
    DataSubject,
    Erasure,
    PersonalData,
    SessionData,
)
from openapi_server.models.session import DeviceUser
from openapi_server.models.user import USER_PREFIX
from openapi_server.protocols import Clock
from openapi_server.storage.dynamodb.accounts import (
    child_key,
    decode_login,
    decode_user,
    directory_key,
    list_logins,
    login_key,
    token_key,
)
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.audit import decode_audit_entry, entry_key, list_names, name_key
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Table, Transaction, get_key
from openapi_server.storage.dynamodb.credits import (
    ENTRY,
    account_key,
    allocation_key,
    compute_balance,
    credits_key,
    decode_credit_entry,
)
from openapi_server.storage.dynamodb.credits import (
    entry_key as credit_entry_key,
)
from openapi_server.storage.dynamodb.deletion import (
    DeletedSession,
    delete_answers,
    delete_expired_content,
    delete_session,
)
from openapi_server.storage.dynamodb.items import (
    decode_device,
    decode_session,
    decode_turn,
    device_key,
    end_of,
    handle_key,
    is_visible_turn,
    lease_key,
    session_key,
)
from openapi_server.storage.retention_window import RetentionWindow


class DynamoPersonalData:
    """`PersonalDataStore` over the tables of a `DynamoStore`."""

    def __init__(self, database: Database, clock: Clock, retention: timedelta | None = None) -> None:
        self._database = database
        self._clock = clock
        self._retention = retention

    @property
    def _window(self) -> RetentionWindow:
        return RetentionWindow.at(self._clock.now(), self._retention)

    async def export(self, subject: DataSubject) -> PersonalData:
        window = self._window

        def gather() -> PersonalData:
            delete_expired_content(self._database, self._list_session_ids(subject), window)
            session_ids = self._list_session_ids(subject)
            return PersonalData(
                account=self._read_account(subject.username, window.now),
                devices=self._list_devices(subject, session_ids),
                sessions=tuple(self._read_session(session_id, window) for session_id in session_ids),
                audit_entries=self._list_audit_entries(subject),
            )

        return await self._database.run(gather)

    async def erase(self, subject: DataSubject, *, with_account: bool = False) -> Erasure:
        now = self._window.now

        def delete() -> Erasure:
            session_ids = self._list_session_ids(subject)
            devices = self._list_devices(subject, session_ids)
            deleted = [
                found for each in session_ids if (found := delete_session(self._database, each, now)) is not None
            ]
            for each in deleted:
                self._erase_turn_ids(each)
            keys = [device_key(device.user_id) for device in devices]
            keys += [handle_key(device.handle, device.user_id) for device in devices]
            self._database.write_many(deletes=keys)
            accounts = self._erase_user(subject.username, with_account) if subject.username else 0
            turns = [turn for each in deleted for turn in each.turns]
            messages = sum(1 + ("assistantReply" in turn) for turn in turns)
            turn_ids = tuple(turn["turnId"] for turn in turns)
            return Erasure(len(deleted), messages, len(devices), accounts, turn_ids)

        return await self._database.run(delete)

    # What there is of them

    def _list_session_ids(self, subject: DataSubject) -> list[str]:
        """The ids of all stored sessions of the person, expired or not."""
        named: list[str] = []
        if subject.owner is not None:
            places = self._database.query(
                Table.STATE, f"OWNER#{subject.owner}", low="SESSION#", high=end_of("SESSION#")
            )
            named += [place["sessionId"] for place in places]
        if subject.handle is not None:
            named += [place["sk"] for place in self._database.query(Table.STATE, f"HANDLE#{subject.handle}")]
        named += subject.session_ids
        found = self._database.get_many(map(session_key, named))
        return [session_id for session_id in dict.fromkeys(named) if session_key(session_id) in found]

    def _list_devices(self, subject: DataSubject, session_ids: Sequence[str]) -> tuple[DeviceUser, ...]:
        """The users of their devices: those with the handle, and those of the sessions."""
        user_ids: list[str] = []
        if subject.handle is not None:
            places = list(self._database.query(Table.STATE, f"HANDLE#{subject.handle}"))
            places.sort(key=lambda place: (place["createdAt"], place["sk"]))
            user_ids = [place["sk"] for place in places]
        keys = list(dict.fromkeys(map(device_key, (*user_ids, *session_ids))))
        found = self._database.get_many(keys)
        return tuple(decode_device(key.partition.removeprefix("DEVICE#"), found[key]) for key in keys if key in found)

    def _read_account(self, username: str | None, now: str) -> AccountData | None:
        if username is None:
            return None
        found = self._database.get_many([account_key(username), credits_key(username)])
        account = found.get(account_key(username))
        if account is None:
            return None
        logins = tuple(map(decode_login, list_logins(self._database, username)))
        entries = tuple(map(decode_credit_entry, self._query_entries(username)))
        balance = compute_balance(username, found.get(credits_key(username)), now)
        return AccountData(decode_user(account), logins, balance, entries)

    def _query_entries(self, username: str) -> Iterable[Item]:
        return self._database.query(Table.STATE, f"USER#{username}", low=ENTRY, high=end_of(ENTRY))

    def _read_session(self, session_id: str, window: RetentionWindow) -> SessionData:
        session = self._database.get(session_key(session_id)) or {}
        turns = [
            decode_turn(turn, session.get("userId"))
            for turn in self._database.query(Table.TURNS, session_id)
            if is_visible_turn(turn, session, window)
        ]
        return SessionData(decode_session(session, window.since), tuple(turns))

    def _list_audit_entries(self, subject: DataSubject) -> tuple[AuditEntry, ...]:
        """The latest entries by and about the person, oldest first. Entries without a name belong to nobody."""
        if not subject.audit_name:
            return ()
        limit = MAX_AUDIT_ENTRIES
        places = self._database.query(Table.STATE, f"AUDIT_OF#{subject.audit_name}", descending=True, limit=limit)
        keys = [entry_key(place["sk"]) for place in islice(places, limit)]
        found = self._database.get_many(keys)
        return tuple(decode_audit_entry(found[key]) for key in reversed(keys) if key in found)

    # Erased

    def _erase_turn_ids(self, deleted: DeletedSession) -> None:
        """What the credit history tells of the turns of a deleted session."""
        owner = deleted.session.get("userId") or ""
        if not owner.startswith(USER_PREFIX):
            return
        username = owner.removeprefix(USER_PREFIX)
        keys = [
            credit_entry_key(username, number)
            for turn in deleted.turns
            if turn.get("payer") == username
            for number in turn.get("entries") or ()
        ]
        self._change_each(keys, lambda entry: {**entry, "turnId": None})

    def _erase_user(self, username: str, with_account: bool) -> int:
        entries = list(self._query_entries(username))
        keys = [credit_entry_key(username, entry["number"]) for entry in entries]
        self._change_each(keys, lambda entry: {**entry, "turnId": None, "notes": None, "requestKey": None})
        requests = [allocation_key(entry["requestKey"]) for entry in entries if "requestKey" in entry]
        self._database.write_many(deletes=requests)
        delete_answers(self._database, "OWNER", USER_PREFIX + username)
        delete_answers(self._database, "SUBJECT", username)
        return self._delete_account(username) if with_account else 0

    def _delete_account(self, username: str) -> int:
        """Delete the account with its logins and credits, and replace its name everywhere else. Returns 0 or 1."""
        self._erase_name_in_audit(username)
        self._erase_name_in_documents(username)
        self._leave_children(username)
        logins = list_logins(self._database, username)

        def delete(transaction: Transaction) -> bool:
            transaction.load(account_key(username), credits_key(username))
            account = transaction.get(account_key(username))
            if account is None:
                return False
            credits = transaction.get(credits_key(username)) or {}
            for turn_id in credits.get("held", ()):
                _release(transaction, turn_id)
            for key in (account_key(username), credits_key(username), directory_key(username)):
                transaction.delete(key)
            if "parent" in account:
                transaction.delete(child_key(account["parent"], username))
            return True

        is_deleted = self._database.commit(delete, f"user {username}")
        tokens = [token_key(token) for login in logins for token in login["tokens"]]
        rest = self._database.query(Table.STATE, f"USER#{username}")
        keys = [get_key(Table.STATE, item) for item in rest]
        self._database.write_many(deletes=[*tokens, *(login_key(login["loginId"]) for login in logins), *keys])
        return int(is_deleted)

    def _leave_children(self, username: str) -> None:
        children = [place["sk"] for place in self._database.query(Table.STATE, f"PARENT#{username}")]
        self._change_each([account_key(child) for child in children], lambda account: {**account, "parent": None})
        self._database.write_many(deletes=[child_key(username, child) for child in children])

    def _erase_name_in_audit(self, username: str) -> None:
        places = [place["sk"] for place in self._database.query(Table.STATE, f"AUDIT_OF#{username}")]

        def replace_name(entry: Item) -> Item:
            erased = {}
            if entry.get("name") == username:
                erased["name"] = ERASED_NAME
            if entry.get("target") == username and username in list_names({**entry, "name": None}):
                erased["target"] = ERASED_NAME
            return {**entry, **erased}

        self._change_each(map(entry_key, places), replace_name)
        self._database.write_many(deletes=[name_key(username, sort) for sort in places])

    def _erase_name_in_documents(self, username: str) -> None:
        """Who changed a document, or has a draft of it. All of the history is read: an erasure is rare."""
        for kind in ("animals", "rules"):
            found = self._database.query(Table.STATE, f"DOCUMENTS#{kind}")
            keys = [get_key(Table.STATE, item) for item in found if item.get("by") == username]
            self._change_each(keys, lambda item: {**item, "by": ERASED_NAME})

    def _change_each(self, keys: Iterable[Key], change: Callable[[Item], Item]) -> None:
        """Replace each item that there is, in a transaction of its own."""
        for key in keys:

            def replace(transaction: Transaction, key: Key = key) -> None:
                item = transaction.get(key)
                if item is not None and change(item) != item:
                    transaction.put(key, change(item))

            self._database.commit(replace)


def _release(transaction: Transaction, turn_id: str) -> None:
    """Nobody pays for the turn any more. Of one that is deleted already, nothing is left to settle."""
    lease = transaction.get(lease_key(turn_id))
    if lease is None:
        return
    if lease.get("isDetached"):
        transaction.delete(lease_key(turn_id))
    else:
        transaction.put(lease_key(turn_id), {**lease, "reservation": None})
