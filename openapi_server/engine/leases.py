"""Leases: a running turn belongs to a living process, or else the first process to notice settles it as interrupted."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta

import structlog

from openapi_server.instruments import Metrics, NoMetrics
from openapi_server.models.errors import Interrupted, StoreUnavailable
from openapi_server.models.turn import Lease, Outcome, TurnStatus
from openapi_server.protocols import Clock, Store

log = structlog.get_logger(__name__)


class Leases:
    """Renews the leases of this process's turns, and settles the orphaned turns of others. `lease_s`: seconds."""

    def __init__(self, store: Store, clock: Clock, worker: str, lease_s: float, metrics: Metrics | None = None) -> None:
        self.worker = worker
        self._store = store
        self._clock = clock
        self._lease_s = lease_s
        self._metrics = metrics or NoMetrics()
        self._get_own_turn_ids: Callable[[], Collection[str]] = tuple
        self._on_renewed: Callable[[Sequence[str]], None] = lambda turn_ids: None
        self._on_orphan_settled: Callable[[str], Awaitable[None]] | None = None
        self._abandoned: set[str] = set()

    def track(
        self,
        get_own_turn_ids: Callable[[], Collection[str]],
        on_renewed: Callable[[Sequence[str]], None],
        on_orphan_settled: Callable[[str], Awaitable[None]],
    ) -> None:
        """Set what returns the ids of the turns that run in this process, and what is called with those whose lease was
        renewed, and with each orphaned turn that was settled here."""
        self._get_own_turn_ids = get_own_turn_ids
        self._on_renewed = on_renewed
        self._on_orphan_settled = on_orphan_settled

    def is_own(self, turn_id: str) -> bool:
        """Whether the turn runs, or waits, in this process."""
        return turn_id in self._get_own_turn_ids()

    def abandon(self, turn_id: str) -> None:
        """Give up a turn of this process that has ended, but could not be settled: any process may settle it."""
        self._abandoned.add(turn_id)

    @property
    def duration(self) -> timedelta:
        return timedelta(seconds=self._lease_s)

    @property
    def interval_s(self) -> float:
        """The time between two renewals, in seconds."""
        return self._lease_s / 3

    async def run(self, on_lost: Callable[[str], None], also: Callable[[], Awaitable[None]]) -> None:
        """Renew leases and settle orphans three times per lease, and do what is to be done `also`, for ever.

        `on_lost` is called with the id of each own turn that another process has settled or deleted.
        """
        while True:
            await asyncio.sleep(self.interval_s)
            try:
                await self.renew(list(self._get_own_turn_ids()), on_lost)
                await self.settle_orphans()
                await also()
            except StoreUnavailable:
                log.warning("leases_not_renewed")

    async def renew(self, turn_ids: Sequence[str], on_lost: Callable[[str], None]) -> None:
        if turn_ids:
            running = await self._store.renew_leases(turn_ids, self._clock.now() + self.duration)
            self._on_renewed(list(running))
            for turn_id in set(turn_ids) - set(running):
                on_lost(turn_id)

    async def settle_orphans(self) -> int:
        """Settle all orphaned turns as interrupted, and release what deleted ones have reserved.

        Returns how many turns this process settled.
        """
        orphans = [lease for lease in await self._store.list_running_turns() if self._is_orphan(lease)]
        return sum([await self.settle_orphan(lease.turn_id) for lease in orphans])

    async def settle_orphan(self, turn_id: str) -> bool:
        """Settle the turn as interrupted; False when another process was first, or the turn was deleted."""
        problem = Interrupted().problem
        outcome = Outcome(status=TurnStatus.FAILED, ended_at=self._clock.now(), problem=problem)
        is_first = await self._store.settle_turn(turn_id, outcome) is not None
        self._abandoned.discard(turn_id)
        if is_first:
            self._metrics.count_recovered_lease()
            if self._on_orphan_settled is not None:
                await self._on_orphan_settled(turn_id)
        return is_first

    def _is_orphan(self, lease: Lease) -> bool:
        if self.is_own(lease.turn_id):
            # This process is alive, even if the system clock has jumped past the lease.
            return False
        if lease.turn_id in self._abandoned:
            return True
        return lease.until <= self._clock.now() or is_known_dead(lease.worker, self.worker)


def make_worker_id() -> str:
    """An id for this process: host, process id, and a random part, because process ids are used again."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def is_known_dead(worker: str, own_worker: str) -> bool:
    """True when the worker was a process of this host that has ended. Nothing is known of processes on other hosts.

    >>> is_known_dead("elsewhere/1/aaaa", "here/1/bbbb"), is_known_dead("here/1/aaaa", "here/1/bbbb")
    (False, True)
    """
    host, _, rest = worker.partition("/")
    own_host, _, own_rest = own_worker.partition("/")
    if not rest or host != own_host:
        return False
    pid, own_pid = rest.partition("/")[0], own_rest.partition("/")[0]
    if pid == own_pid:
        # The same process id with another random part: an earlier process, as in a container whose server is always 1.
        return worker != own_worker
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False
