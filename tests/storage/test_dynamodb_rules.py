"""The rules that requests to DynamoDB are held against in the tests: each is broken once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.dynamodb_rules import Refused, Rules

KEY = {"pk": {"S": "a"}, "sk": {"S": "b"}}
OTHER = {"pk": {"S": "a"}, "sk": {"S": "c"}}


def put(**more: Any) -> dict[str, Any]:
    return {"Put": {"TableName": "t", "Item": {**KEY, "n": {"N": "1"}}, **more}}


def query(**more: Any) -> dict[str, Any]:
    return {
        "TableName": "t",
        "KeyConditionExpression": "#p = :p AND #s BETWEEN :low AND :high",
        "ExpressionAttributeNames": {"#p": "pk", "#s": "sk"},
        "ExpressionAttributeValues": {":p": {"S": "a"}, ":low": {"S": "a"}, ":high": {"S": "b"}},
        **more,
    }


def batch(count: int) -> dict[str, Any]:
    keys = [{"pk": {"S": "a"}, "sk": {"S": str(n)}} for n in range(count)]
    return {"RequestItems": {"t": [{"DeleteRequest": {"Key": key}} for key in keys]}}


def reads(count: int) -> dict[str, Any]:
    return {"RequestItems": {"t": {"Keys": [{"pk": {"S": "a"}, "sk": {"S": str(n)}} for n in range(count)]}}}


def checks(count: int) -> dict[str, Any]:
    return {
        "TransactItems": [
            {"Delete": {"TableName": "t", "Key": {"pk": {"S": "a"}, "sk": {"S": str(n)}}}} for n in range(count)
        ]
    }


CONDITION = {"ConditionExpression": "#n = :n", "ExpressionAttributeNames": {"#n": "n"}}
VALUES = {"ExpressionAttributeValues": {":n": {"N": "1"}}}
TAKEN = {
    "a query": ("Query", query()),
    "a batch of 25": ("BatchWriteItem", batch(25)),
    "100 reads": ("BatchGetItem", reads(100)),
    "100 writes in one": ("TransactWriteItems", checks(100)),
    "a condition": ("PutItem", {**put()["Put"], **CONDITION, **VALUES}),
}
REFUSED = {
    "a batch of 26": ("BatchWriteItem", batch(26)),
    "101 reads": ("BatchGetItem", reads(101)),
    "101 writes in one": ("TransactWriteItems", checks(101)),
    "one item twice in a transaction": (
        "TransactWriteItems",
        {"TransactItems": [put(), {"Delete": {"TableName": "t", "Key": KEY}}]},
    ),
    "one item twice in a batch": (
        "BatchWriteItem",
        {"RequestItems": {"t": [{"PutRequest": {"Item": KEY}}, {"DeleteRequest": {"Key": KEY}}]}},
    ),
    "one item read twice": ("BatchGetItem", {"RequestItems": {"t": {"Keys": [KEY, KEY]}}}),
    "an empty batch": ("BatchWriteItem", {"RequestItems": {}}),
    "a large item": ("PutItem", {"TableName": "t", "Item": {**KEY, "text": {"S": "ä" * 204_800}}}),
    "a large transaction": (
        "TransactWriteItems",
        {
            "TransactItems": [
                {"Put": {"TableName": "t", "Item": {"pk": {"S": str(n)}, "sk": {"S": "a"}, "x": {"S": "x" * 390_000}}}}
                for n in range(11)
            ]
        },
    ),
    "an empty key": ("GetItem", {"TableName": "t", "Key": {"pk": {"S": ""}, "sk": {"S": "b"}}}),
    "a long sort key": ("GetItem", {"TableName": "t", "Key": {"pk": {"S": "a"}, "sk": {"S": "ä" * 513}}}),
    "an empty text in a key's condition": (
        "Query",
        query(ExpressionAttributeValues={":p": {"S": "a"}, ":low": {"S": ""}, ":high": {"S": "b"}}),
    ),
    "bounds the wrong way round": (
        "Query",
        query(ExpressionAttributeValues={":p": {"S": "a"}, ":low": {"S": "c"}, ":high": {"S": "b"}}),
    ),
    "a limit of 0": ("Query", query(Limit=0)),
    "a query without a partition": (
        "Query",
        query(KeyConditionExpression="#s BETWEEN :low AND :high", ExpressionAttributeNames={"#s": "sk"}),
    ),
    "an unused name": (
        "PutItem",
        {**put()["Put"], **CONDITION, **VALUES, "ExpressionAttributeNames": {"#n": "n", "#x": "x"}},
    ),
    "an unused value": (
        "PutItem",
        {
            **put()["Put"],
            **CONDITION,
            "ExpressionAttributeValues": {":n": {"N": "1"}, ":x": {"N": "1"}},
        },
    ),
    "names without an expression": ("PutItem", {**put()["Put"], "ExpressionAttributeNames": {"#n": "n"}}),
    "a value that is not given": ("PutItem", {**put()["Put"], **CONDITION}),
    "empty values": ("PutItem", {**put()["Put"], **CONDITION, "ExpressionAttributeValues": {}}),
    "a bare name": ("PutItem", {**put()["Put"], "ConditionExpression": "status = :n", **VALUES}),
    "a check without a condition": (
        "TransactWriteItems",
        {"TransactItems": [{"ConditionCheck": {"TableName": "t", "Key": KEY}}]},
    ),
    "a long number": ("PutItem", {"TableName": "t", "Item": {**KEY, "n": {"N": "1" * 39}}}),
    "a long token": ("TransactWriteItems", {**checks(1), "ClientRequestToken": "x" * 37}),
}


@pytest.mark.parametrize(("operation", "params"), TAKEN.values(), ids=TAKEN.keys())
def test_what_dynamodb_takes_is_taken(operation: str, params: dict[str, Any]) -> None:
    """At the limits, too."""
    rules = Rules()
    rules.check(operation, params)
    assert rules.checked == 1


@pytest.mark.parametrize(("operation", "params"), REFUSED.values(), ids=REFUSED.keys())
def test_what_dynamodb_refuses_is_refused(operation: str, params: dict[str, Any]) -> None:
    """Though moto takes most of it."""
    with pytest.raises(Refused):
        Rules().check(operation, params)


def test_a_token_belongs_to_one_request() -> None:
    """The same request may come again with it."""
    rules = Rules()
    for _ in range(2):
        rules.check("TransactWriteItems", {**checks(1), "ClientRequestToken": "one"})
    with pytest.raises(Refused):
        rules.check("TransactWriteItems", {**checks(2), "ClientRequestToken": "one"})
