"""Copies a whole store from SQLite to DynamoDB or back, while no server uses either.

A copy goes through its steps in order, in batches, and notes in the target how far it has come: one that was stopped
goes on there. Into SQLite the note is part of the batch's transaction; into DynamoDB a batch is written twice at most,
which changes nothing.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from openapi_server.storage.dynamodb import accounts, audit, credits, idempotency, turns
from openapi_server.storage.dynamodb.attribute_values import Item, decode_item, encode_value
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Table
from openapi_server.storage.dynamodb.deletion import finish_purge
from openapi_server.storage.dynamodb.items import (
    SELF,
    add_microsecond,
    after,
    all_turns_key,
    device_key,
    encode_outcome,
    encode_session,
    encode_turn,
    expiry_key,
    handle_key,
    list_shards,
    make_state_key,
    pointer_key,
    request_key,
    session_key,
    turn_key,
)
from openapi_server.storage.dynamodb.items import decode_session as decode_session_item
from openapi_server.storage.dynamodb.items import decode_turn as decode_turn_item
from openapi_server.storage.retention_window import encode_time
from openapi_server.storage.sqlite.accounts import decode_login, decode_user
from openapi_server.storage.sqlite.audit import encode_audit_entry as encode_audit_row
from openapi_server.storage.sqlite.database_files import open_database
from openapi_server.storage.sqlite.migrations import migrate
from openapi_server.storage.sqlite.rows import SELECT_TURNS, decode_session, decode_turn, encode_message, insert_row
from openapi_server.storage.sqlite.rows import encode_session as encode_session_row
from openapi_server.storage.sqlite.rows import encode_turn as encode_turn_row

Writes = Iterable[tuple[Key, Item]]
# Called after each batch with the number of rows or items that were read.
Reports = Callable[[int], None]
_MakesRows = Callable[[Database, Item], Iterator[tuple[str, dict[str, Any]]]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

BATCH = 25
_PROGRESS_KEY = make_state_key("COPY", SELF)
# The kinds of rows whose numbers must be the same on both sides, with their tables.
TABLES = {
    "sessions": "sessions",
    "turns": "turns",
    "devices": "device_users",
    "accounts": "users",
    "logins": "logins",
    "refresh tokens": "refresh_tokens",
    "credit entries": "credit_ledger",
    "animals": "animals",
    "animal changes": "animal_changes",
    "animal drafts": "animal_drafts",
    "rules": "rules",
    "rule changes": "rule_changes",
    "audit entries": "audit",
    "stored answers": "answers",
    "idempotency keys": "idempotency_keys",
}
# The same kinds by what their keys begin with in the table of state, partition and sort key.
_PREFIXES = {
    ("DEVICE#", ""): "devices",
    ("USER#", "ACCOUNT"): "accounts",
    ("LOGIN#", ""): "logins",
    ("TOKEN#", ""): "refresh tokens",
    ("USER#", credits.ENTRY): "credit entries",
    ("DOCUMENTS#animals", "DOCUMENT#"): "animals",
    ("DOCUMENTS#animals", "HISTORY#"): "animal changes",
    ("DOCUMENTS#animals", "DRAFT#"): "animal drafts",
    ("DOCUMENTS#rules", "DOCUMENT#"): "rules",
    ("DOCUMENTS#rules", "HISTORY#"): "rule changes",
    ("AUDIT#", ""): "audit entries",
    ("ANSWER#", ""): "stored answers",
    ("KEY#", ""): "idempotency keys",
}


class CopyRefused(Exception):
    """The stores cannot be copied now. The message says why, and what to do."""


# What there is


def count_rows(path: Path) -> dict[str, int]:
    """How many rows of each kind a SQLite file has."""
    with closing(open_database(path)) as db:
        return {kind: _count(db, f"SELECT count(*) FROM {table}") for kind, table in TABLES.items()}  # noqa: S608  # names of ours


def count_items(database: Database) -> dict[str, int]:
    """How many items of each kind the tables have. Reads all of them."""
    counts: Counter[str] = Counter()
    for table in Table:
        for item, _ in _scan(database, table, None):
            counts[_classify(table, item)] += 1
    return {kind: counts[kind] for kind in TABLES}


def _classify(table: Table, item: Item) -> str:
    """The kind of the item; empty for those that only find another one."""
    if table is not Table.STATE:
        return table.value
    found = (
        kind
        for (partition, sort), kind in _PREFIXES.items()
        if item["pk"].startswith(partition) and item["sk"].startswith(sort)
    )
    return next(found, "")


def _scan(database: Database, table: Table, start: Any) -> Iterator[tuple[Item, Any]]:
    """All items, each with the place behind which the next ones are. `start`: such a place."""
    request: dict[str, Any] = {"TableName": database.names[table], "ConsistentRead": True}
    while True:
        if start:
            request["ExclusiveStartKey"] = start
        answer = database.client.scan(**request)
        for item in map(decode_item, answer["Items"]):
            yield item, {name: encode_value(item[name]) for name in table.key_attributes}
        start = answer.get("LastEvaluatedKey")
        if not start:
            return


def _count(db: sqlite3.Connection, query: str, *values: str) -> int:
    (count,) = db.execute(query, values).fetchone()
    return int(count)


# From SQLite to DynamoDB


@dataclass(frozen=True, slots=True)
class _RowStep:
    """Rows in the order of one column, and the items that one of them becomes."""

    query: str
    column: str
    first: str | int
    make: Callable[[sqlite3.Connection, sqlite3.Row], Writes]


def copy_to_dynamodb(path: Path, database: Database, retention: timedelta | None, report: Reports) -> None:
    """Copy all rows. Raises `CopyRefused` where turns run, or the tables have data of another origin."""
    with closing(open_database(path)) as db:
        _require_idle(_count(db, "SELECT count(*) FROM turns WHERE ended_at IS NULL"))
        progress = database.get(_PROGRESS_KEY)
        if progress is None:
            _require_empty(count_items(database), "The tables")
            progress = {"step": 0, "after": json.dumps(None)}
        db.execute("CREATE TEMP TABLE named AS SELECT turn_id, username, entry_id FROM credit_ledger")
        db.execute("CREATE INDEX temp.by_turn ON named (turn_id)")
        for number, step in enumerate(_list_row_steps(retention)):
            if number < progress["step"]:
                continue
            place = json.loads(progress["after"]) if number == progress["step"] else None
            place = step.first if place is None else place
            while rows := db.execute(step.query, (place, BATCH)).fetchall():
                database.write_many([write for row in rows for write in step.make(db, row)])
                place = rows[-1][step.column]
                note = {"step": number, "after": json.dumps(place)}
                database.write_many([(_PROGRESS_KEY, note)])
                report(len(rows))
        heads = [(_document_key(kind, "HEAD"), _make_head(db, kind)) for kind in ("animal", "rule")]
        database.write_many([(key, head) for key, head in heads if head["version"]], [_PROGRESS_KEY])


def _list_row_steps(retention: timedelta | None) -> list[_RowStep]:
    def by_text(table: str, column: str, make: Callable[[sqlite3.Connection, sqlite3.Row], Writes]) -> _RowStep:
        query = f"SELECT * FROM {table} WHERE {column} > ? ORDER BY {column} LIMIT ?"  # noqa: S608  # names of ours
        return _RowStep(query, column, "", make)

    def by_number(table: str, column: str, make: Callable[[sqlite3.Connection, sqlite3.Row], Writes]) -> _RowStep:
        query = f"SELECT * FROM {table} WHERE {column} > ? ORDER BY {column} LIMIT ?"  # noqa: S608  # names of ours
        return _RowStep(query, column, -1, make)

    return [
        by_text("sessions", "session_id", lambda db, row: _make_session(db, row, retention)),
        by_text("device_users", "user_id", _make_device),
        by_text("users", "username", _make_account),
        by_text("logins", "login_id", _make_login),
        by_number("credit_ledger", "entry_id", _make_entry),
        *(
            step
            for kind, id_column in (("animal", "animal_id"), ("rule", "name"))
            for step in (
                by_number(f"{kind}_changes", "version", partial(_make_change, kind, id_column)),
                by_text(f"{kind}s", id_column, partial(_make_document, kind, id_column)),
            )
        ),
        by_text("animal_drafts", "animal_id", _make_draft),
        by_number("audit", "entry_id", _make_audit_entry),
        by_text("answers", "key", _make_answer),
    ]


def _make_session(db: sqlite3.Connection, row: sqlite3.Row, retention: timedelta | None) -> Writes:
    """The session with all its turns, and what finds them."""
    session = decode_session(row)
    session_id = session.session_id
    everything = {"session_id": session_id, "now": "", "since": ""}
    query = f"{SELECT_TURNS} WHERE turns.session_id = :session_id ORDER BY position"
    incarnation = hashlib.sha256(session_id.encode()).hexdigest()[:16]
    known: dict[str, Any] = {
        "incarnation": incarnation,
        "unended": [],
        "messageCount": int(session.opening is not None),
    }
    known["checkAt"] = turns.compute_check_time(session, retention)
    for turn_row in db.execute(query, everything).fetchall():
        turn = decode_turn(turn_row)
        last = known.get("lastTimestamp")
        timestamp = max(encode_time(turn.created_at), encode_time(session.created_at))
        timestamp = max(timestamp, add_microsecond(last)) if last else timestamp
        known |= {"lastTimestamp": timestamp, "messageCount": known["messageCount"] + 1}
        known["messageCount"] += turn.outcome is not None and turn.outcome.reply is not None
        keys = db.execute("SELECT * FROM idempotency_keys WHERE turn_id = ?", (turn.turn_id,)).fetchall()
        until = turn.created_at + retention if retention else None
        item = encode_turn(turn, timestamp, incarnation, [key["key"] for key in keys], until)
        if turn.outcome is not None:
            item["endedAt"] = encode_time(turn.outcome.ended_at)
            item |= {"outcome": encode_outcome(turn.outcome), "assistantReply": turn.outcome.reply}
        named = db.execute("SELECT username, entry_id FROM temp.named WHERE turn_id = ?", (turn.turn_id,)).fetchall()
        if named:
            item |= {"payer": named[0]["username"], "entries": [each["entry_id"] for each in named]}
        yield turn_key(session_id, timestamp), item
        place = turns.make_place(item)
        yield pointer_key(turn.turn_id), place
        yield all_turns_key(turn.turn_id, item["createdAt"]), place
        for key in keys:
            expires_at = datetime.fromisoformat(key["expires_at"])
            yield request_key(key["key"]), turns.make_used_key(key["body_hash"], item, expires_at)
    stored = encode_session(session, known)
    yield session_key(session_id), stored
    yield from turns.make_places(stored)
    yield expiry_key(session_id, known["checkAt"]), turns.make_expiry(stored)


def _make_device(db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    device = {"handle": row["handle"], "createdAt": row["created_at"]}
    yield device_key(row["user_id"]), device
    yield handle_key(row["handle"], row["user_id"]), device


def _make_account(db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    """The account, what is left of its credits, and what each day has cost."""
    user = decode_user(row)
    name = user.username
    yield credits.account_key(name), {**accounts.encode_user(user), "loginEpoch": 0}
    yield accounts.directory_key(name), {}
    if user.parent is not None:
        yield accounts.child_key(user.parent, name), {}
    last = _count(db, "SELECT coalesce(max(entry_id), 0) FROM credit_ledger WHERE username = ?", name)
    if last:
        query = "SELECT expires_at, sum(remaining) FROM credit_lots WHERE username = ? AND remaining > 0 GROUP BY 1"
        lots = dict(db.execute(query, (name,)).fetchall())
        yield credits.credits_key(name), {"lots": lots, "nextEntry": last + 1, "held": []}
    query = """
        SELECT substr(at, 1, 10), count(*), coalesce(sum(tokens), 0), coalesce(sum(spent), 0) FROM credit_ledger
        WHERE username = ? AND kind = 'settle' GROUP BY 1
    """
    for day, count, tokens, spent in db.execute(query, (name,)):
        yield credits.usage_key(name, day), {"turns": count, "tokens": tokens, "credits": spent}


def _make_login(db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    login = decode_login(row)
    tokens = db.execute("SELECT * FROM refresh_tokens WHERE login_id = ?", (login.login_id,)).fetchall()
    item = {
        **accounts.encode_login(login),
        "endedAt": row["ended_at"],
        "loginEpoch": 0,
        "tokens": [token["token_hash"] for token in tokens],
    }
    yield accounts.login_key(login.login_id), item
    yield accounts.user_login_key(login.username, login.login_id), {"ttl": item["ttl"]}
    for token in tokens:
        stored = {"loginId": login.login_id, "usedAt": token["used_at"], "ttl": item["ttl"]}
        yield accounts.token_key(token["token_hash"]), stored


def _make_entry(db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    username, number = row["username"], row["entry_id"]
    yield (
        credits.entry_key(username, number),
        {
            "number": number,
            "username": username,
            "kind": row["kind"],
            "credits": row["credits"],
            "at": row["at"],
            "turnId": row["turn_id"],
            "notes": row["notes"],
            "tokens": row["tokens"],
            "spent": row["spent"],
            "requestKey": row["request_key"],
        },
    )
    if row["request_key"] is not None:
        yield credits.allocation_key(row["request_key"]), {"username": username, "entry": number}


def _document_key(kind: str, sort: str) -> Key:
    return make_state_key("DOCUMENTS", f"{kind}s", sort)


def _make_change(kind: str, id_column: str, db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    document_id, version = row[id_column], row["version"]
    yield (
        _document_key(kind, f"HISTORY#{document_id}#{version:012d}"),
        {
            "documentId": document_id,
            "version": version,
            "operation": row["operation"],
            "by": row["changed_by"],
            "at": row["changed_at"],
            "fields": json.loads(row["fields"]) if kind == "animal" else [],
        },
    )
    yield _document_key(kind, f"CHANGE#{version:012d}"), {"documentId": document_id}


def _make_document(kind: str, id_column: str, db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    query = f"SELECT changed_by, changed_at FROM {kind}_changes WHERE version = ?"  # noqa: S608  # names of ours
    by, at = db.execute(query, (row["version"],)).fetchone()
    yield (
        _document_key(kind, f"DOCUMENT#{row[id_column]}"),
        {
            "documentId": row[id_column],
            "version": row["version"],
            "document": row["document"],
            "by": by,
            "at": at,
        },
    )


def _make_head(db: sqlite3.Connection, kind: str) -> Item:
    version = _count(db, f"SELECT coalesce(max(version), 0) FROM {kind}_changes")  # noqa: S608  # names of ours
    return {"version": version, "count": _count(db, f"SELECT count(*) FROM {kind}s")}  # noqa: S608  # names of ours


def _make_draft(db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    # A promotion compares the text, which the store on DynamoDB writes without escapes.
    yield (
        _document_key("animal", f"DRAFT#{row['animal_id']}"),
        {
            "documentId": row["animal_id"],
            "document": json.dumps(json.loads(row["document"]), ensure_ascii=False),
            "basedOn": row["based_on"],
            "by": row["made_by"],
            "at": row["made_at"],
        },
    )


def _make_audit_entry(db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    item = {
        "at": row["at"],
        "action": row["deed"],
        "role": row["role"],
        "name": row["name"],
        "target": row["about"],
        "requestId": row["request_id"],
    }
    sort = f"{row['at']}#{row['entry_id']:020d}#-"
    yield audit.entry_key(sort), item
    yield audit.month_key(sort[:7]), {}
    for name in audit.list_names(item):
        yield audit.name_key(name, sort), {}


def _make_answer(db: sqlite3.Connection, row: sqlite3.Row) -> Writes:
    ttl = int(datetime.fromisoformat(row["expires_at"]).timestamp()) + 1
    yield (
        make_state_key("ANSWER", row["key"]),
        {
            "bodyHash": row["body_hash"],
            "owner": row["owner"],
            "begunAt": row["begun_at"],
            "expiresAt": row["expires_at"],
            "ttl": ttl,
            "status": row["status"],
            "headers": row["headers"],
            "body": zlib.compress(row["body"].encode()) if row["body"] is not None else None,
            "subject": row["subject"],
        },
    )
    yield idempotency.make_place_key("OWNER", row["owner"], row["key"]), {"ttl": ttl}
    if row["subject"] is not None:
        yield idempotency.make_place_key("SUBJECT", row["subject"], row["key"]), {"ttl": ttl}


# From DynamoDB to SQLite


def copy_to_sqlite(database: Database, path: Path, report: Reports) -> None:
    """Copy all items. Raises `CopyRefused` where turns run, or the file has data of another origin."""
    running = [item for shard in list_shards() for item in database.query(Table.STATE, f"RUNNING#{shard}")]
    _require_idle(len(running))
    for note in list(database.query(Table.STATE, f"PURGES#{SELF}")):
        finish_purge(database, note["sk"])
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(open_database(path, may_create=True)) as db:
        migrate(db)
        # Rows come in any order. At the end all of them are checked.
        db.execute("PRAGMA foreign_keys = OFF")
        if not db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'copy_progress'").fetchone():
            counts = {kind: _count(db, f"SELECT count(*) FROM {table}") for kind, table in TABLES.items()}  # noqa: S608  # names of ours
            _require_empty(counts, path)
            db.execute("CREATE TABLE copy_progress (step INTEGER NOT NULL, place TEXT NOT NULL)")
            db.execute("INSERT INTO copy_progress VALUES (0, 'null')")
        step, place = db.execute("SELECT step, place FROM copy_progress").fetchone()
        for number, read in enumerate((*Table, None)):
            if number >= step:
                start = json.loads(place) if number == step else None
                items = _scan(database, read, start) if read is not None else _read_audit(database, start)
                for batch in _split(items):
                    _insert_batch(db, database, read, number, batch)
                    report(len(batch))
        _finish_file(db)


def _insert_batch(
    db: sqlite3.Connection, database: Database, table: Table | None, number: int, batch: list[tuple[Item, Any]]
) -> None:
    db.execute("BEGIN IMMEDIATE")
    for item, _ in batch:
        for name, row in _make_rows(database, table, item):
            insert_row(db, name, row)
    db.execute("UPDATE copy_progress SET step = ?, place = ?", (number, json.dumps(batch[-1][1])))
    db.execute("COMMIT")


def _finish_file(db: sqlite3.Connection) -> None:
    """Leave out what belongs to sessions that DynamoDB has deleted by age, and check that nothing else is amiss."""
    db.execute("BEGIN IMMEDIATE")
    db.execute("DELETE FROM turns WHERE session_id NOT IN (SELECT session_id FROM sessions)")
    for table in ("messages", "idempotency_keys"):
        db.execute(f"DELETE FROM {table} WHERE turn_id NOT IN (SELECT turn_id FROM turns)")  # noqa: S608  # names of ours
    db.execute("DELETE FROM refresh_tokens WHERE login_id NOT IN (SELECT login_id FROM logins)")
    db.execute("DROP TABLE copy_progress")
    broken = db.execute("PRAGMA foreign_key_check").fetchall()
    db.execute("COMMIT")
    if broken:
        tables = ", ".join(sorted({row["table"] for row in broken}))
        raise CopyRefused(f"rows of {tables} name others that are not there")


def _split(items: Iterator[tuple[Item, Any]]) -> Iterator[list[tuple[Item, Any]]]:
    while batch := list(islice(items, 500)):
        yield batch


def _read_audit(database: Database, start: str | None) -> Iterator[tuple[Item, Any]]:
    """In the order of time, which is that of their numbers in SQLite."""
    for month in [item["sk"] for item in database.query(Table.STATE, audit.MONTHS)]:
        if start is None or month >= start[:7]:
            low = after(start) if start and month == start[:7] else ""
            for item in database.query(Table.STATE, f"AUDIT#{month}", low=low):
                yield item, item["sk"]


def _make_rows(database: Database, table: Table | None, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    match table:
        case Table.SESSIONS:
            yield "sessions", encode_session_row(decode_session_item(item))
        case Table.TURNS:
            yield from _make_turn_rows(item)
        case Table.STATE:
            kind = _classify(table, item)
            make = _ROWS.get(kind)
            if make is not None:
                yield from make(database, item)
            elif item["sk"] == "CREDITS":
                for until, left in item["lots"].items():
                    lot = {"username": item["pk"][len("USER#") :], "credits": left, "remaining": left}
                    yield "credit_lots", {**lot, "expires_at": until}
        case None:
            entry = audit.decode_audit_entry(item)
            yield "audit", encode_audit_row(entry)


def _make_turn_rows(item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    turn = decode_turn_item(item, None)
    # Later than all before it in its session, and earlier than all that come.
    position = round((datetime.fromisoformat(item["timestamp"]) - _EPOCH) / timedelta(microseconds=1))
    row = encode_turn_row(turn, position)
    outcome = turn.outcome
    if outcome is not None:
        row |= {"ended_at": encode_time(outcome.ended_at), "outcome": encode_outcome(outcome)}
    yield "turns", row
    yield "messages", encode_message(turn.turn_id, "incoming", turn.message, turn.created_at, turn.media_urls)
    if outcome is not None and outcome.reply is not None:
        yield "messages", encode_message(turn.turn_id, "outgoing", outcome.reply, outcome.ended_at)


def _make_device_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    user_id = item["pk"].removeprefix("DEVICE#")
    yield "device_users", {"user_id": user_id, "handle": item["handle"], "created_at": item["createdAt"]}


def _make_account_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "users",
        {
            "username": item["username"],
            "role": item["role"],
            "password_hash": item["passwordHash"],
            "created_at": item["createdAt"],
            "parent": item.get("parent"),
            "is_demo": int(item["isDemo"]),
        },
    )


def _make_login_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    account = database.get(credits.account_key(item["username"])) or {}
    # A new password has ended it.
    is_over = account.get("loginEpoch") != item["loginEpoch"]
    yield (
        "logins",
        {
            "login_id": item["loginId"],
            "username": item["username"],
            "began_at": item["beganAt"],
            "expires_at": item["expiresAt"],
            "ended_at": item.get("endedAt") or (encode_time(datetime.now(UTC)) if is_over else None),
        },
    )


def _make_token_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    token = {"token_hash": item["pk"].removeprefix("TOKEN#"), "login_id": item["loginId"]}
    yield "refresh_tokens", {**token, "used_at": item.get("usedAt")}


def _make_entry_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    """SQLite numbers them anew: a user's entries come in their order."""
    yield (
        "credit_ledger",
        {
            "username": item["username"],
            "kind": item["kind"],
            "credits": item["credits"],
            "turn_id": item.get("turnId"),
            "at": item["at"],
            "notes": item.get("notes"),
            "tokens": item.get("tokens"),
            "spent": item.get("spent"),
            "request_key": item.get("requestKey"),
        },
    )


