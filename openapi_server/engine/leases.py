"""Leases: a running turn belongs to a living process, or is settled as interrupted by whoever sees it first."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

import structlog

from openapi_server.models.errors import Interrupted, StoreUnavailable
from openapi_server.models.turn import Lease, Outcome, TurnStatus
from openapi_server.protocols import Clock, Store

log = structlog.get_logger(__name__)


class Leases:
    """Keeps the leases of this worker's turns, and settles the orphans of others."""

    def __init__(self, store: Store, clock: Clock, worker: str, lease_s: float) -> None:
        self.worker = worker
        self._store = store
        self._clock = clock
        self._lease_s = lease_s
        self._get_own_turn_ids: Callable[[], Collection[str]] = tuple
        self._abandoned: set[str] = set()

    def track(self, own: Callable[[], Collection[str]]) -> None:
        """Say which turns this worker runs at any moment."""
        self._get_own_turn_ids = own

    def abandon(self, turn_id: str) -> None:
        """A turn of ours is over, but the store was away and does not know: whoever sees it next may settle it."""
        self._abandoned.add(turn_id)

    @property
    def duration(self) -> timedelta:
        return timedelta(seconds=self._lease_s)

    async def run(self, lost: Callable[[str], None]) -> None:
        """Renew and sweep three times a lease, for ever. `lost` hears of own turns that somebody else has ended."""
        while True:
            await asyncio.sleep(self._lease_s / 3)
            try:
                await self.renew(list(self._get_own_turn_ids()), lost)
                await self.settle_orphans()
            except StoreUnavailable:
                log.warning("leases_not_kept")

    async def renew(self, turn_ids: Sequence[str], lost: Callable[[str], None]) -> None:
        if turn_ids:
            running = await self._store.renew_leases(turn_ids, self._clock.now() + self.duration)
            for turn_id in set(turn_ids) - set(running):
                lost(turn_id)

    async def settle_orphans(self) -> int:
        """Settle what dead processes left running; how many turns that were."""
        orphans = [lease for lease in await self._store.list_running_turns() if self._is_orphan(lease)]
        return sum([await self.settle_orphan(lease.turn_id) for lease in orphans])

    async def settle_orphan(self, turn_id: str) -> bool:
        """Write that the turn was interrupted; False when somebody else was first."""
        problem = Interrupted().problem
        outcome = Outcome(status=TurnStatus.FAILED, ended_at=self._clock.now(), problem=problem)
        is_first = await self._store.settle_turn(turn_id, outcome)
        self._abandoned.discard(turn_id)
        return is_first

    def _is_orphan(self, lease: Lease) -> bool:
        if lease.turn_id in self._get_own_turn_ids():
            # Whatever the clock on the wall says: we are alive.
            return False
        if lease.turn_id in self._abandoned:
            return True
        return lease.until <= self._clock.now() or is_known_dead(lease.worker, self.worker)


def make_worker_id() -> str:
    """The name of this process, from now on: host, process id, and a random part, because ids come back."""
    return f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"


def is_known_dead(worker: str, me: str) -> bool:
    """True when the worker was a process of this host that is not there any more; of other hosts we cannot know.

    >>> is_surely_dead("elsewhere/1/aaaa", "here/1/bbbb"), is_surely_dead("here/1/aaaa", "here/1/bbbb")
    (False, True)
    """
    host, _, rest = worker.partition("/")
    my_host, _, my_rest = me.partition("/")
    if not rest or host != my_host:
        return False
    pid, my_pid = rest.partition("/")[0], my_rest.partition("/")[0]
    if pid == my_pid:
        # Our own id under another name: an earlier life, as in a container whose server is always process 1.
        return worker != me
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return False
