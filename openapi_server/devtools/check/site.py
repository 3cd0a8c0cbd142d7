"""The server that is checked, and everybody who talks to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import httpx

from openapi_server.devtools.check.recording import READ_MARGIN_S

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Credentials:
    """Somebody's account. The password never stands in a finding."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class CheckAccounts:
    """Who logs in: somebody who talks, an administrator who gives them credits, and a stranger to both."""

    user: Credentials
    admin: Credentials
    other_user: Credentials


@dataclass(frozen=True)
class TargetServer:
    """A server with its description. `heartbeat_s`: the longest silence of a stream that it promises."""

    url: str
    spec: Mapping[str, Any]
    heartbeat_s: float
    accounts: CheckAccounts

    def has_operation(self, path: str, method: str = "post") -> bool:
        """Whether the description has such an operation."""
        return method in self.spec["paths"].get(path, {})

    def new_client(self) -> httpx.AsyncClient:
        """Somebody new, with a cookie jar of their own."""
        timeout = httpx.Timeout(10, read=self.heartbeat_s + 2 * READ_MARGIN_S)
        visitor = httpx.AsyncClient(base_url=self.url, timeout=timeout, verify=self._ssl_context, trust_env=False)
        self._clients.append(visitor)
        return visitor

    async def close(self) -> None:
        """Everybody goes home."""
        await asyncio.gather(*(visitor.aclose() for visitor in self._clients))

    @cached_property
    def _clients(self) -> list[httpx.AsyncClient]:
        return []

    @cached_property
    def _ssl_context(self) -> ssl.SSLContext:
        # Made once: each client would read all certificates again.
        return httpx.create_ssl_context()


class AsyncCached(Generic[T]):
    """What many checks need and one of them gets, by calling it: made at the first call, kept for the others."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._made: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        if self._made is None:
            self._made = asyncio.ensure_future(self._make())
        return await asyncio.shield(self._made)
