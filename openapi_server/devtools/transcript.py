"""The output of `zoochat client`: what it prints, and what it keeps for `--save-output`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import httpx

from openapi_server.devtools.terminal import replace_control_characters

RULER = "=" * 80


class ClientError(Exception):
    """No result came, or it could not be saved. The message is printed for the user."""


class Transcript:
    """Prints events and keeps them. `response` is the text of the answer once a result has come."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        self.is_verbose = is_verbose
        self.events: list[dict[str, str]] = []
        self.response: str | None = None

    def print(self, text: str) -> None:
        lines = [replace_control_characters(line) for line in text.split("\n")]
        click.echo("\n".join(lines), file=sys.stdout)

    def print_detail(self, text: str) -> None:
        """Printed with `--verbose` only."""
        if self.is_verbose:
            self.print(f"DEBUG - {text}")

    def print_heading(self, text: str) -> None:
        self.print(f"\n{RULER}\n{text}\n{RULER}")

    def print_cookies(self, answer: httpx.Response) -> None:
        """The cookies of an answer. Without one, a load balancer may send later polls to another worker."""
        given = dict(answer.cookies)
        self.print(f"✅ Cookies received: {given}" if given else "⚠️ NO COOKIES received: is Set-Cookie missing?")

    def print_final_response(self) -> None:
        self.print_heading("FINAL RESPONSE:")
        self.print(self.response or "")

    def add_event(self, name: str, data: str) -> None:
        """Print and keep an event. Raises `ClientError` for an error event, and for a result without a response."""
        self.events.append({"event": name, "data": data})
        body = _parse_object(data)
        self.print(f"\n[{name.upper()}]\n{data if body is None else json.dumps(body, indent=2, ensure_ascii=False)}")
        if name == "result":
            self.response = _get_response(body)
        elif name == "error":
            raise ClientError(get_error_message(body) or "The error event has no message")

    def store_event(self, name: str, body: object) -> None:
        """Keep an event without printing it, as for the states that polls bring."""
        self.events.append({"event": name, "data": json.dumps(body)})

    def save(self, path: Path) -> None:
        """Write the events as a JSON list of {event, data}, `data` as text. Raises `ClientError` when that fails."""
        try:
            path.write_text(json.dumps(self.events, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ClientError(f"{path} cannot be written: {error.strerror}") from None
        self.print(f"\n{len(self.events)} events saved to {path}")


async def make_error(answer: httpx.Response) -> ClientError:
    """The error for an answer whose status is not 200, with the server's own message if it has one."""
    await answer.aread()
    message = get_error_message(_parse_object(answer.text)) or answer.reason_phrase
    return ClientError(f"HTTP {answer.status_code}: {message}")


def get_error_message(body: Mapping[str, Any] | None) -> str | None:
    """The message of an error object: `detail` as in RFC 9457, else `error`, `message` or `title`."""
    for name in ("detail", "error", "message", "title"):
        message = (body or {}).get(name)
        if isinstance(message, str) and message:
            return message
    return None


def _parse_object(data: str) -> dict[str, Any] | None:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _get_response(body: Mapping[str, Any] | None) -> str:
    response = (body or {}).get("response")
    if not isinstance(response, str):
        raise ClientError("The result has no text in its field `response`")
    return response
