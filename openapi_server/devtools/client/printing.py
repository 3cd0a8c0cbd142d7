"""What a person sees, and what is kept of it for `--save-output`."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import httpx

from openapi_server.devtools.client.asking import NoResult
from openapi_server.devtools.terminal import printable

RULE = "=" * 80


class Transcript:
    """Prints the events and keeps them. `response` is the answer's text, once a result came."""

    def __init__(self, *, is_verbose: bool = False) -> None:
        self.is_verbose = is_verbose
        self.events: list[dict[str, str]] = []
        self.response: str | None = None

    def say(self, text: str) -> None:
        lines = [printable(line) for line in text.split("\n")]
        click.echo("\n".join(lines), file=sys.stdout)

    def detail(self, text: str) -> None:
        """Only with `--verbose`."""
        if self.is_verbose:
            self.say(f"DEBUG - {text}")

    def heading(self, text: str) -> None:
        self.say(f"\n{RULE}\n{text}\n{RULE}")

    def event(self, name: str, data: str) -> None:
        """One event as it came. Raises `NoResult` for an error, and for a result that holds no response."""
        self.events.append({"event": name, "data": data})
        body = _decoded(data)
        self.say(f"\n[{name.upper()}]\n{data if body is None else json.dumps(body, indent=2, ensure_ascii=False)}")
        if name == "result":
            self.response = _response_of(body)
        elif name == "error":
            raise NoResult(sentence_of(body) or "The answer is an error that says nothing")

    def keep(self, name: str, body: object) -> None:
        """An event that is not printed: what a poll showed."""
        self.events.append({"event": name, "data": json.dumps(body)})

    def cookies(self, answer: httpx.Response) -> None:
        """The cookies of an answer; for the first answer there should be one, or polls reach another worker."""
        given = dict(answer.cookies)
        self.say(f"✅ Cookies received: {given}" if given else "⚠️ NO COOKIES received: is Set-Cookie missing?")

    def final_response(self) -> None:
        self.heading("FINAL RESPONSE:")
        self.say(self.response or "")

    def save(self, path: Path) -> None:
        """The events as a JSON list of {event, data}, `data` being a text. Raises `NoResult` when it cannot."""
        try:
            path.write_text(json.dumps(self.events, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise NoResult(f"{path} cannot be written: {error.strerror}") from None
        self.say(f"\n{len(self.events)} events saved to {path}")


async def refusal(answer: httpx.Response) -> NoResult:
    """An answer that is not 200, in the problem's own sentence."""
    await answer.aread()
    return NoResult(f"HTTP {answer.status_code}: {sentence_of(_decoded(answer.text)) or answer.reason_phrase}")


def sentence_of(body: Mapping[str, Any] | None) -> str | None:
    """What an error says for people: of a problem the detail, else this contract's own `error`."""
    for name in ("detail", "error", "message", "title"):
        said = (body or {}).get(name)
        if isinstance(said, str) and said:
            return said
    return None


def _decoded(data: str) -> dict[str, Any] | None:
    try:
        body = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return body if isinstance(body, dict) else None


def _response_of(body: Mapping[str, Any] | None) -> str:
    response = (body or {}).get("response")
    if not isinstance(response, str):
        raise NoResult("The result has no field `response` with a text")
    return response
