"""The script `test_streaming_session_id.py`, as its document describes it: the class and its methods, step by step.

Three addresses, one for each of the services that the document knows; here one server answers at all of them. Beside it
its sisters, which do the rest of what the three services are for: messages, credits, and supervision.
"""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import requests

from tests.readers.python_readers import by_requests_lines

HEADER = "X-Streaming-Session-Id"
TIMEOUT_S = 30
MAX_ATTEMPTS = 3


class Logger:
    """Collects what the script tells, with its level."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def success(self, message: str) -> None:
        self.lines.append(("success", message))

    def warning(self, message: str) -> None:
        self.lines.append(("warning", message))


@dataclass(frozen=True, slots=True)
class Services:
    """Where the three services listen."""

    auth_url: str
    accounting_url: str
    chat_url: str


@dataclass(slots=True)
class Streamed:
    """What a reader has of a stream: its id, the text so far, and, when it was read to its end, `done`."""

    streaming_session_id: str
    text: str = ""
    chunks: int = 0
    done: dict[str, Any] = field(default_factory=dict)


class StreamingTester:
    """Logs in, gets credits, streams, confirms with the right id and with a wrong one, and tidies up."""

    def __init__(self, services: Services, *, wait_s: float = 2) -> None:
        self.log = Logger()
        self.headers: dict[str, str] = {}
        self.session_id = ""
        self.streaming_session_id = ""
        self._services = services
        self._wait_s = wait_s
        self._session = requests.Session()
        self._admin_token = ""

    def close(self) -> None:
        self._session.close()

    def check_services_health(self) -> None:
        services = self._services
        # The sisters ask two of the services without the `/api` that is in their addresses, and one with it.
        plain = [url.removesuffix("/api") for url in (services.auth_url, services.accounting_url)]
        for url in (services.auth_url, services.accounting_url, services.chat_url, *plain):
            assert self._session.get(f"{url}/health", timeout=TIMEOUT_S).status_code == 200
        self.log.success("all services are healthy")

    def authenticate(self, username: str, password: str) -> None:
        self.headers = {"Authorization": f"Bearer {self._login(username, password)}"}

    def authenticate_admin(self, username: str, password: str) -> None:
        self._admin_token = self._login(username, password)

    def allocate_credits(self, username: str, credits: int) -> dict[str, Any]:
        answer = self._session.post(
            f"{self._services.accounting_url}/credits/allocate",
            json={"userId": username, "credits": credits, "expiryDays": 30, "notes": "for the streaming test"},
            headers={"Authorization": f"Bearer {self._admin_token}"},
            timeout=TIMEOUT_S,
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    def create_chat_session(self) -> None:
        title = f"Test Chat Session {int(time.time())}"
        answer = self._post("/chat/sessions", {"title": title, "initialMessage": "Hello!"})
        assert answer.status_code == 201, answer.text
        assert answer.json()["title"] == title
        self.session_id = answer.json()["sessionId"]

    def get_available_models(self) -> list[dict[str, Any]]:
        answer = self._session.get(f"{self._services.chat_url}/models", headers=self.headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return list(answer.json()["models"])

    def test_stream_with_correct_session_id(self, model_id: str) -> int:
        """Read the whole stream, wait, confirm; how many attempts it took."""
        streamed = self._stream("How long do you sleep?", model_id)
        assert streamed.done["message"] == streamed.text
        assert streamed.done["streamingSessionId"] == streamed.streaming_session_id
        time.sleep(self._wait_s)  # for the other server's database; ours needs none, and is tried without, too
        for attempt in range(1, MAX_ATTEMPTS + 1):
            answer = self._update(streamed, streamed.streaming_session_id)
            if answer.status_code == 200:
                assert answer.json()["sessionId"] == self.session_id
                self.log.success("the right id was accepted")
                return attempt
            self.log.warning(f"attempt {attempt}: {answer.text}")
            time.sleep(attempt)
        raise AssertionError(self.log.lines)

    def test_stream_with_incorrect_session_id(self, model_id: str) -> requests.Response:
        """Leave after five chunks, confirm with an id that was made up: the refusal."""
        streamed = self._stream("Tell me about your pride.", model_id, leave_after=5)
        return self._update(streamed, f"turn_{secrets.token_hex(16)}")

    def send_message(self, message: str, model_id: str) -> dict[str, Any]:
        """The messages script: a message without a stream."""
        answer = self._post(f"/chat/sessions/{self.session_id}/messages", {"message": message, "modelId": model_id})
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def get_messages(self) -> list[dict[str, Any]]:
        return list(self._get_json(self._services.chat_url, f"/chat/sessions/{self.session_id}/messages")["messages"])

    def get_balance(self) -> int:
        """The credits script."""
        return int(self._get_json(self._services.accounting_url, "/credits/balance")["totalCredits"])

    def check_credits(self, credits: int) -> bool:
        url = f"{self._services.accounting_url}/credits/check"
        answer = self._session.post(url, json={"credits": credits}, headers=self.headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return bool(answer.json()["sufficient"])

    def get_usage(self) -> dict[str, Any]:
        return self._get_json(self._services.accounting_url, "/usage/stats")

    def observe(self, username: str, password: str, events: int) -> tuple[list[str], str]:
        """The supervisor script: the user's stream is read by one, and watched by another who has another login.

        The first `data:` lines that the supervisor sees, and the streaming id of both.
        """
        supervisor = {"Authorization": f"Bearer {self._login(username, password)}"}
        users = self._get_json(self._services.chat_url, "/chat/users/search?query=use", supervisor)["users"]
        assert "user1" in [user["userId"] for user in users]
        sessions = self._get_json(self._services.chat_url, "/chat/users/user1/sessions", supervisor)
        assert (sessions["userId"], sessions["sessions"][0]["sessionId"]) == ("user1", self.session_id)
        path = f"/chat/users/user1/sessions/{self.session_id}"
        assert self._get_json(self._services.chat_url, path, supervisor)["messages"][0]["content"] == "Hello!"
        url = f"{self._services.chat_url}/chat/sessions/{self.session_id}"
        body, is_stream = {"message": "Tell me about your pride."}, {**self.headers, "Accept": "text/event-stream"}
        with (
            self._session.post(f"{url}/stream", json=body, headers=is_stream, stream=True, timeout=TIMEOUT_S) as own,
            requests.get(f"{url}/observe", headers=supervisor, stream=True, timeout=TIMEOUT_S) as seen,
        ):
            assert (own.status_code, seen.status_code) == (200, 200)
            assert streaming_id_of(own.headers) == streaming_id_of(seen.headers)
            lines = (line for line in seen.iter_lines(decode_unicode=True) if line.startswith("data:"))
            return [next(lines) for _ in range(events)], streaming_id_of(seen.headers)

    def delete_chat_session(self) -> dict[str, Any]:
        url = f"{self._services.chat_url}/chat/sessions/{self.session_id}"
        answer = self._session.delete(url, headers=self.headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def _login(self, username: str, password: str) -> str:
        url = f"{self._services.auth_url}/auth/login"
        answer = self._session.post(url, json={"username": username, "password": password}, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["accessToken"])

    def _get_json(self, base_url: str, path: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
        answer = self._session.get(f"{base_url}{path}", headers=headers or self.headers, timeout=TIMEOUT_S)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def _post(self, path: str, body: dict[str, Any]) -> requests.Response:
        return self._session.post(
            f"{self._services.chat_url}{path}", json=body, headers=self.headers, timeout=TIMEOUT_S
        )

    def _update(self, streamed: Streamed, streaming_session_id: str) -> requests.Response:
        body = {
            "completeResponse": streamed.text,
            "streamingSessionId": streaming_session_id,
            "tokensUsed": streamed.done.get("tokensUsed", streamed.chunks),
        }
        return self._post(f"/chat/sessions/{self.session_id}/update-stream", body)

    def _stream(self, message: str, model_id: str, leave_after: int | None = None) -> Streamed:
        with self._session.post(
            f"{self._services.chat_url}/chat/sessions/{self.session_id}/stream",
            json={"message": message, "modelId": model_id},
            headers={**self.headers, "Accept": "text/event-stream"},
            stream=True,
            timeout=TIMEOUT_S,
        ) as answer:
            assert answer.status_code == 200, answer.text
            streamed = Streamed(streaming_id_of(answer.headers))
            read_stream(answer, streamed, leave_after)
        self.streaming_session_id = streamed.streaming_session_id
        return streamed


def streaming_id_of(headers: Any) -> str:
    """The header by its exact name, else in any case. The document's made-up id as a last resort has no use here."""
    if HEADER in dict(headers):
        return str(dict(headers)[HEADER])
    found = [value for name, value in dict(headers).items() if name.lower() == HEADER.lower()]
    assert found, f"no {HEADER} among {list(headers)}"
    return str(found[0])


def read_stream(answer: requests.Response, streamed: Streamed, leave_after: int | None) -> None:
    """Line by line, as the script does: `event:`, then `data:`; until `done`, or until enough chunks came."""
    for event in by_requests_lines(answer):
        data = json.loads(event.data)
        if event.event == "chunk":
            streamed.text += data["text"]
            streamed.chunks += 1
        elif event.event == "done":
            streamed.done = data
        if streamed.chunks == leave_after:
            return
