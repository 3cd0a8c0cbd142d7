"""Paths, methods and media types as clients spell them, over every operation: nothing unvalidated reaches a handler."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import pytest_asyncio
from connexion import FlaskApp
from starlette.types import Receive, Scope, Send
from structlog.testing import capture_logs

from openapi_server.app import create_app
from openapi_server.config import load_settings
from openapi_server.http.async_handlers import AsyncHandlerMiddleware
from openapi_server.http.operation_table import get_operation, load_operation_table
from openapi_server.http.services import Services
from openapi_server.http.validation import StrictBodyValidator, StrictParameterValidator, require_validated
from openapi_server.spec import load_spec
from tests.conftest import OpensServices, open_services_over
from tests.support.asgi import Answer, Arrives, Request, ask
from tests.support.fakes import AllowsAll, FakeClock, FakeKnowledge, Says
from tests.support.report import Report

pytestmark = pytest.mark.asyncio(loop_scope="module")

HELLO = json.dumps({"message": "Hello!", "animalId": "lion_001"}).encode()
JSON = "application/json"

# What stands in the paths: nothing of it exists, so that a test may delete it.
IDS = {
    "turnId": "turn_" + "0" * 32,
    "jobId": "job_" + "0" * 32,
    "sessionId": "sess_" + "0" * 32,
    "userId": "nobody",
    "animalId": "dodo_001",
    "ruleName": "no-such-rule",
    "code": "turn_running",
}
# A `HEAD` would ask the animal.
ASKED_BY_GET = {"/convo_turn_stream"}
OPERATIONS = [(method.upper(), template) for template, item in load_spec()["paths"].items() for method in item]

# `Content-Type` lines, and the status of an answer to a JSON body with them.
CONTENT_TYPES: list[tuple[tuple[str, ...], int]] = [
    ((), 200),
    (("",), 200),
    ((" ",), 200),
    ((JSON,), 200),
    (("Application/JSON",), 200),
    (("APPLICATION/JSON",), 200),
    ((f"{JSON};",), 200),
    ((f"{JSON} ; charset=utf-8",), 200),
    ((f"{JSON};charset=UTF-8",), 200),
    ((f'{JSON}; charset="utf-8"',), 200),
    ((f'{JSON}; x="a,b"; y',), 200),
    ((f"\t{JSON}\t",), 200),
    ((JSON, JSON), 200),
    ((JSON, "Application/Json; charset=utf-8"), 200),
    ((f"{JSON}, {JSON}",), 200),
    ((f"{JSON},",), 200),
    ((JSON, "text/plain"), 400),
    (("text/plain", JSON), 400),
    ((f"{JSON}, text/plain",), 400),
    ((f"text/plain, {JSON}",), 400),
    ((f"{JSON}; charset=utf-16",), 415),
    ((f"{JSON}; charset=utf-8", f"{JSON}; charset=latin-1"), 415),
    (("text/json",), 415),
    (("application/vnd.api+json",), 415),
    (("application/json-patch+json",), 415),
    (("application/jsonx",), 415),
    (("application/*",), 415),
    (("*/*",), 415),
    (("json",), 415),
    (("/",), 415),
    ((";",), 415),
    (("text/plain",), 415),
    (("application/x-www-form-urlencoded",), 415),
    (("multipart/form-data; boundary=x",), 415),
    (("application/octet-stream",), 415),
    (("application/json\u00a0",), 415),
    (("\u00e4",), 415),
    (('application/json; charset="',), 415),
]

# What is done to a path, as it is sent.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": lambda path: path,
    "doubled first slash": lambda path: "/" + path,
    "three slashes": lambda path: "//" + path,
    "doubled slashes": lambda path: path.replace("/", "//"),
    "doubled last slash": lambda path: re.sub("/([^/]*)$", r"//\1", path),
    "slash at the end": lambda path: path + "/",
    "two slashes at the end": lambda path: path + "//",
    "dot": lambda path: "/." + path,
    "dot at the end": lambda path: path + "/.",
    "two dots": lambda path: "/x/.." + path,
    "two dots at the end": lambda path: path + "/x/..",
    "encoded dots": lambda path: "/%2e%2e" + path,
    "encoded slash": lambda path: "/" + path[1:].replace("/", "%2f") + "%2F",
    "encoded slash in front": lambda path: "/%2f" + path[1:],
    "encoded letters": lambda path: "/" + "".join(f"%{ord(c):02x}" if c != "/" else c for c in path[1:]),
    "NUL": lambda path: path + "%00",
    "line end": lambda path: path + "%0d%0aX: y",
    "semicolon": lambda path: path + ";jsessionid=1",
    "backslash": lambda path: "/" + path[1:].replace("/", "\\") + "\\x",
    "encoded backslash": lambda path: path + "%5cx",
    "question mark": lambda path: path + "%3fx=1",
    "upper case": lambda path: path.upper(),
    "no UTF-8": lambda path: path + "%ff",
    "half an escape": lambda path: path + "%",
    "twice encoded": lambda path: path + "%252f",
    "blank": lambda path: path + "%20",
    "another host": lambda path: "//evil.example" + path,
    "letters beside": lambda path: path + "x",
}


@dataclass(frozen=True)
class RawRequest(Request):
    """A request whose path is still encoded, as it comes over the wire."""

    @property
    def scope(self) -> Scope:
        decoded = unquote(self.path) if "%" in self.path else self.path
        return {**super().scope, "path": decoded, "raw_path": self.path.encode()}


class Spy:
    """Counts the handlers that ran, and that each of them was allowed to."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def attach(self, patch: pytest.MonkeyPatch) -> None:
        run = AsyncHandlerMiddleware._run_handler

        async def run_and_count(middleware: AsyncHandlerMiddleware, handler: Any, scope: Scope) -> Any:
            require_validated(scope)
            operation = get_operation(scope)
            assert operation is not None
            self.calls[operation.operation_id] += 1
            return await run(middleware, handler, scope)

        patch.setattr(AsyncHandlerMiddleware, "_run_handler", run_and_count)


