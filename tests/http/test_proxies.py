"""Trusted proxies: what they say of a request counts, and what anybody else says does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from openapi_server.config import TrustedProxies, load_settings
from openapi_server.http.proxies import TrustedProxiesMiddleware, get_root_path
from tests.support.asgi import Arrives, Echoes, Request, Wire, ask

PROXY = "10.0.0.1"
VISITOR = "203.0.113.7"
SPOOFED = "198.51.100.66"


def parse(value: str) -> TrustedProxies:
    return load_settings(trusted_proxies=value).trusted_proxies


def from_peer(peer: str, *headers: tuple[str, str]) -> Scope:
    return {**Request("GET", headers=(("Host", "internal:8080"), *headers)).scope, "client": (peer, 4711)}


async def read(trusted: str, scope: Scope, root_path: str = "") -> tuple[str, str, str, str]:
    """The address, scheme, host and root path that the application sees."""
    app = Echoes()
    middleware = TrustedProxiesMiddleware(app, trusted=parse(trusted), root_path=root_path)
    await middleware(scope, Arrives(), Wire().send)
    (host,) = app.header(b"host")
    (seen,) = app.scopes
    return seen["client"][0], seen["scheme"], host.decode(), get_root_path(seen)


ALL = (
    ("X-Forwarded-For", VISITOR),
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Host", "zoo.example"),
    ("X-Forwarded-Prefix", "/zoo"),
)


@pytest.mark.parametrize("trusted", ["1", "10.0.0.0/8", "10.0.0.1", "::1/128, 10.0.0.0/24"])
async def test_address_scheme_host_and_prefix_are_taken_from_a_trusted_proxy(trusted: str) -> None:
    """Links, cookies and limits follow what the visitor sees."""
    assert await read(trusted, from_peer(PROXY, *ALL)) == (VISITOR, "https", "zoo.example", "/zoo")


@pytest.mark.parametrize(("trusted", "peer"), [("", PROXY), ("0", PROXY), ("10.0.0.0/8", "192.0.2.9")])
async def test_nobody_else_is_believed(trusted: str, peer: str) -> None:
    """And one line in the log says so, not one for each request."""
    app = TrustedProxiesMiddleware(Echoes(), trusted=parse(trusted), root_path="")
    assert await read(trusted, from_peer(peer, *ALL)) == (peer, "http", "internal:8080", "")
    with capture_logs() as lines:
        for _ in range(3):
            await app(from_peer(peer, *ALL), Arrives(), Wire().send)
    assert [(line["event"], line["peer"]) for line in lines] == [("forwarded_headers_ignored", peer)]


@pytest.mark.parametrize(
    ("trusted", "forwarded_for", "expected"),
    [
        ("1", [f"{SPOOFED}, {VISITOR}"], VISITOR),
        ("1", [SPOOFED, VISITOR], VISITOR),
        ("2", [f"{SPOOFED}, {VISITOR}, 10.0.0.2"], VISITOR),
        ("2", [VISITOR], VISITOR),
        ("10.0.0.0/8", [f"{SPOOFED}, {VISITOR}, 10.0.0.3, 10.0.0.2"], VISITOR),
        ("10.0.0.0/8", [f"10.0.0.9, {VISITOR}"], VISITOR),
        ("10.0.0.0/8", ["10.0.0.9, 10.0.0.8"], "10.0.0.9"),
        ("1", [f"{VISITOR}:50312"], VISITOR),
        ("1", ["[2001:db8::7]:50312"], "2001:db8::7"),
        ("1", ["2001:DB8::7"], "2001:db8::7"),
        ("1", [f"::ffff:{VISITOR}"], VISITOR),
        ("1", ["unknown"], PROXY),
        ("1", [f"{SPOOFED}, unknown"], PROXY),
        ("2", [f"{SPOOFED}, unknown, 10.0.0.2"], "10.0.0.2"),
        ("1", [""], PROXY),
        ("1", ["<script>"], PROXY),
        ("1", ["fe80::1%eth0"], PROXY),
        ("1", ["1.2.3.4.5"], PROXY),
        ("1", [", ".join([SPOOFED] * 5000 + [VISITOR])], VISITOR),
    ],
)
async def test_the_address_is_the_outermost_that_a_trusted_proxy_wrote(
    trusted: str, forwarded_for: list[str], expected: str
) -> None:
    """What a client wrote itself stands further left, and is ignored."""
    scope = from_peer(PROXY, *[("X-Forwarded-For", value) for value in forwarded_for])
    assert (await read(trusted, scope))[0] == expected


@given(spoofed=st.lists(st.text(alphabet='0123456789.,:[]; ="abcdef', max_size=20), max_size=4))
async def test_no_prefix_of_the_lists_changes_anything(spoofed: list[str]) -> None:
    """Whatever stands left of the trusted entries."""
    lists = {"For": VISITOR, "Proto": "https", "Host": "zoo.example"}
    headers = [(f"X-Forwarded-{name}", ",".join([*spoofed, value])) for name, value in lists.items()]
    assert (await read("1", from_peer(PROXY, *headers)))[:3] == (VISITOR, "https", "zoo.example")


@pytest.mark.parametrize(
    ("forwarded", "expected"),
    [
        (f"for={VISITOR};proto=https;host=zoo.example", (VISITOR, "https", "zoo.example")),
        (f'For="{VISITOR}:4711"; Proto=HTTPS ;host="zoo.example"', (VISITOR, "https", "zoo.example")),
        ('for="[2001:db8::7]:4711"', ("2001:db8::7", "http", "internal:8080")),
        (f"for={SPOOFED};proto=http, for={VISITOR};proto=https", (VISITOR, "https", "internal:8080")),
        (f'for="{SPOOFED}, for={VISITOR}', (PROXY, "http", "internal:8080")),
        (f"for={VISITOR} proto=https", (PROXY, "http", "internal:8080")),
        ("for=_hidden", (PROXY, "http", "internal:8080")),
    ],
)
async def test_forwarded_is_read_as_rfc_7239_says(forwarded: str, expected: tuple[str, str, str]) -> None:
    """With quoted strings, ports, any case; not at all when it is not well-formed."""
    assert (await read("1", from_peer(PROXY, ("Forwarded", forwarded))))[:3] == expected


async def test_a_family_of_headers_that_the_proxy_passes_on_is_not_believed() -> None:
    """A proxy that sets one family passes the other as the client wrote it: where they differ, neither counts."""
    spoofed = ("Forwarded", f"for={SPOOFED};proto=https;host=evil.example")
    same = ("Forwarded", f"for={VISITOR};proto=https;host=zoo.example")

    assert await read("1", from_peer(PROXY, ("X-Forwarded-For", VISITOR), spoofed)) == (
        *(PROXY, "http", "internal:8080"),
        "",
    )
    assert (await read("1", from_peer(PROXY, *ALL, same)))[:3] == (VISITOR, "https", "zoo.example")


@pytest.mark.parametrize("proto", ["ftp", "javascript", "https\x00", ""])
@pytest.mark.parametrize("host", ["zoo.example/x", "u@zoo.example", "a b", ""])
async def test_a_scheme_or_host_that_is_none_is_ignored(proto: str, host: str) -> None:
    """They become part of links."""
    scope = from_peer(PROXY, ("X-Forwarded-Proto", proto), ("X-Forwarded-Host", host))
    assert (await read("1", scope))[1:3] == ("http", "internal:8080")


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("/zoo", "/zoo"),
        ("/zoo/", "/zoo"),
        ("/", ""),
        ("//evil.example", ""),
        ("/zoo/..", ""),
        ("/zoo?x", ""),
        ("zoo", ""),
        ("/zoo\r\nX: y", ""),
        ("/a, /zoo", "/zoo"),
    ],
)
async def test_a_prefix_is_a_path(prefix: str, expected: str) -> None:
    """Or it is ignored."""
    assert (await read("1", from_peer(PROXY, ("X-Forwarded-Prefix", prefix))))[3] == expected


async def test_two_proxies_may_each_remove_a_prefix() -> None:
    """As Traefik and Spring join them."""
    scope = from_peer(PROXY, ("X-Forwarded-For", f"{VISITOR}, 10.0.0.2"), ("X-Forwarded-Prefix", "/a, /b"))
    assert (await read("2", scope))[3] == "/a/b"


async def test_the_setting_replaces_the_prefix_of_a_proxy() -> None:
    """For proxies that cannot send one, and for those that pass on what a client sent."""
    assert (await read("", from_peer(PROXY), "/zoo"))[3] == "/zoo"
    assert (await read("1", from_peer(PROXY, ("X-Forwarded-Prefix", "/other")), "/zoo"))[3] == "/zoo"


@pytest.mark.parametrize(
    ("location", "expected"),
    [("/jobs/job_1", "/zoo/jobs/job_1"), ("https://zoo.example/x", "https://zoo.example/x"), ("../x", "../x")],
)
async def test_a_location_gets_the_prefix(location: str, expected: str) -> None:
    """Once, and only where it is a path of this server."""
    app = TrustedProxiesMiddleware(Echoes(201, ("Location", location)), trusted=(), root_path="/zoo")
    assert (await ask(app, Request()))["location"] == expected


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_what_is_not_http_passes_untouched(kind: str) -> None:
    """Lifespan and websocket scopes are passed on."""
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    scope: Scope = {"type": kind}
    await TrustedProxiesMiddleware(app, trusted=1, root_path="")(scope, Arrives(), Wire().send)

    assert seen == [{"type": kind}]