def _make_document_rows(table: str, id_column: str) -> _MakesRows:
    def make(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
        yield table, {id_column: item["documentId"], "version": item["version"], "document": _escape(item)}

    return make


def _make_change_rows(table: str, id_column: str) -> _MakesRows:
    def make(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
        row = {
            "version": item["version"],
            id_column: item["documentId"],
            "operation": item["operation"],
            "changed_by": item["by"],
            "changed_at": item["at"],
        }
        yield table, {**row, "fields": json.dumps(item["fields"])} if table == "animal_changes" else row

    return make


def _make_draft_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "animal_drafts",
        {
            "animal_id": item["documentId"],
            "document": _escape(item),
            "based_on": item["basedOn"],
            "made_by": item["by"],
            "made_at": item["at"],
        },
    )


def _escape(item: Item) -> str:
    """A document as SQLite's store writes it: a promotion compares the text."""
    return json.dumps(json.loads(item["document"]))


def _make_answer_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "answers",
        {
            "key": item["pk"].removeprefix("ANSWER#"),
            "body_hash": item["bodyHash"],
            "owner": item["owner"],
            "subject": item.get("subject"),
            "begun_at": item["begunAt"],
            "expires_at": item["expiresAt"],
            "status": item.get("status"),
            "headers": item.get("headers"),
            "body": zlib.decompress(item["body"]).decode() if "body" in item else None,
        },
    )