@dataclass
class Zoo:
    """The real application, and the token of an administrator, who may call every operation."""

    app: FlaskApp
    services: Services
    spy: Spy
    token: str = ""

    async def log_in(self) -> None:
        self.token = (await self.services.accounts.login("admin", "admin-demo")).access_token

    async def ask(
        self,
        method: str,
        path: str,
        content_types: Sequence[str] = (),
        body: bytes = b"",
        accept: str = "*/*",
        query: bytes = b"",
    ) -> Answer:
        headers = [("Authorization", f"Bearer {self.token}"), ("Accept", accept), ("If-Match", "*")]
        headers += [("Content-Type", value) for value in content_types]
        if body:
            headers.append(("Content-Length", str(len(body))))
        answer = await ask(self.app, RawRequest(method, path, query, tuple(headers)), Arrives(body))
        if "logout" in unquote(path).lower():
            await self.log_in()
        return answer


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def zoo(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Zoo]:
    settings = load_settings(validate_responses=True, rate_limit_logins=0)
    async with AsyncExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        folder: Path = tmp_path_factory.mktemp("zoo")
        parts = open_services_over(folder, Says(), FakeKnowledge(), AllowsAll(), settings, FakeClock())
        services = await stack.enter_async_context(parts)
        spy = Spy()
        spy.attach(patch)
        zoo = Zoo(create_app(services), services, spy)
        await zoo.log_in()
        yield zoo


def make_path(template: str) -> str:
    return re.sub(r"{(\w+)}", lambda match: IDS[match[1]], template)


def assert_refused(answer: Answer) -> None:
    assert answer.status is not None
    assert 400 <= answer.status < 500
    assert answer.problem["code"]
    assert b"Traceback" not in answer.body


def takes_body(method: str, template: str) -> bool:
    address = load_operation_table().find(make_path(template))
    assert address is not None
    return bool(address.operations[method].media_types)


