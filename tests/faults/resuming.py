"""F3 and F4: resume anywhere, by anyone, while it runs and when it is over: every later event exactly once."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.faults.connections import reset
from tests.faults.exchanges import Exchange
from tests.faults.figures import Figure, all_of, none_of
from tests.faults.processes import calls, scripted
from tests.faults.proxy import Proxy
from tests.faults.scripts import Script
from tests.faults.visitors import Visitor
from tests.streams import events_of

UNKNOWN = "turn_00000000000000000000000000000000"


async def resume(folder: Path, pieces: int = 40, cuts: int = 12) -> list[Figure]:
    """At every event of a finished and of a running turn; where nothing is left; where nothing can be."""
    async with scripted(folder) as server:
        visitor = Visitor(server.port)
        whole = await (await visitor.listen(Script(pieces=pieces))).to_end()
        finished = await _at_every_event(visitor, whole)
        running = await _while_it_runs(visitor, Script(pieces=pieces, per_s=40))
        shaken = await asyncio.gather(*(_shaken(server.port, Script(pieces=pieces, per_s=40), cuts) for _ in range(2)))
        answers = await _at_the_edges(visitor, whole)
    gone = await _when_gone(folder, whole)
    return [
        none_of("F3", "resume a finished turn: wrong answers, each event by header and query", *finished),
        none_of("F3", "resume a running turn at every event: readers that missed or repeated any", *running),
        none_of("F3", "two readers, cut by RST again and again: events missed or repeated", *_sum(shaken)),
        all_of("F3", "resume at the end, beyond, elsewhere, unknown: 204, 400, 404 as due", *_sum(answers)),
        all_of("F3", "resume when the log is gone: 410, named, with a link", *_sum(gone)),
    ]


async def _at_every_event(visitor: Visitor, whole: Exchange) -> tuple[int, int]:
    wrong = total = 0
    for seq, event_id in enumerate(whole.ids[:-1], 1):
        due = b"".join(whole.frames[seq:])
        for how in ({"last_event_id": event_id}, {"after": event_id}, {"after": str(seq)}):
            resumed = await (await visitor.resume(whole.turn_id, **how)).to_end()
            wrong += not (resumed.is_whole and resumed.status == 200 and resumed.body == b"retry: 2000\n" + due)
            total += 1
    return wrong, total


async def _while_it_runs(visitor: Visitor, script: Script) -> tuple[int, int]:
    """A reader more at each event that the first one hears."""
    first = await visitor.listen(script)
    more: list[asyncio.Task[Exchange]] = []
    while len((await first.to_ids(len(more) + 1)).frames) > len(more):
        event_id = first.ids[len(more)]
        more.append(asyncio.create_task(_resumed(visitor, first.turn_id, event_id)))
    readers = await asyncio.gather(*more)
    # Behind the last event there may be nothing left: 204.
    wrong = [reader.frames != first.frames[seq:] for seq, reader in enumerate(readers, 1)]
    return sum(wrong) + (first.event("complete") is None), len(readers)


async def _resumed(visitor: Visitor, turn_id: str, event_id: str) -> Exchange:
    return await (await visitor.resume(turn_id, event_id)).to_end()


async def _shaken(port: int, script: Script, cuts: int) -> tuple[int, int]:
    """One reader on a bad line: each connection is reset after a few more events. Wrong events, of how many."""
    turn_id = await Visitor(port).begin(script)
    heard: list[bytes] = []
    last_event_id = ""
    async with Proxy(port) as proxy:
        for cut in range(1, cuts + 1):
            part = await (await Visitor(proxy.port).resume(turn_id, last_event_id)).to_ids(cut % 4 + 1)
            proxy.reset()
            heard += part.frames
            last_event_id = part.ids[len(part.frames) - 1] if part.frames else last_event_id
    rest = await (await Visitor(port).resume(turn_id, last_event_id)).to_end()
    whole = await (await Visitor(port).resume(turn_id)).to_end()
    heard += rest.frames
    wrong = sum(one != other for one, other in zip(heard, whole.frames, strict=False))
    return wrong + abs(len(heard) - len(whole.frames)), len(whole.frames)


async def _at_the_edges(visitor: Visitor, whole: Exchange) -> list[tuple[int, int]]:
    other = await (await visitor.listen(Script(pieces=1))).to_end()
    end = len(whole.ids)
    due = [
        (204, await visitor.resume(whole.turn_id, whole.ids[-1])),
        (204, await visitor.resume(whole.turn_id, after=str(end))),
        (400, await visitor.resume(whole.turn_id, f"{whole.turn_id}-{end + 1}")),
        (400, await visitor.resume(whole.turn_id, after=str(end + 1))),
        (400, await visitor.resume(whole.turn_id, other.ids[0])),
        (400, await visitor.resume(whole.turn_id, "nonsense")),
        (400, await visitor.resume(whole.turn_id, f"{whole.turn_id}--1")),
        (400, await visitor.resume(whole.turn_id, after="1e3")),
        (404, await visitor.resume(UNKNOWN)),
        (404, await visitor.resume(UNKNOWN, f"{UNKNOWN}-1")),
    ]
    return [(int((await answer.to_end()).status == status), 1) for status, answer in due]


async def _when_gone(folder: Path, earlier: Exchange) -> list[tuple[int, int]]:
    """Of a turn whose process has ended, and of one that is not kept for readers."""
    async with scripted(folder, REPLAY_WINDOW=0) as server:
        visitor = Visitor(server.port)
        just_now = await (await visitor.listen(Script())).to_end()
        return [await _is_named(visitor, whole) for whole in (earlier, just_now)]


async def _is_named(visitor: Visitor, whole: Exchange) -> tuple[int, int]:
    answer = await (await visitor.resume(whole.turn_id, whole.ids[1])).to_end()
    problem = answer.json
    link = answer.headers.get("link", "")
    is_named = problem.get("code") == "log_gone" and "earliestEventId" in problem and whole.turn_id in link
    return int(answer.status == 410 and is_named), 1


async def same_post_again(folder: Path, pieces: int = 30) -> list[Figure]:
    """A client that only knows how to post: cut off after each few events, it posts the same with `Last-Event-ID`."""
    script = Script(pieces=pieces, per_s=40, mark="same-post")
    heard: list[bytes] = []
    posts = 0
    async with scripted(folder) as server:
        visitor = Visitor(server.port)
        stream = await visitor.listen(script)
        turn_id = stream.turn_id
        while posts < 1_000:
            posts += 1
            await stream.to_ids(3)
            reset(stream.writer)
            heard += stream.frames
            if stream.event("complete") or stream.event("error") or not stream.frames:
                break
            stream = await visitor.listen(script, last_event_id=stream.ids[len(stream.frames) - 1])
        whole = await (await visitor.resume(turn_id)).to_end()
        # Whoever missed the end of a stream asks once more.
        over = await (await visitor.listen(script, last_event_id=whole.ids[-1])).to_end()
        foreign = await (await visitor.listen(script, last_event_id=f"{UNKNOWN}-1")).to_end()
        history = await visitor.history(events_of(bytes(whole.body))[0].data["sessionId"])
    asked = sum(message["role"] == "user" for message in history)
    exact = int(heard == whole.frames)
    return [
        Figure(
            "F4",
            f"the same post {posts} times: model calls",
            f"{calls(folder, 'same-post')}",
            "1",
            calls(folder, "same-post") == 1,
        ),
        Figure("F4", f"the same post {posts} times: messages stored", f"{asked}", "1", asked == 1),
        all_of("F4", "the same post again: streams that continue to the byte", exact, 1),
        all_of(
            "F4",
            "the same post when nothing is left (204), or of an unknown turn (404)",
            (over.status == 204) + (foreign.status == 404),
            2,
        ),
    ]


def _sum(counts: list[tuple[int, int]]) -> tuple[int, int]:
    return sum(count for count, _ in counts), sum(total for _, total in counts)
