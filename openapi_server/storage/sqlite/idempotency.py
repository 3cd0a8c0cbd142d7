"""Requests with idempotency keys and their answers in SQLite."""

from __future__ import annotations

import json
import sqlite3
from datetime import timedelta

from openapi_server.models.errors import KeyReused, RequestRunning
from openapi_server.models.idempotency import StoredAnswer
from openapi_server.models.turn import IdempotencyKey
from openapi_server.protocols import Clock
from openapi_server.storage.retention_window import encode_time
from openapi_server.storage.sqlite.connections import Connections
from openapi_server.storage.sqlite.rows import insert_row

# A request that was begun so long ago and has no answer belongs to a process that died: no handler runs for so long.
ABANDONED_AFTER = timedelta(seconds=60)


class SqliteRequests:
    """`RequestStore` over the connections of a `SqliteStore`, which opens and closes them."""

    def __init__(self, connections: Connections, clock: Clock) -> None:
        self._connections = connections
        self._clock = clock

    async def begin(self, key: IdempotencyKey, owner: str) -> StoredAnswer | None:
        now = self._clock.now()

        def claim(db: sqlite3.Connection) -> StoredAnswer | None:
            delete_expired_answers(db, encode_time(now))
            row = db.execute("SELECT * FROM answers WHERE key = ?", (key.key,)).fetchone()
            if row is not None and row["body_hash"] != key.body_hash:
                raise KeyReused("Use a new Idempotency-Key for every new request.")
            if row is not None and row["body"] is not None:
                return _decode_answer(row)
            if row is not None and row["begun_at"] > encode_time(now - ABANDONED_AFTER):
                raise RequestRunning("Repeat it in a moment.", retry_after_s=1)
            db.execute("DELETE FROM answers WHERE key = ?", (key.key,))
            claimed = {
                "key": key.key,
                "body_hash": key.body_hash,
                "owner": owner,
                "begun_at": encode_time(now),
                "expires_at": encode_time(key.expires_at),
            }
            insert_row(db, "answers", claimed)
            return None

        return await self._connections.write(claim)

    async def finish(self, key: IdempotencyKey, answer: StoredAnswer) -> None:
        query = "UPDATE answers SET status = ?, headers = ?, body = ?, subject = ? WHERE key = ? AND body_hash = ?"
        values = (answer.status, json.dumps(answer.headers), answer.body, answer.subject, key.key, key.body_hash)
        await self._connections.write(lambda db: db.execute(query, values))

    async def release(self, key: IdempotencyKey) -> None:
        query = "DELETE FROM answers WHERE key = ? AND body_hash = ? AND body IS NULL"
        await self._connections.write(lambda db: db.execute(query, (key.key, key.body_hash)))


def delete_expired_answers(db: sqlite3.Connection, now: str) -> None:
    db.execute("DELETE FROM answers WHERE expires_at <= ?", (now,))


def _decode_answer(row: sqlite3.Row) -> StoredAnswer:
    headers = tuple((str(name), str(value)) for name, value in json.loads(row["headers"]))
    return StoredAnswer(row["status"], headers, row["body"], row["subject"])