@pytest.mark.parametrize("body", [b"[]", b'"x"', b"{", b"\xff", b"message=Hi"])
async def test_a_body_that_is_not_valid_reaches_no_handler_of_any_operation(
    zoo: Zoo, body: bytes, report: Report
) -> None:
    """However its media type is spelt: every operation takes an object."""
    statuses: Counter[int | None] = Counter()
    for method, template in OPERATIONS:
        if not takes_body(method, template):
            continue
        for content_types, _ in CONTENT_TYPES:
            zoo.spy.calls.clear()
            answer = await zoo.ask(method, make_path(template), content_types, body)
            assert_refused(answer)
            assert not zoo.spy.calls, (method, template, content_types)
            statuses[answer.status] += 1
    report(f"bodies {body!r} x media types x operations: {sum(statuses.values())} requests, {dict(statuses)}")


QUERIES = ["page=2", "page=", "page", "Limit=5", "limit%20=5", "_=1764400000", "sessionid=x", "%C3%A4=1", "limit[]=5"]


@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_parameter_that_is_not_known_is_named_by_every_operation(zoo: Zoo, query: str) -> None:
    """400, and no handler runs: a pager whose `page=2` is ignored reads the first page for ever."""
    name = unquote(query.partition("=")[0])
    for method, template in OPERATIONS:
        if template in PAGES:
            continue
        zoo.spy.calls.clear()
        answer = await zoo.ask(method, make_path(template), [JSON], b"{}", query=query.encode())

        assert answer.status == 400, (method, template)
        named = [error["field"] for error in answer.problem["errors"]]
        assert named == [name.encode("unicode_escape").decode()], (method, template)
        assert not zoo.spy.calls


PAGES = ["/", "/problems", "/problems/{code}"]


@pytest.mark.parametrize("query", ["utm_source=x", "fbclid=1&gclid=2", "_=1764400000", "a=1&b", "=", "%C3%A4=1"])
@pytest.mark.parametrize("path", ["/", "/problems", "/problems/turn_running", "/ui/", "/ui"])
async def test_pages_for_people_ignore_what_others_add_to_their_address(
    client: httpx.AsyncClient, path: str, query: str
) -> None:
    """Newsletters and social networks do, and a link that answers 400 looks broken."""
    plain, marked = await client.get(path), await client.get(f"{path}?{query}")

    assert (marked.status_code, marked.text) == (plain.status_code, plain.text)
    assert marked.status_code in (200, 307, 308)


async def test_the_document_names_the_pages_for_people() -> None:
    """They answer with HTML, and every other operation is strict."""
    named = [
        (path, "text/html" in str(operation["responses"]["200"]))
        for path, item in load_spec()["paths"].items()
        for operation in item.values()
        if "x-unknown-query" in operation
    ]
    assert named == [(path, True) for path in PAGES]


async def test_every_query_parameter_of_the_spec_is_known(zoo: Zoo) -> None:
    """Whatever else is wrong with the request, it is not that."""
    for method, template in OPERATIONS:
        for parameter in iterate_query_parameters(method, template):
            answer = await zoo.ask(method, make_path(template), [JSON], b"{}", query=f"{parameter}=x".encode())

            assert b"is not known here" not in answer.body, (method, template, parameter)


async def test_whatever_an_event_source_can_read_is_resumed_by_the_query_too() -> None:
    """A browser's cannot set headers, and polyfills may not; only they send a `GET`."""
    for template, item in load_spec()["paths"].items():
        headers = [parameter.get("$ref", "") for parameter in item.get("get", {}).get("parameters", ())]
        if "#/components/parameters/LastEventId" in headers:
            assert {"lastEventId", "last_event_id"} <= set(iterate_query_parameters("GET", template)), template


