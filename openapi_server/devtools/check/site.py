"""The server that is checked, and everybody who talks to it."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import httpx

from openapi_server.devtools.check.recording import LISTENING_S

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Login:
    """Somebody's account. The password never stands in a finding."""

    username: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Accounts:
    """Who logs in: somebody who talks, an administrator who gives them credits, and a stranger to both."""

    user: Login
    admin: Login
    stranger: Login


@dataclass(frozen=True)
class Site:
    """A server with its description. `heartbeat_s`: the longest silence of a stream that it promises."""

    url: str
    spec: Mapping[str, Any]
    heartbeat_s: float
    accounts: Accounts

    def has(self, path: str, method: str = "post") -> bool:
        """Whether the description has such an operation."""
        return method in self.spec["paths"].get(path, {})

    def visitor(self) -> httpx.AsyncClient:
        """Somebody new, with a cookie jar of their own."""
        timeout = httpx.Timeout(10, read=self.heartbeat_s + 2 * LISTENING_S)
        visitor = httpx.AsyncClient(base_url=self.url, timeout=timeout, verify=self._ssl, trust_env=False)
        self._visitors.append(visitor)
        return visitor

    async def close(self) -> None:
        """Everybody goes home."""
        await asyncio.gather(*(visitor.aclose() for visitor in self._visitors))

    @cached_property
    def _visitors(self) -> list[httpx.AsyncClient]:
        return []

    @cached_property
    def _ssl(self) -> ssl.SSLContext:
        # Made once: each client would read all certificates again.
        return httpx.create_ssl_context()


class Once(Generic[T]):
    """What many checks need and one of them gets, by calling it: made at the first call, kept for the others."""

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._made: asyncio.Future[T] | None = None

    async def __call__(self) -> T:
        if self._made is None:
            self._made = asyncio.ensure_future(self._make())
        return await asyncio.shield(self._made)
