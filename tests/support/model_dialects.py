"""How model servers write a streamed reply: OpenAI, Anthropic and Bedrock. Pure."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from openapi_server.models.turn import FinishReason, Usage

MODEL = "scripted-1"
# The error text of a model server; it must never reach a visitor or a log.
PRIVATE_ERROR = "the model server's own words"


class Dialect(Protocol):
    """The bytes of one kind of model server: one frame, or a few, a method."""

    content_type: str

    def encode_start(self, usage: Usage | None) -> bytes: ...

    def encode_piece(self, text: object) -> bytes:
        """`text` of a wrong type is written unchanged."""

    def encode_end(self, finish: object, usage: Usage | None) -> bytes:
        """A `finish` of a wrong type is written unchanged, too."""

    def encode_signs_of_life(self) -> Sequence[bytes]:
        """What a server sends while it works and has no text: thoughts, pings, comments, frames of later versions."""

    def encode_bare_end(self) -> bytes:
        """The end of a reply without its reason."""

    def encode_bad_json(self) -> bytes:
        """A frame with invalid JSON."""

    def encode_error(self) -> bytes:
        """The error that ends a reply early."""


class OpenAIDialect:
    """Chat completions: unnamed server-sent events, and "[DONE]"."""

    content_type = "text/event-stream"
    _finishes: Mapping[FinishReason, str] = {
        FinishReason.STOP: "stop",
        FinishReason.LENGTH: "length",
        FinishReason.BLOCKED: "content_filter",
    }

    def encode_start(self, usage: Usage | None) -> bytes:
        return self._choice({"role": "assistant", "content": ""})

    def encode_piece(self, text: object) -> bytes:
        return self._choice({"content": text})

    def encode_end(self, finish: object, usage: Usage | None) -> bytes:
        counted = b""
        if usage:
            counts = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens}
            counted = self._chunk(choices=[], usage={**counts, "total_tokens": usage.total})
        return self._choice({}, _finish(self._finishes, finish)) + counted + b"data: [DONE]\n\n"

    def encode_signs_of_life(self) -> Sequence[bytes]:
        return (
            b": OPENROUTER PROCESSING\n\n",
            b":\n\n",
            b"event: ping\ndata: {}\n\n",
            b"data:\n\n",
            self._choice({"reasoning_content": "I plan."}),
            self._choice({"content": None, "reasoning": "I plan."}),
            self._choice({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "I plan."}]}]}),
            self._choice({"role": "assistant", "content": ""}),
            # The verdict of a filter: no choice, no delta, a delta of nothing.
            self._chunk(choices=[], prompt_filter_results=[]),
            self._chunk(choices=[{"index": 0, "content_filter_results": {}, "finish_reason": None}]),
            self._chunk(choices=[{"index": 0, "delta": None}]),
            self._chunk(choices=None),
            _sse({}),
        )

    def encode_bare_end(self) -> bytes:
        return b"data: [DONE]\n\n"

    def encode_bad_json(self) -> bytes:
        return b'data: {"choices": [{\n\n'

    def encode_error(self) -> bytes:
        return _sse({"error": {"message": PRIVATE_ERROR, "type": "server_error"}})

    def _choice(self, delta: Mapping[str, object], finish: object = None) -> bytes:
        return self._chunk(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])

    def _chunk(self, **members: object) -> bytes:
        head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": MODEL}
        return _sse({**head, **members})


class AnthropicDialect:
    """Messages: named server-sent events."""

    content_type = "text/event-stream"
    _finishes: Mapping[FinishReason, str] = {
        FinishReason.STOP: "end_turn",
        FinishReason.LENGTH: "max_tokens",
        FinishReason.BLOCKED: "refusal",
    }

    def encode_start(self, usage: Usage | None) -> bytes:
        read = usage.prompt_tokens if usage else 0
        # Three of them out of the cache, as it may happen.
        counts = {"input_tokens": max(0, read - 3), "cache_read_input_tokens": min(3, read), "output_tokens": 1}
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": []}
        block = {"index": 0, "content_block": {"type": "text", "text": ""}}
        return (
            self._event("message_start", message={**message, "stop_reason": None, "usage": counts})
            + self._event("content_block_start", **block)
            + self._event("ping")
        )

    def encode_piece(self, text: object) -> bytes:
        return self._event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})

    def encode_end(self, finish: object, usage: Usage | None) -> bytes:
        delta = {"stop_reason": _finish(self._finishes, finish), "stop_sequence": None}
        said = {"output_tokens": usage.completion_tokens if usage else 0}
        return (
            self._event("content_block_stop", index=0)
            + self._event("message_delta", delta=delta, usage=said)
            + self._event("message_stop")
        )

    def encode_signs_of_life(self) -> Sequence[bytes]:
        thought = {"type": "thinking_delta", "thinking": "I plan."}
        return (
            b": working\n\n",
            self._event("ping"),
            self._event("content_block_start", index=0, content_block={"type": "thinking", "thinking": ""}),
            self._event("content_block_delta", index=0, delta=thought),
            self._event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "x"}),
            self._event("content_block_delta", index=0),
            self._event("of_a_later_version", anything=1),
        )

    def encode_bare_end(self) -> bytes:
        return self._event("message_delta", delta={"stop_reason": None}) + self._event("message_stop")

    def encode_bad_json(self) -> bytes:
        return b'event: content_block_delta\ndata: {"type": "content_block\n\n'

    def encode_error(self) -> bytes:
        error = {"type": "overloaded_error", "message": PRIVATE_ERROR}
        return self._event("error", error=error)

    def _event(self, name: str, **members: object) -> bytes:
        return f"event: {name}\n".encode() + _sse({"type": name, **members})


class BedrockDialect:
    """ConverseStream: binary messages (`vnd.amazon.eventstream`)."""

    content_type = "application/vnd.amazon.eventstream"
    _finishes: Mapping[FinishReason, str] = {
        FinishReason.STOP: "end_turn",
        FinishReason.LENGTH: "max_tokens",
        FinishReason.BLOCKED: "guardrail_intervened",
    }

    def encode_start(self, usage: Usage | None) -> bytes:
        return self._event("messageStart", {"role": "assistant"})

    def encode_piece(self, text: object) -> bytes:
        return self._event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": text}})

    def encode_end(self, finish: object, usage: Usage | None) -> bytes:
        counted = b""
        if usage:
            counts = {"inputTokens": usage.prompt_tokens, "outputTokens": usage.completion_tokens}
            counted = self._event(
                "metadata", {"usage": {**counts, "totalTokens": usage.total}, "metrics": {"latencyMs": 1}}
            )
        stopped = self._event("messageStop", {"stopReason": _finish(self._finishes, finish)})
        return self._event("contentBlockStop", {"contentBlockIndex": 0}) + stopped + counted

    def encode_signs_of_life(self) -> Sequence[bytes]:
        thought = {"reasoningContent": {"text": "I plan."}}
        return (
            self._event("contentBlockDelta", {"contentBlockIndex": 0, "delta": thought}),
            self._event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": ""}}),
            self._event(
                "contentBlockStart", {"contentBlockIndex": 0, "start": {"toolUse": {"toolUseId": "1", "name": "x"}}}
            ),
            self._event("metadata", {"metrics": {"latencyMs": 1}}),
        )

    def encode_bare_end(self) -> bytes:
        return self._event("messageStop", {})

    def encode_bad_json(self) -> bytes:
        return self._message({":message-type": "event", ":event-type": "contentBlockDelta"}, b'{"delta": {')

    def encode_error(self) -> bytes:
        headers = {":message-type": "exception", ":exception-type": "throttlingException"}
        return self._message(headers, json.dumps({"message": PRIVATE_ERROR}).encode())

    def _event(self, name: str, payload: Mapping[str, Any]) -> bytes:
        return self._message({":message-type": "event", ":event-type": name}, json.dumps(payload).encode())

    def _message(self, headers: Mapping[str, str], payload: bytes) -> bytes:
        """Lengths, their checksum, headers (each a name and a value of type 7, a string), payload, checksum of all."""
        written = b"".join(
            struct.pack(f"!B{len(name)}sBH{len(value)}s", len(name), name.encode(), 7, len(value), value.encode())
            for name, value in {**headers, ":content-type": "application/json"}.items()
        )
        lengths = struct.pack("!II", 16 + len(written) + len(payload), len(written))
        message = lengths + struct.pack("!I", zlib.crc32(lengths)) + written + payload
        return message + struct.pack("!I", zlib.crc32(message))


def _finish(known: Mapping[FinishReason, str], finish: object) -> object:
    return known[finish] if isinstance(finish, FinishReason) else finish


def _sse(data: Mapping[str, object]) -> bytes:
    return b"data: " + json.dumps(data).encode() + b"\n\n"
