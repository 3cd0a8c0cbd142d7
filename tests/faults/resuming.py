"""F3 and F4: resuming at every event, while a turn runs and when it is over: every later event exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.faults.convo_client import ConvoClient, HttpExchange
from tests.faults.figures import Figure, expect_all, expect_none
from tests.support.connections import reset
from tests.support.contract import parse_events
from tests.support.processes import count_calls, run_scripted
from tests.support.scripted_server import Script
from tests.support.tcp_proxy import TcpProxy

UNKNOWN = "turn_00000000000000000000000000000000"


async def resume_streams(folder: Path, pieces: int = 40, cuts: int = 12) -> list[Figure]:
    """At every event of a finished and of a running turn; where nothing is left; where nothing can be."""
    async with run_scripted(folder) as server:
        client = ConvoClient(server.port)
        whole = await (await client.post_stream(Script(pieces=pieces))).read_to_end()
        finished = await _resume_at_every_event(client, whole)
        running = await _resume_while_running(client, Script(pieces=pieces, per_s=40))
        shaken = await asyncio.gather(
            *(_resume_over_resets(server.port, Script(pieces=pieces, per_s=40), cuts) for _ in range(2))
        )
        answers = await _resume_at_edges(client, whole)
    gone = await _resume_when_gone(folder, whole)
    return [
        expect_none("F3", "resume a finished turn: wrong answers, each event by header and query", *finished),
        expect_none("F3", "resume a running turn at every event: readers that missed or repeated any", *running),
        expect_none("F3", "two readers, cut by RST again and again: events missed or repeated", *_sum_counts(shaken)),
        expect_all("F3", "resume at the end, beyond, elsewhere, unknown: 204, 400, 404 as due", *_sum_counts(answers)),
        expect_all("F3", "resume when the log is gone: 410, named, with a link", *_sum_counts(gone)),
    ]


async def _resume_at_every_event(client: ConvoClient, whole: HttpExchange) -> tuple[int, int]:
    wrong = total = 0
    for seq, event_id in enumerate(whole.ids[:-1], 1):
        due = b"".join(whole.frames[seq:])
        for how in ({"last_event_id": event_id}, {"after": event_id}, {"after": str(seq)}):
            resumed = await (await client.resume_stream(whole.turn_id, **how)).read_to_end()
            wrong += not (resumed.is_whole and resumed.status == 200 and resumed.body == b"retry: 2000\n" + due)
            total += 1
    return wrong, total


async def _resume_while_running(client: ConvoClient, script: Script) -> tuple[int, int]:
    """One more reader for each event that the first one receives."""
    first = await client.post_stream(script)
    more: list[asyncio.Task[HttpExchange]] = []
    while len((await first.read_events(len(more) + 1)).frames) > len(more):
        event_id = first.ids[len(more)]
        more.append(asyncio.create_task(_read_resumed(client, first.turn_id, event_id)))
    readers = await asyncio.gather(*more)
    # Behind the last event there may be nothing left: 204.
    wrong = [reader.frames != first.frames[seq:] for seq, reader in enumerate(readers, 1)]
    return sum(wrong) + (first.find_event("complete") is None), len(readers)


async def _read_resumed(client: ConvoClient, turn_id: str, event_id: str) -> HttpExchange:
    return await (await client.resume_stream(turn_id, event_id)).read_to_end()


async def _resume_over_resets(port: int, script: Script, cuts: int) -> tuple[int, int]:
    """One reader whose connections are reset after a few events each. Wrong events, of how many."""
    turn_id = await ConvoClient(port).start_turn(script)
    heard: list[bytes] = []
    last_event_id = ""
    async with TcpProxy(port) as proxy:
        for cut in range(1, cuts + 1):
            part = await (await ConvoClient(proxy.port).resume_stream(turn_id, last_event_id)).read_events(cut % 4 + 1)
            proxy.reset()
            heard += part.frames
            last_event_id = part.ids[len(part.frames) - 1] if part.frames else last_event_id
    rest = await (await ConvoClient(port).resume_stream(turn_id, last_event_id)).read_to_end()
    whole = await (await ConvoClient(port).resume_stream(turn_id)).read_to_end()
    heard += rest.frames
    wrong = sum(one != other for one, other in zip(heard, whole.frames, strict=False))
    return wrong + abs(len(heard) - len(whole.frames)), len(whole.frames)


async def _resume_at_edges(client: ConvoClient, whole: HttpExchange) -> list[tuple[int, int]]:
    other = await (await client.post_stream(Script(pieces=1))).read_to_end()
    end = len(whole.ids)
    due = [
        (204, await client.resume_stream(whole.turn_id, whole.ids[-1])),
        (204, await client.resume_stream(whole.turn_id, after=str(end))),
        (400, await client.resume_stream(whole.turn_id, f"{whole.turn_id}-{end + 1}")),
        (400, await client.resume_stream(whole.turn_id, after=str(end + 1))),
        (400, await client.resume_stream(whole.turn_id, other.ids[0])),
        (400, await client.resume_stream(whole.turn_id, "nonsense")),
        (400, await client.resume_stream(whole.turn_id, f"{whole.turn_id}--1")),
        (400, await client.resume_stream(whole.turn_id, after="1e3")),
        (404, await client.resume_stream(UNKNOWN)),
        (404, await client.resume_stream(UNKNOWN, f"{UNKNOWN}-1")),
    ]
    return [(int((await answer.read_to_end()).status == status), 1) for status, answer in due]


async def _resume_when_gone(folder: Path, earlier: HttpExchange) -> list[tuple[int, int]]:
    """Of a turn whose process has ended, and of one that is not kept for readers."""
    async with run_scripted(folder, REPLAY_WINDOW=0) as server:
        client = ConvoClient(server.port)
        just_now = await (await client.post_stream(Script())).read_to_end()
        return [await _expect_gone(client, whole) for whole in (earlier, just_now)]


async def _expect_gone(client: ConvoClient, whole: HttpExchange) -> tuple[int, int]:
    answer = await (await client.resume_stream(whole.turn_id, whole.ids[1])).read_to_end()
    problem = answer.json
    link = answer.headers.get("link", "")
    is_named = problem.get("code") == "log_gone" and "earliestEventId" in problem and whole.turn_id in link
    return int(answer.status == 410 and is_named), 1


async def repeat_post(folder: Path, pieces: int = 30) -> list[Figure]:
    """A client that only knows how to post: cut off after each few events, it posts the same with `Last-Event-ID`."""
    script = Script(pieces=pieces, per_s=40, mark="same-post")
    heard: list[bytes] = []
    posts = 0
    async with run_scripted(folder) as server:
        client = ConvoClient(server.port)
        stream = await client.post_stream(script)
        turn_id = stream.turn_id
        while posts < 1_000:
            posts += 1
            await stream.read_events(3)
            reset(stream.writer)
            heard += stream.frames
            if stream.find_event("complete") or stream.find_event("error") or not stream.frames:
                break
            stream = await client.post_stream(script, last_event_id=stream.ids[len(stream.frames) - 1])
        whole = await (await client.resume_stream(turn_id)).read_to_end()
        # Whoever missed the end of a stream asks once more.
        over = await (await client.post_stream(script, last_event_id=whole.ids[-1])).read_to_end()
        foreign = await (await client.post_stream(script, last_event_id=f"{UNKNOWN}-1")).read_to_end()
        history = await client.list_messages(parse_events(bytes(whole.body))[0].data["sessionId"])
    asked = sum(message["role"] == "user" for message in history)
    exact = int(heard == whole.frames)
    return [
        Figure(
            "F4",
            f"the same post {posts} times: model calls",
            f"{count_calls(folder, 'same-post')}",
            "1",
            count_calls(folder, "same-post") == 1,
        ),
        Figure("F4", f"the same post {posts} times: messages stored", f"{asked}", "1", asked == 1),
        expect_all("F4", "the same post again: streams that continue to the byte", exact, 1),
        expect_all(
            "F4",
            "the same post when nothing is left (204), or of an unknown turn (404)",
            (over.status == 204) + (foreign.status == 404),
            2,
        ),
    ]


def _sum_counts(counts: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(count for count, _ in counts), sum(total for _, total in counts)
