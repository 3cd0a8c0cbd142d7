"""The device chat guide: its requests and its tests, with the animal's name where the guide's agent has hers.

Its `TestClient` is httpx against a real process; its service classes have no counterpart, so their test asks the
server and looks into its database.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.contract import check_stream
from tests.support.processes import ServerProcess, run_zoochat
from tests.support.timing import wait_until

NAME = "Leo"  # of the animal that answers where no other was asked for

JSON_REQUEST = {
    "content": "Hello, I want to schedule an appointment",
    "media_urls": ["https://example.com/image.jpg"],
    "audio_urls": ["https://example.com/audio.mp3"],
}
STREAM_REQUEST: dict[str, Any] = {
    "content": "I need help with my medical consultation",
    "media_urls": [],
    "audio_urls": [],
}


def test_the_request_for_json(server: ServerProcess) -> None:
    """Exactly one key in the answer."""
    answer = httpx.post(f"{server.url}/chat/", json=JSON_REQUEST)

    assert answer.status_code == 200
    assert answer.json().keys() == {"content"}


def test_the_request_for_a_stream(server: ServerProcess) -> None:
    """Pieces, then one empty final event; timestamps with microseconds and without a zone, as the guide shows them."""
    answer = httpx.post(f"{server.url}/chat/stream", json=STREAM_REQUEST)

    data = [event.data for event in check_stream("/chat/stream", answer.content)]
    assert [piece["is_final"] for piece in data] == [False] * (len(data) - 1) + [True]
    assert data[-1] == {"content": "", "timestamp": data[-1]["timestamp"], "is_final": True}
    assert all(datetime.fromisoformat(piece["timestamp"]).tzinfo is None for piece in data)


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])
@pytest.mark.parametrize("content", ["", "   ", "\n\t"])
def test_blank_content_is_400(server: ServerProcess, path: str, content: str) -> None:
    """The guide's "400 - Bad Request", with the sentence that its clients know."""
    answer = httpx.post(f"{server.url}{path}", json={"content": content})

    assert answer.status_code == 400
    assert answer.json()["detail"] == "Content cannot be empty"


def test_chat_endpoint(server: ServerProcess) -> None:
    """Test regular chat endpoint."""
    with httpx.Client(base_url=server.url) as client:
        response = client.post(
            "/chat/",
            json={"content": "Hello, I want to schedule an appointment", "media_urls": [], "audio_urls": []},
        )

    assert response.status_code == 200
    data = response.json()
    assert "content" in data
    assert NAME in data["content"]


def test_chat_streaming_endpoint(server: ServerProcess) -> None:
    """Test streaming chat endpoint."""
    with httpx.Client(base_url=server.url) as client:
        response = client.post(
            "/chat/stream",
            json={"content": "I need help with my medical consultation", "media_urls": [], "audio_urls": []},
        )

    assert response.status_code == 200
    assert NAME in response.text


def read_rows(server: ServerProcess, query: str, *values: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(server.folder / "zoo.sqlite3")) as database:
        return database.execute(query, values).fetchall()


def test_chat_message_flow(server: ServerProcess) -> None:
    """Test complete chat message flow: the reply, the user `chat_<device>`, and both messages."""
    device = "test_user_123"
    answer = httpx.post(f"{server.url}/chat/", json=JSON_REQUEST, headers={"X-Device-ID": device})

    # Verify response
    assert NAME in answer.json()["content"]

    # Verify database storage
    users = read_rows(server, "SELECT handle FROM device_users WHERE handle = ?", f"chat_{device}")
    assert users == [(f"chat_{device}",)]
    messages = read_rows(
        server,
        "SELECT direction, body, media_url FROM messages JOIN turns USING (turn_id) JOIN sessions USING (session_id)"
        " WHERE handle = ? ORDER BY messages.created_at",
        f"chat_{device}",
    )
    assert messages == [
        ("incoming", JSON_REQUEST["content"], "https://example.com/image.jpg\nhttps://example.com/audio.mp3"),
        ("outgoing", answer.json()["content"], None),
    ]


