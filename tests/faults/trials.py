"""All trials, with the small sizes at which the test suite runs them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import (
    bad_input,
    crashes,
    credentials,
    disconnects,
    event_loop,
    failing_models,
    floods,
    personal_data,
    races,
    resuming,
    several_processes,
    shutdown,
    sinks,
    stalled_readers,
    store_faults,
    unsafe_models,
)
from tests.faults.figures import Figure
from tests.support.connections import close_all

# Twice what the longest trial takes: a trial that hangs becomes a missed limit.
LONGEST_S = 1_200

SMALL_FLOOD = floods.FloodSize(
    flood=60,
    visitors=4,
    duration_s=2,
    allowed=4,
    share=50,
    settings=(("RATE_LIMIT_STREAMS", 4), ("RATE_LIMIT_ADDRESS_FACTOR", 3)),
)
SMALL_STALLS = stalled_readers.StallSize(readers=8, others=4, send_timeout_s=0.5, duration_s=2, share=50)


@dataclass(frozen=True, slots=True)
class Trial:
    """One fault and how its effect is measured; `small` holds the sizes for the test suite."""

    id: str
    name: str
    measure: Callable[..., Coroutine[Any, Any, list[Figure]]]
    small: Mapping[str, object] = field(default_factory=dict)

    def run(self, *, is_quick: bool = False) -> list[Figure]:
        """The figures; a trial that breaks off counts as a missed limit and does not stop the others."""
        with tempfile.TemporaryDirectory(prefix="trial-") as folder:
            try:
                return asyncio.run(self._bounded(Path(folder), is_quick=is_quick))
            except Exception as error:  # the other trials are waiting
                return [Figure(self.id, self.name, f"{type(error).__name__}: {error}", "to be measured", passed=False)]

    async def _bounded(self, folder: Path, *, is_quick: bool) -> list[Figure]:
        async with asyncio.timeout(LONGEST_S):
            try:
                return await self.measure(folder, **(self.small if is_quick else {}))
            finally:
                await close_all()


async def point_to_clock_tests(folder: Path) -> list[Figure]:
    """Not measured here: changing the wall clock would change it for the whole machine."""
    line = "durations from the monotonic clock; 0 wrong expiries"
    return [
        Figure(
            "F12", "clock one hour off, or set back during a turn", "unit tests, with a fake clock", line, passed=None
        )
    ]


TRIALS = (
    Trial("B", "bad input", bad_input.send_bad_input, {"doors": bad_input.DOORS[:1], "share": 200}),
    Trial("E", "pauses at every door", event_loop.pause_at_every_door, {"share": 23}),
    Trial("E", "pauses at replies", event_loop.pause_at_replies, {"share": 4}),
    Trial("F1", "kill -9", crashes.kill_nine, {"points": crashes.FEW_POINTS}),
    Trial("F1", "kill -9 beside a second process", crashes.kill_beside_second_process, {"turns": 2, "lease_s": 0.6}),
    Trial("F2", "clients leave", disconnects.abandon_streams, {"times": 30, "at_once": 15}),
    Trial("F3", "resume", resuming.resume_streams, {"pieces": 10, "cuts": 4}),
    Trial("F4", "the same post again", resuming.repeat_post, {"pieces": 10}),
    Trial("F5", "readers that stall", stalled_readers.stall_readers, {"size": SMALL_STALLS}),
    Trial(
        "F6",
        "half-open connections",
        disconnects.hold_half_open,
        {"count": 4, "heartbeat_s": 0.3, "send_timeout_s": 0.5},
    ),
    Trial("F6", "slow requests", disconnects.send_slow_requests, {"count": 4, "deadline_s": 0.5, "share": 50}),
    Trial("F7", "a model that fails", failing_models.provoke_model_faults, {"answers": failing_models.FEW_ANSWERS}),
    Trial("F8", "store faults", store_faults.break_store, {"faults": store_faults.FEW_FAULTS, "turns": 3, "share": 50}),
    Trial("F8", "start with a broken store", store_faults.start_with_broken_store),
    Trial("F10", "racing posts", races.race_posts, {"posts": 20, "rounds": 2}),
    Trial("F11", "one idempotency key", races.reuse_key, {"posts": 10}),
    Trial("F12", "clocks", point_to_clock_tests),
    Trial("F13", "SIGTERM", shutdown.drain_on_sigterm, {"streams": 10, "drain_s": 1.2}),
    Trial("F13", "SIGTERM, again", shutdown.repeat_sigterm, {"streams": 6}),
    Trial("F13", "SIGTERM during the start", shutdown.stop_during_start, {"times": 2, "start_s": 1.2}),
    Trial("F14", "restarts under load", crashes.restart_under_load, {"times": 3}),
    Trial("F15", "sinks that are away", sinks.lose_sinks, {"turns": 80}),
    Trial(
        "K",
        "a model that says unsafe things",
        unsafe_models.send_unsafe_words,
        {"phrases": unsafe_models.UNSAFE[:1], "step": 9},
    ),
    Trial("K", "a model that disguises unsafe words", unsafe_models.send_stretched_words, {"share": 8}),
    Trial("K", "personal data and calls for help", personal_data.tell_personal_data, {"share": 20}),
    Trial("K", "expired sessions", personal_data.read_expired_sessions),
    Trial("K", "harmless questions", unsafe_models.ask_harmless_questions, {"share": 20}),
    Trial("L", "a flood of streams from one address", floods.flood_streams, {"size": SMALL_FLOOD}),
    Trial("SCALE", "turns of another process", several_processes.read_in_another_process),
    Trial(
        "SCALE",
        "the process of a turn is killed",
        several_processes.kill_owner,
        {"points": several_processes.FEW_KILL_POINTS},
    ),
    Trial("SCALE", "a process with readers ends", several_processes.end_process_with_readers, {"readers": 30}),
    Trial("SCALE", "many readers in another process", several_processes.read_by_many, {"readers": 60, "turns": 3}),
    Trial("SCALE", "Redis is lost", several_processes.lose_redis, {"turns": 2}),
    Trial("S", "guessed passwords", floods.guess_passwords, {"guesses": 30, "abandoned": 40, "at_once": 12}),
    Trial("S", "forged tokens and secrets", credentials.guard_credentials, {"turns": 30}),
    Trial("S", "a model that reveals its prompt", unsafe_models.extract_canaries, {"share": 20}),
)
