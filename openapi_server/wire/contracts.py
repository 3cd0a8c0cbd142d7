"""All contracts and the operations that stream them. The encoder tests run for every contract listed here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from openapi_server.wire.chat import BARE_CHAT, CHAT
from openapi_server.wire.convo import CONVO
from openapi_server.wire.devices import DEVICES
from openapi_server.wire.platform import PLATFORM
from openapi_server.wire.sessions import SESSIONS
from openapi_server.wire.sse import Contract


class OperationKey(NamedTuple):
    """The method and path of an operation, as the keys in `openapi.yaml`."""

    method: str
    path: str


CONTRACTS: Mapping[Contract, OperationKey] = {
    CONVO: OperationKey("post", "/convo_turn_stream"),
    PLATFORM: OperationKey("post", "/api/v1/stream"),
    SESSIONS: OperationKey("post", "/chat/sessions/{sessionId}/stream"),
    CHAT: OperationKey("post", "/chat"),
    BARE_CHAT: OperationKey("post", "/chat"),
    DEVICES: OperationKey("post", "/chat/stream"),
}