def iterate_query_parameters(method: str, template: str) -> Iterator[str]:
    spec = load_spec()
    for parameter in spec["paths"][template][method.lower()].get("parameters", ()):
        if "$ref" in parameter:
            parameter = spec["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
        if parameter["in"] == "query":
            yield parameter["name"]


async def test_an_operation_without_a_body_never_sees_one(zoo: Zoo, report: Report) -> None:
    """It answers as if there were none, whatever the body and its media type are."""
    count = 0
    for method, template in OPERATIONS:
        if takes_body(method, template):
            continue
        plain = await zoo.ask(method, make_path(template))
        for content_types, _ in CONTENT_TYPES:
            answer = await zoo.ask(method, make_path(template), content_types, b'[{"message": 1}')
            assert answer.status == plain.status, (method, template, content_types)
            assert answer.status is not None
            assert answer.status < 500
            count += 1
    report(f"operations without a body x media types: {count} requests, none with a 5xx")


@pytest.mark.parametrize(("content_types", "status"), CONTENT_TYPES)
async def test_media_types_are_read_as_rfc_9110_says(zoo: Zoo, content_types: tuple[str, ...], status: int) -> None:
    """In any case, with parameters; without one a body is JSON. Two different ones are no media type."""
    answer = await zoo.ask("POST", "/convo_turn", content_types, HELLO)

    assert answer.status == status


@pytest.mark.parametrize("content_type", ["", " ", None])
@pytest.mark.parametrize("path", ["/convo_turn", "/chat", "/chat/", "/api/v1/stream", "/auth/login"])
async def test_a_page_in_a_browser_has_to_name_the_media_type(
    client: httpx.AsyncClient, path: str, content_type: str | None
) -> None:
    """A body without a type needs no preflight: the page of another site could speak with a visitor's cookies."""
    headers = {"Origin": "https://evil.example"} | ({} if content_type is None else {"Content-Type": content_type})
    answer = await client.post(path, content=HELLO, headers=headers)

    assert answer.status_code == 415


@pytest.mark.parametrize("name", SPELLINGS)
async def test_a_path_is_served_as_the_spec_writes_it_or_not_at_all(zoo: Zoo, name: str, report: Report) -> None:
    """Doubled slashes, dots, encoded separators: a problem, or a redirect within this server; never a 5xx."""
    statuses: Counter[int] = Counter()
    for method, template in OPERATIONS:
        path = make_path(template)
        body = b"[]" if takes_body(method, template) else b""
        plain = await zoo.ask(method, path, [JSON], body)
        zoo.spy.calls.clear()
        answer = await zoo.ask(method, SPELLINGS[name](path), [JSON], body)
        if answer.status == 307:
            location = answer["location"]
            assert location.startswith("/")
            assert not location.startswith("//")
            assert load_operation_table().find(unquote(location)) is not None
            assert not zoo.spy.calls
        elif answer.status != plain.status:
            assert_refused(answer)
        assert answer.status is not None
        assert answer.status < 500
        statuses[answer.status] += 1
    report(f"paths, {name} x operations: {sum(statuses.values())} requests, {dict(statuses)}")


@pytest.mark.parametrize("skipped", ["parameters", "body"])
async def test_a_handler_never_runs_without_the_validators(
    open_services: OpensServices, monkeypatch: pytest.MonkeyPatch, skipped: str
) -> None:
    """Were one of them ever passed by, the request is refused."""

    async def keep(validator: object, receive: Receive, *, scope: Scope) -> tuple[Receive, Scope]:
        return receive, scope

    if skipped == "parameters":
        monkeypatch.setattr(StrictParameterValidator, "validate", lambda validator, scope: None)
    else:
        monkeypatch.setattr(StrictBodyValidator, "wrap_receive", keep)
    app = create_app(await open_services())
    headers = (("Content-Type", JSON), ("Content-Length", str(len(HELLO))))
    with capture_logs() as lines:
        answer = await ask(app, Request("POST", "/convo_turn", headers=headers), Arrives(HELLO))

    assert answer.status == 400
    assert "request_not_validated" in [line["event"] for line in lines]


ALIASED = [
    (method.upper(), template, operation["x-alias"])
    for template, item in load_spec()["paths"].items()
    for method, operation in item.items()
    if "x-alias" in operation
]


async def test_the_whole_chat_sessions_contract_is_served_under_api() -> None:
    """As its origin has it; nothing else is, and `/api/chat` stays free for another contract."""
    tagged = {"sessions", "accounts"}
    expected = {
        template
        for template, item in load_spec()["paths"].items()
        if any(tagged & set(operation["tags"]) for operation in item.values())
    }

    assert {template for _, template, _ in ALIASED} == {*expected, "/health"}
    assert {alias for _, _, alias in ALIASED} == {f"/api{template}" for template in {*expected, "/health"}}
    assert load_operation_table().find("/api/chat") is None


@pytest.mark.parametrize(("method", "template", "alias"), ALIASED)
async def test_an_alias_answers_like_the_path_that_it_is_for(zoo: Zoo, method: str, template: str, alias: str) -> None:
    """With a body and without one, at every spelling, and with the same methods; its redirects keep the prefix."""
    path, other = make_path(template), make_path(alias)
    body = b"[]" if takes_body(method, template) else b""
    plain, answer = [await zoo.ask(method, asked, [JSON], body) for asked in (path, other)]
    preflight, encoded = await zoo.ask("OPTIONS", other), await zoo.ask(method, f"/%61pi{path}", [JSON], body)
    slash = await zoo.ask(method, f"{other}/", [JSON], body)

    assert (answer.status, answer.all("content-type")) == (plain.status, plain.all("content-type"))
    assert encoded.status == plain.status
    assert preflight["allow"] == (await zoo.ask("OPTIONS", path))["allow"]
    assert (slash.status, slash["location"]) == (307, other)


async def test_what_an_alias_creates_is_found_under_the_prefix(zoo: Zoo) -> None:
    """A proxy in front may let nothing else through than `/api`."""
    created = await zoo.ask("POST", "/api/chat/sessions", [JSON], b'{"title": "Lions"}')
    found = await zoo.ask("GET", created["location"])

    assert (created.status, found.status) == (201, 200)
    assert created["location"].startswith("/api/chat/sessions/sess_")


@pytest.mark.parametrize(
    "path", ["/api/api/health", "/api//health", "/api", "/api/", "/api/convo_turn", "/apix/health"]
)
async def test_only_the_aliases_of_the_document_exist(zoo: Zoo, path: str) -> None:
    """Nothing is served that the document does not say."""
    assert (await zoo.ask("GET", path)).status == 404


@pytest.mark.parametrize(("method", "template"), OPERATIONS)
async def test_every_address_says_its_methods(zoo: Zoo, method: str, template: str) -> None:
    """`OPTIONS` and a 405 with the same `Allow`; `HEAD` is among them for every `GET` that starts no turn."""
    path = make_path(template)
    options = await zoo.ask("OPTIONS", path)
    refused = await zoo.ask("TRACE", path)

    assert (options.status, options.body) == (204, b"")
    assert (refused.status, refused["allow"]) == (405, options["allow"])
    allowed = options["allow"].split(", ")
    assert {"OPTIONS", method} <= set(allowed)
    assert ("HEAD" in allowed) == ("GET" in allowed and template not in ASKED_BY_GET)


@pytest.mark.parametrize("path", ["/nothing", "//health", "/animal/lion_001/x/y", "*"])
async def test_options_of_an_unknown_address_is_a_404(zoo: Zoo, path: str) -> None:
    """Also when a browser asks."""
    headers = (("Origin", "http://localhost:3000"), ("Access-Control-Request-Method", "POST"))
    answer = await ask(zoo.app, RawRequest("OPTIONS", path, headers=headers))

    assert answer.status == 404
    assert answer["access-control-allow-origin"] == "http://localhost:3000"


async def test_a_preflight_lists_the_methods_of_its_address(zoo: Zoo) -> None:
    """And no others."""
    headers = (("Origin", "http://localhost:3000"), ("Access-Control-Request-Method", "POST"))
    answer = await ask(zoo.app, RawRequest("OPTIONS", "/convo_turn", headers=headers))

    assert (answer.status, answer["access-control-allow-methods"]) == (204, "OPTIONS, POST")


@pytest.mark.parametrize(
    "template", [template for method, template in OPERATIONS if method == "GET" and template not in ASKED_BY_GET]
)
async def test_head_answers_like_get_without_a_body(zoo: Zoo, template: str) -> None:
    """RFC 9110, section 9.3.2."""
    path = make_path(template)
    get = await zoo.ask("GET", path)
    head = await zoo.ask("HEAD", path)

    changing = {"x-request-id", "content-length", "set-cookie"}
    assert (head.status, head.body, head.is_whole) == (get.status, b"", True)
    assert [item for item in head.headers if item[0] not in changing] == [
        item for item in get.headers if item[0] not in changing
    ]


async def test_head_of_a_stream_ends_after_its_headers(zoo: Zoo) -> None:
    """It never waits for the turn."""
    headers = (("Content-Type", JSON), ("Prefer", "respond-async"), ("Content-Length", str(len(HELLO))))
    accepted = await ask(zoo.app, RawRequest("POST", "/convo_turn", headers=headers), Arrives(HELLO))
    answer = await ask(zoo.app, RawRequest("HEAD", accepted["location"] + "/stream"))

    assert (answer.status, answer.body, answer.is_whole) == (200, b"", True)
    assert answer["content-type"] == "text/event-stream; charset=utf-8"


@pytest.mark.parametrize(
    ("path", "location"),
    [("/health/", "/health"), ("/ui", "/ui/"), ("/animal_list/?status=active", "/animal_list?status=active")],
)
async def test_the_redirect_for_a_slash_names_no_host(zoo: Zoo, path: str, location: str) -> None:
    """Whoever sends the request chooses the `Host` header."""
    path, _, query = path.partition("?")
    request = RawRequest("GET", path, query=query.encode(), headers=(("Host", "evil.example"),))

    answer = await ask(zoo.app, request)

    assert (answer.status, answer["location"]) == (307, location)


@pytest.mark.parametrize(
    "accept",
    [
        *("application/json; charset=utf-8", "application/json; indent=4", "*", "*/*", "", "Application/JSON"),
        *("text/html, application/json;q=0.1; charset=utf-8", "application/*", "*;q=0.1"),
    ],
)
async def test_accept_is_read_liberally(zoo: Zoo, accept: str) -> None:
    """Parameters do not choose between answers, and some clients send a bare `*`."""
    assert (await zoo.ask("GET", "/health", accept=accept)).status == 200


@pytest.mark.parametrize(
    "accept", ["text/event-stream; charset=utf-8", "text/event-stream;q=0.9, application/json;q=0"]
)
async def test_accept_with_parameters_chooses_a_stream(zoo: Zoo, accept: str) -> None:
    """Of the operation's media types."""
    answer = await zoo.ask("POST", "/chat", [JSON], b'{"message": "Hi", "session_id": "s"}', accept)

    assert (answer.status, answer["content-type"]) == (200, "text/event-stream; charset=utf-8")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=1&limit=1", "limit"),
        ("limit=1&%6cimit=2", "limit"),
        ("page=1&page=2", "page"),
        ("x&x", "x"),
        ("limit=%D9%A3", "limit"),
        ("limit=\uff13", "query"),
        ("limit=%EF%BC%93", "limit"),
        ("limit=1_0", "limit"),
        ("limit=%2B1", "limit"),
        ("limit=%201", "limit"),
        ("limit=1.0", "limit"),
        ("limit=" + "9" * 5000, "limit"),
        ("limit=", "limit"),
        ("cursor=%00", "cursor"),
        ("cursor=%ff", "query"),
        ("cursor=" + "a" * 70_000, "query"),
        ("&".join(f"a{n}" for n in range(101)), "query"),
    ],
)
async def test_a_query_has_one_meaning(zoo: Zoo, query: str, field: str) -> None:
    """Each name once, and ASCII digits."""
    headers = (("Authorization", f"Bearer {zoo.token}"),)
    request = RawRequest("GET", "/chat/sessions", query=query.encode("utf-8"), headers=headers)

    answer = await ask(zoo.app, request)

    assert answer.status == 400
    assert [error["field"] for error in answer.problem["errors"]] == [field]


