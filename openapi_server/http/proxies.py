"""Reverse proxies in front of the server: whom to believe about the client's address, the scheme, host and path.

Read are `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix`, and `Forwarded` (RFC 7239). Each proxy adds to the right of
a list, so only the entries of trusted proxies count, from the right; what a client wrote further left is ignored.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address

import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openapi_server import linear_regex
from openapi_server.config import TrustedProxies
from openapi_server.wire.problem import root_path_of_request

ROOT_PATH_EXTENSION = "zoochat.root_path"

_FORWARDED_NAMES = ("forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-prefix")
_RAW_FORWARDED_NAMES = frozenset(name.encode() for name in _FORWARDED_NAMES)
# RFC 9110, section 7.2. Names with `_` are used inside container networks.
_HOST = linear_regex.compile(r"(?:[A-Za-z0-9_.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?")
_ROOT_PATH = linear_regex.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]{0,62}){1,8}")
# RFC 7239, section 4: a token or a quoted string.
_PAIR = linear_regex.compile(r'\s*([A-Za-z]+)=(?:"((?:[^"\\]|\\.){0,256})"|([^\s;,"]{0,256}))\s*')
_ESCAPE = linear_regex.compile(r"\\(.)")
_MAX_ENTRIES = 50

log = structlog.get_logger(__name__)


def is_valid_host(host: str) -> bool:
    """Whether the text may be the value of a `Host` header.

    >>> is_valid_host("zoo.example:8080"), is_valid_host("[::1]"), is_valid_host("zoo.example/x"), is_valid_host("")
    (True, True, False, False)
    """
    return _HOST.fullmatch(host) is not None


def get_root_path(scope: Scope) -> str:
    """The path under which a proxy serves this server, such as `/zoo`; empty when it is served at `/`."""
    root_path: str = scope.get("extensions", {}).get(ROOT_PATH_EXTENSION, "")
    return root_path


@dataclass(frozen=True, slots=True)
class _Forwarded:
    """What trusted proxies say of the request; None: nothing."""

    client: str | None = None
    scheme: str | None = None
    host: str | None = None

    def keep_common(self, other: _Forwarded) -> _Forwarded:
        """What both say alike."""
        return _Forwarded(
            self.client if self.client == other.client else None,
            self.scheme if self.scheme == other.scheme else None,
            self.host if self.host == other.host else None,
        )


class TrustedProxiesMiddleware:
    """ASGI middleware, the outermost: puts the client's address, the scheme and the host into the scope.

    `trusted` is the number of proxies in front, or their networks; empty: none, and their headers are ignored.
    `root_path` replaces what proxies send as `X-Forwarded-Prefix`. The root path is added to each `Location`
    and to the `type` of each problem.
    """

    def __init__(self, app: ASGIApp, *, trusted: TrustedProxies, root_path: str) -> None:
        self._app = app
        self._trusted = trusted
        self._root_path = root_path
        self._has_warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope = self._read_headers(scope)
        root_path = get_root_path(scope)

        async def send_with_root_path(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                location = headers.get("location", "")
                if location.startswith("/"):
                    headers["Location"] = root_path + location
            await send(message)

        token = root_path_of_request.set(root_path)
        try:
            await self._app(scope, receive, send_with_root_path if root_path else send)
        finally:
            root_path_of_request.reset(token)

    def _read_headers(self, scope: Scope) -> Scope:
        peer = _parse_address((scope.get("client") or ("", 0))[0])
        extensions = {**scope.get("extensions", {}), ROOT_PATH_EXTENSION: self._root_path}
        scope = {**scope, "extensions": extensions}
        if peer is not None:
            scope["client"] = (str(peer), scope["client"][1])
        if all(name not in _RAW_FORWARDED_NAMES for name, _ in scope["headers"]):
            return scope
        headers = Headers(scope=scope)
        if not self._is_trusted(peer, hop=0):
            self._warn(peer)
            return scope
        forwarded, hops = self._find_forwarded(headers)
        if forwarded.client is not None:
            scope["client"] = (forwarded.client, 0)
        if forwarded.scheme is not None:
            scope["scheme"] = forwarded.scheme
        if forwarded.host is not None:
            kept = [(name, value) for name, value in scope["headers"] if name != b"host"]
            scope["headers"] = [(b"host", forwarded.host.encode()), *kept]
        if not self._root_path:
            extensions[ROOT_PATH_EXTENSION] = _read_prefix(headers, hops)
        return scope

    def _is_trusted(self, address: IPv4Address | IPv6Address | None, hop: int) -> bool:
        """Whether the proxy that is so many hops away, at this address, is one of ours."""
        if isinstance(self._trusted, int):
            return hop < self._trusted
        return address is not None and any(address in network for network in self._trusted)

    def _find_forwarded(self, headers: Headers) -> tuple[_Forwarded, int]:
        """What both families of headers say alike, or what the only one says; and how many proxies it came through.

        A proxy sets one family and may pass the other on as a client sent it. So neither is believed against the other.
        """
        found = []
        if any(name in headers for name in _FORWARDED_NAMES[1:4]):
            lists = [_split_list(headers, name) for name in _FORWARDED_NAMES[1:4]]
            found.append(self._choose_entries(*lists))
        if "forwarded" in headers:
            elements = _parse_forwarded(headers)
            lists = [[element.get(name, "") for element in elements] for name in ("for", "proto", "host")]
            found.append(self._choose_entries(*lists))
        if not found:
            return _Forwarded(), 1
        forwarded, hops = found[0]
        for other, _ in found[1:]:
            forwarded = forwarded.keep_common(other)
        return forwarded, hops

    def _choose_entries(self, addresses: list[str], schemes: list[str], hosts: list[str]) -> tuple[_Forwarded, int]:
        """The entries that the outermost trusted proxy wrote, and how many trusted proxies there are."""
        client = None
        hops = 0
        for entry in reversed(addresses):
            address = _parse_address(entry)
            if address is None:
                break
            client, hops = str(address), hops + 1
            if not self._is_trusted(address, hops):
                break
        if not addresses and isinstance(self._trusted, int):
            hops = self._trusted
        hops = max(hops, 1)
        scheme = _get_from_right(schemes, hops).lower()
        host = _get_from_right(hosts, hops)
        return (
            _Forwarded(client, scheme if scheme in ("http", "https") else None, host if is_valid_host(host) else None),
            hops,
        )

    def _warn(self, peer: object) -> None:
        if not self._has_warned:
            self._has_warned = True
            log.warning("forwarded_headers_ignored", peer=str(peer), remedy="name the proxy in TRUSTED_PROXIES")


def _split_list(headers: Headers, name: str) -> list[str]:
    given = ",".join(headers.getlist(name))
    return [entry.strip() for entry in given.rsplit(",", _MAX_ENTRIES)[-_MAX_ENTRIES:]] if given else []


def _parse_forwarded(headers: Headers) -> list[dict[str, str]]:
    """The elements of all `Forwarded` headers, from left to right; none when one of them is not well-formed.

    >>> _parse_forwarded(Headers({"forwarded": 'for="[2001:db8::1]:4711";proto=https, for=192.0.2.7'}))
    [{'for': '[2001:db8::1]:4711', 'proto': 'https'}, {'for': '192.0.2.7'}]
    """
    text = ",".join(headers.getlist("forwarded"))
    elements: list[dict[str, str]] = [{}]
    position = 0
    while position < len(text):
        pair = _PAIR.match(text, position)
        if pair is None:
            return []
        quoted, token = pair[2], pair[3]
        elements[-1][pair[1].lower()] = token if quoted is None else _ESCAPE.sub(r"\1", quoted)
        position = pair.end()
        if position < len(text):
            if text[position] == ",":
                elements.append({})
            elif text[position] != ";":
                return []
            position += 1
    return elements[-_MAX_ENTRIES:]


@lru_cache(maxsize=4096)
def _parse_address(entry: str) -> IPv4Address | IPv6Address | None:
    """The address in an entry, which may also have a port; None for names such as `unknown`.

    >>> str(_parse_address("[2001:db8::1]:443")), str(_parse_address("192.0.2.1:80")), _parse_address("unknown")
    ('2001:db8::1', '192.0.2.1', None)
    """
    if entry.startswith("["):
        entry = entry[1:].partition("]")[0]
    elif entry.count(":") == 1:
        entry = entry.partition(":")[0]
    try:
        address = ip_address(entry)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        if address.scope_id is not None:
            return None
        # As a socket that accepts both families names IPv4 clients.
        return address.ipv4_mapped or address
    return address


def _get_from_right(entries: list[str], hops: int) -> str:
    """The entry that the outermost of so many proxies wrote; a shorter list was replaced by one of them on the way."""
    return entries[-min(hops, len(entries))] if entries else ""


def _read_prefix(headers: Headers, hops: int) -> str:
    """The prefixes that the trusted proxies removed, joined; empty when one of them is no path."""
    prefix = "".join(part.rstrip("/") for part in _split_list(headers, "x-forwarded-prefix")[-hops:])
    return prefix if _ROOT_PATH.fullmatch(prefix) else ""
