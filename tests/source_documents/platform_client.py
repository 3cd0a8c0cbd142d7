"""A client of the quick start, written anew after it: how it makes its URLs, reads a stream and polls a job.

It knows what the document tells and no more: no event ids, no `retry`, no resuming, no problem objects.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import requests

from tests.readers.python_readers import by_split_lines

STREAM = "/stream"
TIMEOUT_S = 30
MAX_POLLS = 150
ENDED = ("succeeded", "failed")

Told = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of a query: the events in their order, or the states of a job as such events."""

    events: list[Told]
    is_job: bool
    cookies: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.events]

    @property
    def progress(self) -> list[int]:
        return [data["progress"] for name, data in self.events if name == "progress"]

    @property
    def response(self) -> str:
        (result,) = (data for name, data in self.events if name == "result")
        return str(result["response"])


class PlatformClient:
    """Sends queries as the platform does. Whatever URL it is given, it puts `/stream` behind it unless it ends so."""

    def __init__(self, url: str, *, poll_interval_s: float = 0.02) -> None:
        bare = url.rstrip("/")
        self.url = bare if bare.endswith(STREAM) else bare + STREAM
        self._poll_interval_s = poll_interval_s
        self._http = requests.Session()

    def ask(self, query: str, history: list[dict[str, str]] | None = None) -> Answered:
        """Send the query and read its answer to the end. Raises `requests.HTTPError` when it is refused."""
        body = {
            "query": query,
            "conversation_history": history or [],
            "auto_load_documents": True,
            "memory_enabled": True,
        }
        with self._http.post(self.url, json=body, stream=True, timeout=TIMEOUT_S) as answer:
            answer.raise_for_status()
            is_job = "application/json" in answer.headers["content-type"]
            events = list(self._poll(answer.json()) if is_job else read_events(answer))
        return Answered(events, is_job, dict(self._http.cookies))

    def _poll(self, job: Mapping[str, Any]) -> Iterator[Told]:
        """The states of the job as events. Its URL is relative to the address before `/stream`."""
        base = self.url.rsplit(STREAM, 1)[0] + "/"
        url = urljoin(base, job.get("polling_url") or f"jobs/{job['job_id']}")
        for _ in range(MAX_POLLS):
            answer = self._http.get(url, timeout=TIMEOUT_S)
            answer.raise_for_status()
            state = answer.json()
            yield "progress", state["latest_progress"]
            if state["status"] in ENDED:
                is_failed = state["status"] == "failed"
                yield ("error", {"error": state["error"]}) if is_failed else ("result", state["result"])
                return
            time.sleep(self._poll_interval_s)
        raise AssertionError(f"not finished after {MAX_POLLS} polls")


def read_events(answer: requests.Response) -> Iterator[Told]:
    """Line by line: `event: ` names what the next `data: ` holds, every other line is passed over."""
    for event in by_split_lines(answer.iter_content(chunk_size=None)):
        yield event.event, json.loads(event.data)