@pytest.mark.parametrize("value", ["", " "])
async def test_an_empty_last_event_id_is_none(zoo: Zoo, value: str) -> None:
    """Some readers send it before their first event: they get the turn from its beginning."""
    headers = (("Content-Type", JSON), ("Last-Event-ID", value), ("Content-Length", str(len(HELLO))))

    answer = await ask(zoo.app, Request("POST", "/convo_turn_stream", headers=headers), Arrives(HELLO))

    assert answer.status == 200
    assert b"event: metadata" in answer.body


@pytest.mark.parametrize("name", ["Idempotency-Key", "last-event-id", "X-Device-ID", "X-Session-Token"])
async def test_a_header_that_names_one_thing_is_there_once(zoo: Zoo, name: str) -> None:
    """Nobody can say which of two is meant, not even when they are equal."""
    headers = (("Content-Type", JSON), ("Content-Length", str(len(HELLO))), (name, "a"), (name, "a"))

    answer = await ask(zoo.app, Request("POST", "/convo_turn_stream", headers=headers), Arrives(HELLO))

    assert answer.status == 400
    assert [error["field"].lower() for error in answer.problem["errors"]] == [name.lower()]


HOSTS: list[tuple[list[str], int]] = [
    (["testserver"], 200),
    (["testserver:8080"], 200),
    (["[::1]:8080"], 200),
    (["zoo_chat.internal"], 200),
    (["testserver", "testserver"], 400),
    (["a", "b"], 400),
    ([""], 400),
    (["a b"], 400),
    (["a/b"], 400),
    (["user@a"], 400),
    (["a:port"], 400),
    (["a,b"], 400),
    (["\u00e4"], 400),
]


