"""The connections of a process to Redis: one that writes, a few that read, and one that hears.

Their number does not depend on how many turns or readers there are.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import structlog
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from openapi_server.config import ConfigError

# How long a connection, and a command, may take, in seconds.
TIMEOUT_S = 2.0
READING_CONNECTIONS = 4
# After this silence Redis is asked for a sign of life; after another one the connection counts as dead.
SILENCE_S = 5.0
# The time between two attempts to connect: the first, and the longest.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 2.0
# What can go wrong with a Redis. Responses that are errors are among them, such as that its memory is full.
REDIS_ERRORS = (RedisError, OSError, TimeoutError)

log = structlog.get_logger(__name__)


class Connections:
    """Clients with a connection, or a few, each. Commands to read are tried twice: a connection may be out of date."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.writer = _make_client(url, connections=1, retries=0)
        self.reader = _make_client(url, connections=READING_CONNECTIONS, retries=1)
        self.listener = _make_client(url, connections=1, retries=0)

    async def close(self) -> None:
        for client in (self.writer, self.reader, self.listener):
            await client.aclose()

    async def check(self) -> None:
        """Ask whether Redis can be used, and warn of what it would lose. Raises `ConfigError` when it refuses us.

        A Redis that is away is none: the server starts without it.
        """
        where = describe_address(self.url)
        try:
            memory = await self.reader.info("memory")
        except AuthenticationError:
            raise ConfigError(
                f"REDIS_URL: Redis at {where} refuses the user name or the password (redis://:PASSWORD@host:6379/0)"
            ) from None
        except NoPermissionError:
            # A user that may not ask may still do all that is needed.
            return
        except REDIS_ERRORS as error:
            if "DB index" in str(error):
                raise ConfigError(f"REDIS_URL: Redis at {where} has no database of the number at its end") from None
            consequence = "turns of other processes cannot be read here until it is back"
            log.warning("event_log_away", where=where, error=type(error).__name__, consequence=consequence)
            return
        policy = str(memory.get("maxmemory_policy", "noeviction"))
        if policy != "noeviction":
            log.warning(
                "event_log_may_be_evicted",
                detail=f"REDIS_URL: Redis at {where} has maxmemory-policy {policy}: when its memory is full it deletes "
                "logs of turns that run. Set maxmemory-policy to noeviction",
            )


def describe_address(url: str) -> str:
    """Host and port, without the password.

    >>> describe_address("redis://:secret@redis.example:6379/0")
    'redis.example:6379'
    """
    parts = urlsplit(url)
    return f"{parts.hostname}:{parts.port or 6379}"


def _make_client(url: str, *, connections: int, retries: int) -> Redis:
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=TIMEOUT_S,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        socket_keepalive=True,
        retry=Retry(NoBackoff(), retries),
        client_name="zoochat",
    )
    return Redis.from_pool(pool)


@dataclass(slots=True)
class _Channel:
    """`user_count`: who hears it. `acknowledged` is set when Redis has said that it sends from now on."""

    acknowledged: asyncio.Future[None]
    user_count: int = 1


class Subscription:
    """One connection on which this process hears any number of channels, for as long as `run` runs.

    After each interruption it hears all of them again. `on_subscribed` is called each time that Redis has acknowledged
    a channel: what was published before that has to be read.
    """

    def __init__(
        self, client: Redis, on_message: Callable[[str, bytes], None], on_subscribed: Callable[[str], None]
    ) -> None:
        self._client = client
        self._on_message = on_message
        self._on_subscribed = on_subscribed
        self._channels: dict[str, _Channel] = {}
        # How many commands for each channel have no answer yet: only the last one's counts.
        self._unanswered: Counter[str] = Counter()
        self._pubsub: Any = None
        self._up = asyncio.Event()

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    async def wait_until_up(self, wait_s: float) -> bool:
        """False when it took longer."""
        try:
            await asyncio.wait_for(self._up.wait(), wait_s)
        except TimeoutError:
            return False
        return True

    @property
    def channel_count(self) -> int:
        return len(self._channels)

    async def run(self) -> None:
        """Hear for ever."""
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                await self._hear()
            except Exception as error:  # of the client's many, none may end this
                if self.is_up:
                    pause_s = FIRST_PAUSE_S
                    log.warning("event_log_connection_lost", error=type(error).__name__)
            self._up.clear()
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)

    async def _hear(self) -> None:
        pubsub: Any = self._client.pubsub()
        try:
            names = list(self._channels)
            self._unanswered = Counter(names)
            await pubsub.subscribe(*names)
            self._pubsub = pubsub
            for name in self._channels.keys() - set(names):
                await self._send("SUBSCRIBE", name)
            is_silent = False
            while True:
                message = await pubsub.get_message(timeout=SILENCE_S)
                if message is not None:
                    is_silent = False
                    self._take(message)
                elif is_silent:
                    raise TimeoutError
                else:
                    is_silent = True
                    await self._send("PING")
        finally:
            self._pubsub = None
            await pubsub.aclose()

    def _take(self, message: dict[str, Any]) -> None:
        if message["channel"] is None:
            return
        channel = message["channel"].decode()
        if message["type"] == "message":
            self._on_message(channel, message["data"])
        elif message["type"] == "subscribe":
            self._up.set()
            self._unanswered[channel] -= 1
            heard = self._channels.get(channel)
            if self._unanswered[channel] <= 0 and heard is not None:
                if not heard.acknowledged.done():
                    heard.acknowledged.set_result(None)
                self._on_subscribed(channel)
            if self._unanswered[channel] <= 0:
                del self._unanswered[channel]

    def add(self, channel: str) -> None:
        """Hear the channel from the next connection on."""
        self._channels[channel] = _Channel(asyncio.get_running_loop().create_future())

    async def subscribe(self, channel: str) -> None:
        """Return when Redis has acknowledged it. Raises one of `REDIS_ERRORS` when that takes too long."""
        heard = self._channels.get(channel)
        is_new = heard is None
        if heard is None:
            heard = self._channels[channel] = _Channel(asyncio.get_running_loop().create_future())
        else:
            heard.user_count += 1
        try:
            if is_new:
                await self._send("SUBSCRIBE", channel)
            async with asyncio.timeout(TIMEOUT_S):
                await asyncio.shield(heard.acknowledged)
        except BaseException:
            with suppress(*REDIS_ERRORS):
                await self.unsubscribe(channel)
            raise

    async def unsubscribe(self, channel: str) -> None:
        """As often as `subscribe` has returned."""
        heard = self._channels.get(channel)
        if heard is None:
            return
        heard.user_count -= 1
        if not heard.user_count:
            del self._channels[channel]
            await self._send("UNSUBSCRIBE", channel)

    async def _send(self, *command: str) -> None:
        """Past the library, whose own way would connect again here, while `run` does so, too."""
        connection = self._pubsub and self._pubsub.connection
        if connection and connection.is_connected:
            if command[0] == "SUBSCRIBE":
                self._unanswered[command[1]] += 1
            await connection.send_command(*command, check_health=False)


async def shield(work: Awaitable[Any]) -> Any:
    """Wait for the work, which goes on when the waiting task is cancelled: its connection stays in order."""
    return await asyncio.shield(asyncio.ensure_future(work))
