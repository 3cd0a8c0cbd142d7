"""What a person sees, and what is kept of it for `--save-output`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import httpx

from openapi_server.devtools.client.asking import ClientError
from openapi_server.devtools.terminal import escape_control_characters

RULER = "=" * 80


class Transcript:
    """Prints the events and keeps them. `response` is the answer's text, once a result came."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        self.is_verbose = is_verbose
        self.events: list[dict[str, str]] = []
        self.response: str | None = None

    def print(self, text: str) -> None:
        lines = [escape_control_characters(line) for line in text.split("\n")]
        click.echo("\n".join(lines), file=sys.stdout)

    def print_detail(self, text: str) -> None:
        """Only with `--verbose`."""
        if self.is_verbose:
            self.print(f"DEBUG - {text}")

    def print_heading(self, text: str) -> None:
        self.print(f"\n{RULER}\n{text}\n{RULER}")

    def add_event(self, name: str, data: str) -> None:
        """One event as it came. Raises `NoResult` for an error, and for a result that holds no response."""
        self.events.append({"event": name, "data": data})
        body = _parse_object(data)
        self.print(f"\n[{name.upper()}]\n{data if body is None else json.dumps(body, indent=2, ensure_ascii=False)}")
        if name == "result":
            self.response = _get_response(body)
        elif name == "error":
            raise ClientError(get_error_message(body) or "The answer is an error that says nothing")

    def store_event(self, name: str, body: object) -> None:
        """An event that is not printed: what a poll showed."""
        self.events.append({"event": name, "data": json.dumps(body)})

    def print_cookies(self, answer: httpx.Response) -> None:
        """The cookies of an answer; for the first answer there should be one, or polls reach another worker."""
        given = dict(answer.cookies)
        self.print(f"✅ Cookies received: {given}" if given else "⚠️ NO COOKIES received: is Set-Cookie missing?")

    def print_final_response(self) -> None:
        self.print_heading("FINAL RESPONSE:")
        self.print(self.response or "")

    def save(self, path: Path) -> None:
        """The events as a JSON list of {event, data}, `data` being a text. Raises `NoResult` when it cannot."""
        try:
            path.write_text(json.dumps(self.events, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise ClientError(f"{path} cannot be written: {error.strerror}") from None
        self.print(f"\n{len(self.events)} events saved to {path}")


async def make_error(answer: httpx.Response) -> ClientError:
    """An answer that is not 200, in the problem's own sentence."""
    await answer.aread()
    return ClientError(
        f"HTTP {answer.status_code}: {get_error_message(_parse_object(answer.text)) or answer.reason_phrase}"
    )


def get_error_message(body: Mapping[str, Any] | None) -> str | None:
    """What an error says for people: of a problem the detail, else this contract's own `error`."""
    for name in ("detail", "error", "message", "title"):
        said = (body or {}).get(name)
        if isinstance(said, str) and said:
            return said
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
        raise ClientError("The result has no field `response` with a text")
    return response