async def test_chat_consultation_flow(server: ServerProcess) -> None:
    """Test complete chat consultation flow."""
    base_url = server.url

    async with httpx.AsyncClient() as client:
        # Step 1: Initial contact
        response = await client.post(
            f"{base_url}/chat/",
            json={"content": "Hello, I want to schedule an appointment", "media_urls": [], "audio_urls": []},
        )
        assert response.status_code == 200
        data = response.json()
        assert NAME in data["content"]

        # Step 2: Provide information
        response = await client.post(
            f"{base_url}/chat/",
            json={
                "content": "My name is John Doe and I need help with hair transplant",
                "media_urls": [],
                "audio_urls": [],
            },
        )
        assert response.status_code == 200
        data = response.json()
        assert "John" in data["content"]


def ask(server: ServerProcess, device: str, content: str, client: httpx.Client | None = None) -> str:
    """The reply. A device that keeps cookies has a client of its own; any other sends its name alone."""
    post = client.post if client else httpx.post
    answer = post(f"{server.url}/chat/", json={"content": content}, headers={"X-Device-ID": device})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["content"])


def test_john_is_remembered_by_his_device_alone(server: ServerProcess) -> None:
    """ "No conversation resets", and no shared default user: another device has never heard of him."""
    ask(server, "johns-phone", "My name is John Doe and I need help with hair transplant")

    assert "John" in ask(server, "johns-phone", "What is my name?")
    assert "John" not in ask(server, "another-phone", "What is my name?")


def test_the_sessions_lock(server: ServerProcess) -> None:
    """Who answers is chosen by what the visitor asks for, kept for the device, and logged."""
    with httpx.Client() as kiosk:
        ask(server, "kiosk-7", "May I talk to the tiger?", kiosk)
        ask(server, "kiosk-7", "How long do you sleep?", kiosk)
        session = kiosk.get(f"{server.url}/chat/session", headers={"X-Device-ID": "kiosk-7"}).json()

    assert (session["device"], session["active_animal"]) == ("chat_kiosk-7", "tiger_001")
    assert session["session_ttl"] == 86_400
    server.wait_for_log("Session lock for kiosk-7: tiger_001")


def test_a_lifetime_of_its_own(server: ServerProcess) -> None:
    """`conversation_state.session_ttl = 3600` is a request here."""
    device = {"X-Device-ID": "short-lived"}
    with httpx.Client(headers=device) as client:
        ask(server, device["X-Device-ID"], "Hello!", client)

        changed = client.patch(f"{server.url}/chat/session", json={"session_ttl": 3600})

        assert changed.status_code == 200
        assert client.get(f"{server.url}/chat/session").json()["session_ttl"] == 3600
    assert httpx.get(f"{server.url}/chat/session", headers=device).status_code == 404, "the name alone is no key"


def test_the_log_has_requests_and_no_messages(server: ServerProcess) -> None:
    """Whoever looks for "Chat message" finds the request's operation and status instead of what was said."""
    ask(server, "log-reader", "My secret word is marmalade.")
    lines = ("operation=send_device_message status=200", "event=turn_ended")
    wait_until(lambda: all(line in server.log for line in lines), within_s=5)

    assert "marmalade" not in server.log


def test_debug_true_is_named(tmp_path: Path) -> None:
    """The guide's variable is none of this server's: in `.env.local` it stops the start."""
    (tmp_path / ".env.local").write_text("DEBUG=true\n")

    ended = run_zoochat("serve", folder=tmp_path, variables={"PORT": "0", "SEMANTIC": "off"})

    assert ended.returncode == 2
    assert "DEBUG" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_cleanup(server: ServerProcess) -> None:
    """`cleanup_expired_sessions` is a command, and says how many it were."""
    ended = run_zoochat("sessions", "purge", variables={"SQLITE_PATH": os.fspath(server.folder / "zoo.sqlite3")})

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == "Cleaned up 0 expired sessions\n"
