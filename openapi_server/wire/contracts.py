"""Every contract, and the operation that streams it. A new one is a line here, and the encoder suite runs for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from openapi_server.wire.chat import CHAT
from openapi_server.wire.convo import CONVO
from openapi_server.wire.devices import DEVICES
from openapi_server.wire.platform import PLATFORM
from openapi_server.wire.sessions import SESSIONS
from openapi_server.wire.sse import Contract


class Operation(NamedTuple):
    """An operation by the keys that it has in `openapi.yaml`."""

    method: str
    path: str


CONTRACTS: Mapping[Contract, Operation] = {
    CONVO: Operation("post", "/convo_turn_stream"),
    PLATFORM: Operation("post", "/api/v1/stream"),
    SESSIONS: Operation("post", "/chat/sessions/{sessionId}/stream"),
    CHAT: Operation("post", "/chat"),
    DEVICES: Operation("post", "/chat/stream"),
}
