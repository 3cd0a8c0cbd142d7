"""F10 and F11: concurrent posts to one session and concurrent posts with one idempotency key."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path

from tests.faults.convo_client import ConvoClient, HttpExchange
from tests.faults.figures import Figure, expect_all, expect_none
from tests.support.processes import count_calls, run_scripted, run_several
from tests.support.scripted_server import Script

# A key belongs to the visitor that used it first, known by the cookie.
COOKIE = "a-client-of-the-trials-0001"


async def race_posts(folder: Path, posts: int = 50, rounds: int = 10) -> list[Figure]:
    """In each round all post at once to one session, half of them to one process and half to another."""
    tally: Counter[str] = Counter()
    winners: list[HttpExchange] = []
    async with run_several(folder, 2) as servers:
        clients = [ConvoClient(server.port) for server in servers]
        session_id = (await clients[0].post_turn(Script(mark="first"))).json["sessionId"]
        for number in range(rounds):
            scripts = [Script(pieces=10, per_s=20, mark=f"race-{number}-{post}") for post in range(posts)]
            asked = [clients[n % 2].post_stream(script, session_id=session_id) for n, script in enumerate(scripts)]
            answers = await asyncio.gather(*asked)
            won = [answer for answer in answers if answer.status == 200]
            winners += [await answer.read_to_end() for answer in won]
            tally["races"] += len(won) == 1
            tally["refused"] += sum([await _is_refused(answer, won) for answer in answers])
        histories = [await client.list_messages(session_id) for client in clients]
    told = list(dict.fromkeys(message["turnId"] for message in histories[0]))[1:]
    due = [role for _ in range(len(told) + 1) for role in ("user", "assistant")]
    in_order = told == [winner.turn_id for winner in winners] and [message["role"] for message in histories[0]] == due
    called = len([line for line in (folder / "calls").read_text().splitlines() if line.startswith("race-")])
    return [
        expect_all(
            "F10", f"{posts} racing posts, two processes: races with exactly one winner", tally["races"], rounds
        ),
        expect_all(
            "F10", "racing posts: losers told 409 with the winner's turnId", tally["refused"], rounds * (posts - 1)
        ),
        expect_none(
            "F10",
            "racing posts: winners cut or incomplete",
            sum(not winner.find_event("complete") for winner in winners),
            rounds,
        ),
        Figure(
            "F10",
            "racing posts: history in order, the same from both processes",
            f"{in_order and histories[0] == histories[1]}",
            "True",
            in_order and histories[0] == histories[1],
        ),
        Figure("F10", "racing posts: model calls", f"{called}", f"{rounds}, as wins", called == rounds),
    ]


async def _is_refused(answer: HttpExchange, won: list[HttpExchange]) -> bool:
    await answer.read_to_end()
    problem = answer.json if answer.status == 409 else {}
    return problem.get("code") == "turn_running" and problem.get("turnId") in [winner.turn_id for winner in won]


async def reuse_key(folder: Path, posts: int = 50) -> list[Figure]:
    """One `Idempotency-Key`: one after the other, all at once, with another body, after a restart."""
    async with run_scripted(folder) as server:
        client = ConvoClient(server.port, COOKIE)
        row = [await client.post_turn(Script(mark="row"), key="key-row") for _ in range(5)]
        running = Script(pieces=20, per_s=40, mark="concurrent")
        concurrent = await asyncio.gather(*(_read_stream(client, running, key="key-concurrent") for _ in range(posts)))
        late = await _read_stream(client, running, key="key-concurrent")
        other = [await client.post_turn(Script(mark="other"), key=key) for key in ("key-row", "key-concurrent")]
    async with run_several(folder, 2) as servers:
        clients = [ConvoClient(server.port, COOKIE) for server in servers]
        client = clients[0]
        again = await client.post_turn(Script(mark="row"), key="key-row")
        other += [await client.post_turn(Script(mark="other"), key="key-row")]
        shared = Script(pieces=20, per_s=40, mark="shared")
        asked = [
            (_read_stream, ConvoClient.post_turn)[n // 2 % 2](clients[n % 2], shared, key="key-shared")
            for n in range(posts)
        ]
        answers = await asyncio.gather(*asked)
    shared_calls, unfit = count_calls(folder, "shared"), sum(not _is_acceptable(answer) for answer in answers)
    return [
        _expect_one_turn("in a row", row, count_calls(folder, "row")),
        _expect_one_turn(f"{posts} streams at once", [*concurrent, late], count_calls(folder, "concurrent")),
        expect_all(
            "F11",
            "one key: streams that tell the same turn from its first event",
            sum(stream.frames == late.frames for stream in concurrent),
            posts,
        ),
        expect_all(
            "F11", "one key, another body: 422 `key_reused`", sum(_is_reused(answer) for answer in other), len(other)
        ),
        _expect_one_turn("after a restart", [row[0], again], count_calls(folder, "row")),
        Figure(
            "F11", f"one key, {posts} at once at two processes: model calls", f"{shared_calls}", "1", shared_calls == 1
        ),
        expect_none("F11", "one key at two processes: answers but 200, or 409 or 503 with Retry-After", unfit, posts),
    ]


async def _read_stream(client: ConvoClient, script: Script, *, key: str) -> HttpExchange:
    return await (await client.post_stream(script, key=key)).read_to_end()


def _expect_one_turn(when: str, answers: list[HttpExchange], called: int) -> Figure:
    turns = {answer.turn_id or answer.json.get("turnId") for answer in answers if answer.status == 200}
    refused = sum(answer.status != 200 for answer in answers)
    measured = f"{len(turns)} turn(s), {called} call(s), {refused} refused"
    return Figure(
        "F11",
        f"one key, {when}: {len(answers)} posts",
        measured,
        "1 turn, 1 call, 0 refused",
        (len(turns), called, refused) == (1, 1, 0),
    )


def _is_reused(answer: HttpExchange) -> bool:
    return answer.status == 422 and answer.json.get("code") == "key_reused"


def _is_acceptable(answer: HttpExchange) -> bool:
    """The turn, or 409 or 503 with the time after which to ask again."""
    return answer.status == 200 or (answer.status in (409, 503) and "retry-after" in answer.headers)