def _make_key_rows(database: Database, item: Item) -> Iterator[tuple[str, dict[str, Any]]]:
    yield (
        "idempotency_keys",
        {
            "key": item["pk"].removeprefix("KEY#"),
            "body_hash": item["bodyHash"],
            "turn_id": item["turnId"],
            "expires_at": item["expiresAt"],
        },
    )


_ROWS: Mapping[str, _MakesRows] = {
    "devices": _make_device_rows,
    "accounts": _make_account_rows,
    "logins": _make_login_rows,
    "refresh tokens": _make_token_rows,
    "credit entries": _make_entry_rows,
    "animals": _make_document_rows("animals", "animal_id"),
    "animal changes": _make_change_rows("animal_changes", "animal_id"),
    "animal drafts": _make_draft_rows,
    "rules": _make_document_rows("rules", "name"),
    "rule changes": _make_change_rows("rule_changes", "name"),
    "stored answers": _make_answer_rows,
    "idempotency keys": _make_key_rows,
}


# What prevents a copy


def _require_idle(running: int) -> None:
    if running:
        raise CopyRefused(
            f"{running} turns run: stop all servers. If one was killed, start one, wait for LEASE, and stop it: "
            "it settles what was left"
        )


def _require_empty(counts: Mapping[str, int], what: object) -> None:
    filled = [f"{count} {kind}" for kind, count in counts.items() if count]
    if filled:
        raise CopyRefused(f"{what} must be empty, but there are {', '.join(filled)}")
