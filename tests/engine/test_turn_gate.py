"""The gate at which turns wait while requests wait to begin others."""

from __future__ import annotations

import asyncio

from openapi_server.engine.turn_gate import RUNS_PER_ROUND, TurnGate

WAIT_S = 10


async def pass_gate(gate: TurnGate, name: int, passed: list[int]) -> None:
    await gate.wait()
    passed.append(name)


async def test_an_open_gate_lets_a_few_turns_run_in_each_round() -> None:
    """In their order, and the first of them at once."""
    gate, passed = TurnGate(), list[int]()
    count = 3 * RUNS_PER_ROUND
    waiting = [asyncio.create_task(pass_gate(gate, number, passed)) for number in range(count)]
    await asyncio.sleep(0)
    assert (passed, len(gate)) == ([0], count - 1)
    before = 1
    async with asyncio.timeout(WAIT_S):
        while gate:
            await asyncio.sleep(0)
            assert len(passed) - before <= RUNS_PER_ROUND
            before = len(passed)
        await asyncio.gather(*waiting)

    assert passed == list(range(count))


async def test_a_closed_gate_lets_nobody_through() -> None:
    """Who leaves while it waits is not counted any more."""
    gate, passed = TurnGate(), list[int]()
    with gate.close():
        with gate.close():
            waiting = [asyncio.create_task(pass_gate(gate, number, passed)) for number in range(3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert (passed, len(gate)) == ([], 3)

        waiting[1].cancel()
        await asyncio.wait([waiting[1]])
        assert len(gate) == 2
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(waiting[0], waiting[2])
    assert passed == [0, 2]
