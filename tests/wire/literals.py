"""The example values in their exact bytes, from which the tests' tables are made."""

from __future__ import annotations

from openapi_server.models.turn_events import Entry, TurnEvent
from openapi_server.wire.sse import Contract
from tests.support.examples import NOON, TURN_ID

AT = "2026-11-21T12:00:00.123Z"
AT_NAIVE = "2026-11-21T12:00:00.123456"
ID = f"id: {TURN_ID}-7\n"
PROBLEM_BYTES = (
    '{"type":"/problems/provider_failed","title":"The animal lost its voice","status":502,'
    '"detail":"The animal lost its voice.","code":"provider_failed",'
    f'"errors":[{{"field":"metadata.size","message":"must be a number"}}],"turnId":"{TURN_ID}"}}'
)


def told(contract: Contract, event: TurnEvent) -> str:
    """What the contract makes of the event, as the seventh entry of its turn."""
    return contract.encode_entry(Entry(TURN_ID, 7, NOON, event)).decode()
