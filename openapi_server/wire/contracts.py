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


class Operation(NamedTuple):
    """The method and path of an operation, as the keys in `openapi.yaml`."""

    method: str
    path: str


CONTRACTS: Mapping[Contract, Operation] = {
    CONVO: Operation("post", "/convo_turn_stream"),
    PLATFORM: Operation("post", "/api/v1/stream"),
    SESSIONS: Operation("post", "/chat/sessions/{sessionId}/stream"),
    CHAT: Operation("post", "/chat"),
    BARE_CHAT: Operation("post", "/chat"),
    DEVICES: Operation("post", "/chat/stream"),
}
