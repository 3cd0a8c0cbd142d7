"""DynamoDB for the tests: moto's server in a process of its own, or any endpoint that `DYNAMODB_ENDPOINT` names.

The tables are made once, and emptied before each test that begins with another folder.
"""

from __future__ import annotations

import atexit
import os
import secrets
import subprocess
import sys
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

from openapi_server.config import DEFAULT_REGION, DynamoLocation
from openapi_server.protocols import Clock
from openapi_server.storage.dynamodb import opening
from openapi_server.storage.dynamodb.batches_and_transactions import THREADS, Table, open_client
from openapi_server.storage.dynamodb.tables import create_tables
from openapi_server.storage.factory import Stores, open_dynamodb_stores
from tests.support.dynamodb_rules import Rules

RULES = Rules()
START_TIMEOUT_S = 60


@dataclass
class _Folders:
    """Which folder's data is in the tables."""

    current: Path | None = None


_folders = _Folders()


@cache
def open_checked_client(region: str, endpoint: str | None) -> Any:
    """One client for all tests, whose every request is checked: to make one takes a fifth of a second."""
    # Two stores share it, and a busy machine answers one of their 64 threads after the other.
    client = RULES.watch(open_client(region, endpoint, read_timeout_s=60, connections=2 * THREADS))
    atexit.register(client.close)
    client.close = lambda: None
    return client


setattr(opening, "open_client", open_checked_client)  # noqa: B010  # mypy takes no other way


@cache
def find_endpoint() -> str:
    """The address of a DynamoDB that the tests may write to. The first call starts one, unless one is named."""
    named = os.environ.get("DYNAMODB_ENDPOINT")
    # moto and DynamoDB Local take any; a real account's are used where they are set.
    os.environ.setdefault("AWS_ACCESS_KEY_ID", "testing")
    os.environ.setdefault("AWS_SECRET_ACCESS_KEY", "testing")
    if named:
        return named
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.support.dynamodb_server"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    atexit.register(_stop, server)
    assert server.stdout is not None
    return f"http://127.0.0.1:{int(server.stdout.readline())}"


def _stop(server: subprocess.Popen[str]) -> None:
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.close()
    server.wait(START_TIMEOUT_S)
    server.stdout.close()


@cache
def find_tables() -> DynamoLocation:
    """Tables of this process, with names that no other has."""
    location = make_location(f"zoochat-test-{secrets.token_hex(6)}")
    client = open_checked_client(location.region, location.endpoint)
    for _ in create_tables(client, opening.get_names(location)):
        pass
    if os.environ.get("DYNAMODB_ENDPOINT"):
        atexit.register(_delete_tables, client, location)
    return location


def make_location(prefix: str) -> DynamoLocation:
    """The place of tables whose names begin with the prefix. They need not exist."""
    region = os.environ.get("AWS_REGION", DEFAULT_REGION)
    names = (f"{prefix}-{table.value}" for table in Table)
    return DynamoLocation(region, find_endpoint(), *names)


def _delete_tables(client: Any, location: DynamoLocation) -> None:
    for table in Table:
        client.delete_table(TableName=opening.get_names(location)[table])


def use_tables(folder: Path) -> DynamoLocation:
    """The tables, which are empty at the first use of the folder."""
    location = find_tables()
    if _folders.current != folder:
        empty_tables(location)
        _folders.current = folder
    return location


def empty_tables(location: DynamoLocation) -> None:
    client = open_checked_client(location.region, location.endpoint)
    for table in Table:
        name = opening.get_names(location)[table]
        keys = [
            {attribute: item[attribute] for attribute in table.key_attributes}
            for page in client.get_paginator("scan").paginate(TableName=name, ConsistentRead=True)
            for item in page["Items"]
        ]
        for start in range(0, len(keys), 25):
            request = {name: [{"DeleteRequest": {"Key": key}} for key in keys[start : start + 25]]}
            while request := client.batch_write_item(RequestItems=request)["UnprocessedItems"]:
                pass


def open_dynamodb(
    folder: Path, clock: Clock, retention: timedelta | None = None, /
) -> AbstractAsyncContextManager[Stores]:
    return open_dynamodb_stores(use_tables(folder), clock, retention)
