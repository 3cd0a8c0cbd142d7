"""Opens the tables for the server, and explains to whoever runs it why they cannot be used."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    EndpointConnectionError,
    NoCredentialsError,
    PartialCredentialsError,
)

from openapi_server.config import DynamoLocation
from openapi_server.models.errors import StoreUnavailable
from openapi_server.storage.dynamodb.batches_and_transactions import RETRY_AFTER_S, Database, TableNames, open_client
from openapi_server.storage.dynamodb.items import SELF, make_state_key, session_key, turn_key

# The layout of the items. A server refuses tables whose layout is newer than its own.
LAYOUT = 1
_LAYOUT_KEY = make_state_key("LAYOUT", SELF)


def get_names(location: DynamoLocation) -> TableNames:
    return TableNames(location.sessions, location.turns, location.state)


async def open_database(location: DynamoLocation) -> Database:
    """Connect to the tables and compare their layout. Raises `StoreUnavailable`."""
    try:
        client = open_client(location.region, location.endpoint)
    except BotoCoreError as error:
        raise StoreUnavailable(retry_after_s=RETRY_AFTER_S) from error
    database = Database(client, get_names(location))
    try:
        await database.run(lambda: _check_layout(database))
    except BaseException:
        await database.close()
        raise
    return database


def _check_layout(database: Database) -> None:
    # Tables that are missing are noticed now, and not with the first visitor.
    found = database.get_many([_LAYOUT_KEY, session_key(SELF), turn_key(SELF, SELF)]).get(_LAYOUT_KEY)
    if found is None:
        database.write_many([(_LAYOUT_KEY, {"layout": LAYOUT})])
    elif found["layout"] > LAYOUT:
        raise StoreUnavailable(retry_after_s=RETRY_AFTER_S) from NewerLayout(found["layout"])


class NewerLayout(Exception):
    """The tables were written by a newer version of this server."""


def explain_failure(location: DynamoLocation, error: BaseException | None) -> str:
    """Why the tables cannot be used, in a sentence that names the setting, with what to do."""
    where = location.endpoint or f"DynamoDB in {location.region}"
    match error:
        case NewerLayout():
            return "STORE: the tables were written by a newer version of this server; install that version"
        case NoCredentialsError() | PartialCredentialsError():
            return "STORE: dynamodb needs AWS credentials: environment variables, a profile or a role; none was found"
        case EndpointConnectionError() | ConnectTimeoutError():
            return f"DYNAMODB_ENDPOINT: {where} cannot be reached; check the address and the network"
        case ClientError():
            return _explain_answer(location, where, error.response["Error"])
    return f"STORE: {where} cannot be used ({type(error).__name__})"


def _explain_answer(location: DynamoLocation, where: str, answer: dict[str, Any]) -> str:
    code = str(answer.get("Code"))
    match code:
        case "ResourceNotFoundException":
            names = ", ".join((location.sessions, location.turns, location.state))
            return (
                f"STORE: a table is missing at {where}: `zoochat tables check` says which, `zoochat tables create` "
                f"makes them ({names})"
            )
        case "UnrecognizedClientException" | "InvalidSignatureException" | "ExpiredTokenException":
            return f"STORE: {where} refuses the AWS credentials ({code}); check or renew them"
        case "AccessDeniedException":
            return f"STORE: the AWS credentials may not use the tables at {where}; docs/scaling.md lists what they need"
    return f"STORE: {where} refuses ({code})"
