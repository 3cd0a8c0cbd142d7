"""What is asked: the question, its history, and the request's body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROLES = ("user", "assistant")

Message = dict[str, str]


class HistoryError(Exception):
    """The file is no conversation. The message says what is wrong, and where."""


class ClientError(Exception):
    """It ended without a result. The message is for the person who asked."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A question to the chatbot at `url`. With `expects_job` a stream for an answer is worth a warning."""

    url: str
    query: str
    history: Sequence[Message] = ()
    auto_load: bool = True
    memory: bool = True
    expects_job: bool = False

    @property
    def body(self) -> dict[str, object]:
        """
        >>> ChatRequest("http://zoo.example/api/v1/stream", "Who are you?", memory=False).body
        {'query': 'Who are you?', 'auto_load_documents': True, 'memory_enabled': False}
        """
        body: dict[str, object] = {"query": self.query}
        if self.history:
            body["conversation_history"] = list(self.history)
        return body | {"auto_load_documents": self.auto_load, "memory_enabled": self.memory}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait for the result in all, and between two polls, in seconds."""

    total_s: float = 300
    poll_interval_s: float = 2


def read_history(path: Path) -> list[Message]:
    """The conversation in a file: a JSON list of {role, content}. Raises `HistoryError`."""
    try:
        messages = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HistoryError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise HistoryError(f"{path} is not JSON: {error}") from None
    if not isinstance(messages, list):
        raise HistoryError(f"{path} must hold a JSON list of messages, each with role and content")
    for number, message in enumerate(messages, 1):
        wrong = _find_error(message)
        if wrong:
            raise HistoryError(f"{path}: message {number} {wrong}")
    return messages


def _find_error(message: Any) -> str | None:
    if not isinstance(message, dict):
        return "must be an object with role and content"
    if message.get("role") not in ROLES:
        return f"must have the role {' or '.join(ROLES)}"
    if not isinstance(message.get("content"), str):
        return "must have a text as its content"
    unknown = sorted(set(message) - {"role", "content"})
    return f"has what is not known here: {', '.join(unknown)}" if unknown else None
