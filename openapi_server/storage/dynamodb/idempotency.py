"""Requests with idempotency keys and their answers in DynamoDB."""

from __future__ import annotations

import json
import zlib
from datetime import timedelta

from openapi_server.models.errors import KeyReused, RequestRunning
from openapi_server.models.idempotency import StoredAnswer
from openapi_server.models.turn import IdempotencyKey
from openapi_server.protocols import Clock
from openapi_server.storage.dynamodb.attribute_values import Item
from openapi_server.storage.dynamodb.batches_and_transactions import Database, Key, Transaction
from openapi_server.storage.dynamodb.items import make_state_key
from openapi_server.storage.retention_window import encode_time

# A request that was begun so long ago and has no answer belongs to a process that died: no handler runs for so long.
ABANDONED_AFTER = timedelta(seconds=60)


def _answer_key(key: IdempotencyKey) -> Key:
    return make_state_key("ANSWER", key.key)


def make_place_key(kind: str, name: str, key: str) -> Key:
    """Finds the answers to an owner (`OWNER`), or about a session or user (`SUBJECT`), to delete them."""
    return make_state_key(kind, name, f"ANSWER#{key}")


class DynamoRequests:
    """`RequestStore` over the tables of a `DynamoStore`. Answers are compressed: keepers' documents are long."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def begin(self, key: IdempotencyKey, owner: str) -> StoredAnswer | None:
        now = self._clock.now()

        def claim(transaction: Transaction) -> StoredAnswer | None:
            item = transaction.get(_answer_key(key))
            if item is not None and item["expiresAt"] > encode_time(now):
                if item["bodyHash"] != key.body_hash:
                    raise KeyReused("Use a new Idempotency-Key for every new request.")
                if "body" in item:
                    return _decode_answer(item)
                if item["begunAt"] > encode_time(now - ABANDONED_AFTER):
                    raise RequestRunning("Repeat it in a moment.", retry_after_s=1)
            ttl = int(key.expires_at.timestamp()) + 1
            begun = {
                "bodyHash": key.body_hash,
                "owner": owner,
                "begunAt": encode_time(now),
                "expiresAt": encode_time(key.expires_at),
                "ttl": ttl,
            }
            transaction.put(_answer_key(key), begun)
            transaction.put(make_place_key("OWNER", owner, key.key), {"ttl": ttl})
            return None

        return await self._database.transact(claim, f"key {key.key}")

    async def finish(self, key: IdempotencyKey, answer: StoredAnswer) -> None:
        def store(transaction: Transaction) -> None:
            item = transaction.get(_answer_key(key))
            if item is None or item["bodyHash"] != key.body_hash:
                return
            told = {
                "status": answer.status,
                "headers": json.dumps(answer.headers),
                "body": zlib.compress(answer.body.encode()),
                "subject": answer.subject,
            }
            transaction.put(_answer_key(key), {**item, **told})
            if answer.subject is not None:
                transaction.put(make_place_key("SUBJECT", answer.subject, key.key), {"ttl": item["ttl"]})

        await self._database.transact(store)

    async def release(self, key: IdempotencyKey) -> None:
        def delete(transaction: Transaction) -> None:
            item = transaction.get(_answer_key(key))
            if item is not None and item["bodyHash"] == key.body_hash and "body" not in item:
                transaction.delete(_answer_key(key))
                transaction.delete(make_place_key("OWNER", item["owner"], key.key))

        await self._database.transact(delete)


def _decode_answer(item: Item) -> StoredAnswer:
    headers = tuple((str(name), str(value)) for name, value in json.loads(item["headers"]))
    return StoredAnswer(item["status"], headers, zlib.decompress(item["body"]).decode(), item.get("subject"))
