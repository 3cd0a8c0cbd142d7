"""The tables of the store: makes them, and says what one lacks."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from openapi_server.storage.dynamodb.batches_and_transactions import Table, TableNames

TTL_ATTRIBUTE = "ttl"
ACTIVE_TIMEOUT_S = 120.0
# What an emulator answers to what it does not have.
_UNKNOWN = frozenset({"UnknownOperationException", "UnknownOperation", "InternalFailure"})


@dataclass(frozen=True, slots=True)
class Finding:
    """What a table is like. `is_usable`: the server can work with it. `lacks`: what should be otherwise."""

    name: str
    is_usable: bool
    lacks: tuple[str, ...] = ()


def check_tables(client: Any, names: TableNames) -> Iterator[Finding]:
    """Look at each table. Changes nothing."""
    for table in Table:
        yield _check_table(client, table, names[table])


def create_tables(client: Any, names: TableNames) -> Iterator[tuple[str, str]]:
    """Make the tables that are missing, and turn on what a table lacks. Yields the name and what was done."""
    for table in Table:
        name = names[table]
        if _describe(client, name) is None:
            client.create_table(
                TableName=name,
                BillingMode="PAY_PER_REQUEST",
                AttributeDefinitions=[
                    {"AttributeName": attribute, "AttributeType": "S"} for attribute in table.key_attributes
                ],
                KeySchema=_make_key_schema(table),
            )
            _wait_until_active(client, name)
            yield name, "created"
        if not _has_ttl(client, name):
            client.update_time_to_live(
                TableName=name, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
            )
            yield name, f"deletes items by the time in {TTL_ATTRIBUTE}"
        if _has_recovery(client, name) is False:
            _turn_on_recovery(client, name)
            yield name, "can be restored to any second of the last 35 days"


def _check_table(client: Any, table: Table, name: str) -> Finding:
    described = _describe(client, name)
    if described is None:
        return Finding(name, is_usable=False, lacks=("does not exist",))
    lacks = []
    schema = described.get("KeySchema", [])
    if schema != _make_key_schema(table) or any(
        each["AttributeType"] != "S"
        for each in described.get("AttributeDefinitions", [])
        if each["AttributeName"] in table.key_attributes
    ):
        wanted = " and ".join(table.key_attributes)
        return Finding(name, is_usable=False, lacks=(f"has other keys than {wanted}, which are texts",))
    if described.get("TableStatus") not in ("ACTIVE", "UPDATING"):
        return Finding(name, is_usable=False, lacks=(f"is {described.get('TableStatus')}, not yet ACTIVE",))
    if described.get("BillingModeSummary", {}).get("BillingMode") != "PAY_PER_REQUEST":
        lacks.append("has a provisioned capacity, so busy hours are throttled (billing mode PAY_PER_REQUEST)")
    if not _has_ttl(client, name):
        lacks.append(f"does not delete items by the time in {TTL_ATTRIBUTE} (time to live)")
    if _has_recovery(client, name) is False:
        lacks.append("cannot be restored (point-in-time recovery)")
    return Finding(name, is_usable=True, lacks=tuple(lacks))


def _make_key_schema(table: Table) -> list[dict[str, str]]:
    return [
        {"AttributeName": attribute, "KeyType": kind}
        for attribute, kind in zip(table.key_attributes, ("HASH", "RANGE"), strict=False)
    ]


def _describe(client: Any, name: str) -> dict[str, Any] | None:
    try:
        described: dict[str, Any] = client.describe_table(TableName=name)["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "ResourceNotFoundException":
            raise
        return None
    return described


def _turn_on_recovery(client: Any, name: str) -> None:
    """A table that was made a moment ago does not take it yet."""
    deadline_s = time.monotonic() + ACTIVE_TIMEOUT_S
    while True:
        try:
            client.update_continuous_backups(
                TableName=name, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
            )
            return
        except ClientError as error:
            code = error.response["Error"]["Code"]
            if code != "ContinuousBackupsUnavailableException" or time.monotonic() > deadline_s:
                raise
            time.sleep(2)


def _wait_until_active(client: Any, name: str) -> None:
    deadline_s = time.monotonic() + ACTIVE_TIMEOUT_S
    pause_s = 0.05
    while (_describe(client, name) or {}).get("TableStatus") != "ACTIVE":
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"{name} is not active after {ACTIVE_TIMEOUT_S:.0f} s")
        time.sleep(pause_s)
        pause_s = min(2.0, pause_s * 2)


def _has_ttl(client: Any, name: str) -> bool:
    found = client.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
    is_on = found.get("TimeToLiveStatus") in ("ENABLED", "ENABLING")
    return is_on and found.get("AttributeName") == TTL_ATTRIBUTE


def _has_recovery(client: Any, name: str) -> bool | None:
    """None where the endpoint does not know: an emulator."""
    try:
        found = client.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    except ClientError as error:
        if error.response["Error"]["Code"] in _UNKNOWN:
            return None
        raise
    return bool(found["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED")