@pytest.mark.parametrize(("hosts", "status"), HOSTS)
async def test_a_request_names_one_host(zoo: Zoo, hosts: list[str], status: int) -> None:
    """RFC 9112, section 3.2."""
    answer = await ask(zoo.app, Request("GET", "/health", headers=tuple(("Host", host) for host in hosts)))

    assert answer.status == status


async def test_only_http_1_0_needs_no_host(zoo: Zoo) -> None:
    """Old health checks send none."""
    scope = {**Request("GET", "/health").scope, "headers": []}
    statuses: dict[str, int] = {}
    for version in ("1.0", "1.1"):

        async def send(message: Any, version: str = version) -> None:
            statuses.setdefault(version, message.get("status", 0))

        await run(zoo.app, {**scope, "http_version": version}, send)

    assert statuses == {"1.0": 200, "1.1": 400}


async def run(app: FlaskApp, scope: Scope, send: Send) -> None:
    await app(scope, Arrives(), send)


@pytest.mark.parametrize(
    "headers",
    [
        [("Transfer-Encoding", "chunked, chunked")],
        [("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")],
        [("Transfer-Encoding", "identity")],
        [("Transfer-Encoding", "gzip")],
        [("Transfer-Encoding", "gzip, chunked")],
        [("Transfer-Encoding", "chunked"), ("Content-Length", str(len(HELLO)))],
        [("Content-Length", str(len(HELLO))), ("Content-Length", str(len(HELLO)))],
        [("Content-Length", "+1")],
        [("Content-Length", "0x10")],
    ],
)
async def test_where_a_body_ends_is_beyond_doubt(zoo: Zoo, headers: list[tuple[str, str]]) -> None:
    """A proxy in front may read it otherwise, so the connection is closed as well."""
    request = Request("POST", "/convo_turn", headers=(("Content-Type", JSON), *headers))

    answer = await ask(zoo.app, request, Arrives(HELLO))

    assert (answer.status, answer["connection"]) == (400, "close")
