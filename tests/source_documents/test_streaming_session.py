"""The streaming session test: its script's phases in its order, and what it could only hope for: no wait, no retry."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest
import requests
from requests.structures import CaseInsensitiveDict

from tests.source_documents.streaming_tester import HEADER, Services, StreamingTester, streaming_id_of
from tests.support.contract import check_stream
from tests.support.processes import ServerProcess


@pytest.fixture(params=[(2, ""), (0, ""), (0, "/api")], ids=["with the wait", "without", "without, under /api"])
def tester(server: ServerProcess, request: pytest.FixtureRequest) -> Iterator[StreamingTester]:
    """The script, logged in, with credits and a session; with its wait of two seconds, and without; and where its
    services have their paths, under `/api`, with nothing but the hosts changed."""
    wait_s, prefix = request.param
    url = f"{server.url}{prefix}"
    script = StreamingTester(Services(url, url, url), wait_s=wait_s)
    script.check_services_health()
    script.authenticate("user1", "user1-demo")
    script.authenticate_admin("admin", "admin-demo")
    script.allocate_credits("user1", 5000)
    script.create_chat_session()
    yield script
    script.close()


def test_the_whole_script(tester: StreamingTester) -> None:
    """Health to deletion; the right id is accepted at the first attempt, a wrong one is refused as a mismatch."""
    model_id = tester.get_available_models()[0]["id"]

    assert tester.test_stream_with_correct_session_id(model_id) == 1
    refusal = tester.test_stream_with_incorrect_session_id(model_id)
    deletion = tester.delete_chat_session()

    assert refusal.status_code == 400
    assert "mismatch" in refusal.text
    assert tester.streaming_session_id not in refusal.text
    assert deletion["sessionId"] == tester.session_id
    assert [level for level, _ in tester.log.lines] == ["success", "success"]


@pytest.mark.parametrize("tester", [(0, "")], indirect=True)
def test_the_right_id_counts_from_the_first_byte_on(tester: StreamingTester, server: ServerProcess) -> None:
    """The race of the document: confirmed right after the header, while the stream still runs."""
    url = f"{server.url}/chat/sessions/{tester.session_id}"
    with httpx.Client(headers=tester.headers) as client:
        with client.stream("POST", f"{url}/stream", json={"message": "Tell me about your pride."}) as answer:
            confirmation = {"completeResponse": "", "streamingSessionId": answer.headers[HEADER], "tokensUsed": 0}
            confirmed = client.post(f"{url}/update-stream", json=confirmation)
        again = client.post(f"{url}/stream", json={"message": "Hello!"})

    assert confirmed.status_code == 200, confirmed.text
    assert again.status_code == 200, "a confirmed stream is over, and the session free"
    assert check_stream("/chat/sessions/{sessionId}/stream", again.content)[-1].event == "done"


@pytest.mark.parametrize("tester", [(0, "")], indirect=True)
def test_a_wrong_id_hurts_nobody(tester: StreamingTester) -> None:
    """After the refusal the right id is still good: the stream that the session made last."""
    refusal = tester.test_stream_with_incorrect_session_id("offline-keeper-1")
    problem = refusal.json()
    assert refusal.status_code == 400
    assert all("mismatch" in str(problem[name]) for name in ("title", "detail", "errors", "message"))
    assert "error" not in problem

    confirmation = {"completeResponse": "", "streamingSessionId": tester.streaming_session_id, "tokensUsed": 5}
    url = refusal.url
    accepted = requests.post(url or "", json=confirmation, headers=tester.headers, timeout=30)

    assert accepted.status_code == 200, accepted.text


@pytest.mark.parametrize("name", [HEADER, HEADER.lower(), HEADER.upper(), "X-Streaming-Session-ID"])
def test_the_header_is_found_however_it_is_written(name: str) -> None:
    """Both ways of the script to look it up."""
    assert streaming_id_of(CaseInsensitiveDict({name: "turn_1"})) == "turn_1"


# -- The script's sisters, with the paths that their services have

UNDER_API = pytest.mark.parametrize("tester", [(0, ""), (0, "/api")], indirect=True, ids=["plain", "under /api"])


@UNDER_API
def test_messages_without_a_stream(tester: StreamingTester) -> None:
    """The messages script, which names the model of its own server: 200, and the session has the whole talk."""
    answer = tester.send_message("Tell me about your pride.", "anthropic.claude-3-sonnet-20240229-v1:0")
    messages = tester.get_messages()

    assert answer["sessionId"] == tester.session_id
    assert [(said["role"], said["content"]) for said in messages] == [
        ("user", "Hello!"),
        ("user", "Tell me about your pride."),
        ("assistant", answer["message"]),
    ]


@UNDER_API
def test_the_credits_are_checked_and_charged(tester: StreamingTester) -> None:
    """The credits script: the balance is no 0, the check agrees with it, and the usage with what is missing later."""
    before, used = tester.get_balance(), tester.get_usage()["total"]

    assert before >= 5000
    assert tester.check_credits(before)
    assert not tester.check_credits(before + 1)
    answer = tester.send_message("How long do you sleep?", "offline-keeper-1")

    assert before - tester.get_balance() == answer["tokensUsed"] > 0
    total = tester.get_usage()["total"]
    assert (total["turns"], total["tokens"]) == (used["turns"] + 1, used["tokens"] + answer["tokensUsed"])


@UNDER_API
def test_a_supervisor_observes(tester: StreamingTester) -> None:
    """The supervisor script: a user is found, the sessions are read, and three events of a running stream are seen.

    A supervisor here is a zookeeper.
    """
    lines, streaming_id = tester.observe("keeper1", "keeper1-demo", 3)

    assert all(json.loads(line.removeprefix("data:"))["text"] for line in lines)
    assert streaming_id.startswith("turn_")
    assert tester.delete_chat_session()["sessionId"] == tester.session_id
