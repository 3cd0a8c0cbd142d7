"""The served API description: the file as it is written, prepared once, for any place that a proxy gives it."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from typing import Any

import pytest
import yaml
from openapi_spec_validator import validate

from openapi_server.http import api_docs
from openapi_server.http.api_docs import ApiDocsMiddleware, ServedFile, list_served_paths, make_served_file
from openapi_server.http.conditional_requests import ConditionalGetMiddleware
from openapi_server.http.proxies import TrustedProxiesMiddleware
from openapi_server.spec import get_spec_path, load_spec, load_spec_3_2
from tests.support.asgi import Answer, Echoes, Request, ask

PATHS = ["/openapi.yaml", "/openapi.json", "/openapi-3.2.json"]


async def get(path: str, root_path: str = "", method: str = "GET", **headers: str) -> Answer:
    given = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    app = ConditionalGetMiddleware(ApiDocsMiddleware(Echoes(404), has_ui=True))
    proxied = TrustedProxiesMiddleware(app, trusted=(), root_path=root_path)
    return await ask(proxied, Request(method, path, headers=given))


def parse(path: str, body: bytes) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(body) if path.endswith("json") else yaml.safe_load(body)
    return loaded


async def test_the_yaml_document_is_the_file() -> None:
    """To the byte, so that generators see the `$ref`s and names that are written."""
    answer = await get("/openapi.yaml")

    assert answer.body == get_spec_path().read_bytes()
    assert answer["content-type"] == "application/yaml"


async def test_the_json_document_has_the_same_content() -> None:
    """And is a valid description."""
    answer = await get("/openapi.json")

    assert answer["content-type"] == "application/json"
    assert json.loads(answer.body) == load_spec()
    assert b'{"$ref":"#/components/schemas/' in answer.body
    validate(json.loads(answer.body))


async def test_the_document_is_also_there_in_openapi_3_2() -> None:
    """With the same operations, and valid."""
    answer = await get("/openapi-3.2.json")

    served = json.loads(answer.body)
    assert answer["content-type"] == "application/json"
    assert served == load_spec_3_2()
    assert served["openapi"] == "3.2.0"
    validate(served)


@pytest.mark.parametrize("path", PATHS)
async def test_behind_a_proxy_servers_says_where(path: str) -> None:
    """Everything else stays."""
    served = parse(path, (await get(path, "/zoo")).body)

    assert served["servers"] == [{"url": "/zoo"}]
    written = load_spec_3_2() if "3.2" in path else load_spec()
    assert {**served, "servers": None} == {**written, "servers": None}


@pytest.mark.parametrize("path", list_served_paths(has_ui=True))
@pytest.mark.parametrize(
    ("accepted", "is_gzipped"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("deflate", False),
        ("gzip;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("", False),
        ("gzipped", False),
    ],
)
async def test_a_document_is_compressed_for_those_who_accept_it(path: str, accepted: str, is_gzipped: bool) -> None:
    """The same document, and caches are told that there are two."""
    plain = await get(path)
    answer = await get(path, Accept_Encoding=accepted)

    assert answer.all("content-encoding") == (["gzip"] if is_gzipped else [])
    assert answer["vary"] == "Accept-Encoding"
    assert (gzip.decompress(answer.body) if is_gzipped else answer.body) == plain.body
    assert (answer["etag"] == plain["etag"]) != is_gzipped
    assert answer["content-length"] == str(len(answer.body))


@pytest.mark.parametrize("path", list_served_paths(has_ui=True))
@pytest.mark.parametrize("encoding", ["gzip", "identity"])
@pytest.mark.parametrize("form", ["{}", "W/{}", '"x", {}', "*"])
async def test_a_document_that_the_client_has_is_304(path: str, encoding: str, form: str) -> None:
    """Without a body, and with the same `ETag`."""
    etag = (await get(path, Accept_Encoding=encoding))["etag"]
    answer = await get(path, Accept_Encoding=encoding, If_None_Match=form.format(etag))

    assert (answer.status, answer.body, answer["etag"]) == (304, b"", etag)
    assert answer["vary"] == "Accept-Encoding"
    assert answer.all("content-length") == answer.all("content-encoding") == answer.all("content-type") == []


@pytest.mark.parametrize("path", PATHS)
async def test_another_version_is_sent(path: str) -> None:
    """An `ETag` names the bytes: another place is another document."""
    etag = (await get(path))["etag"]

    assert not etag.startswith("W/")
    assert (await get(path, If_None_Match='"other"')).status == 200
    assert (await get(path, "/zoo", If_None_Match=etag)).status == 200
    assert (await get(path, method="PUT", If_None_Match=etag)).status == 200


async def test_other_paths_are_passed_on() -> None:
    """They belong to the operations."""
    assert (await get("/ui/other")).status == 404
    assert (await get("/health")).status == 404


async def test_a_document_is_made_when_it_is_asked_for_and_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by a start, which most often serves none of them; and by no two readers at the same moment."""
    made: list[str] = []

    def make(body: bytes, media_type: str) -> ServedFile:
        made.append(threading.current_thread().name)
        return make_served_file(body, media_type)

    monkeypatch.setattr(api_docs, "_made", {})
    monkeypatch.setattr(api_docs, "make_served_file", make)
    app = ApiDocsMiddleware(Echoes(404), has_ui=True)
    assert made == []

    answers = await asyncio.gather(*(ask(app, Request("GET", path)) for path in list_served_paths(has_ui=True) * 3))

    assert {answer.status for answer in answers} == {200}
    assert len(made) == len(list_served_paths(has_ui=True))
    assert all(thread.startswith("worker") for thread in made)


async def test_the_number_of_prefixes_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that passes on what clients send as a prefix does not fill the memory."""
    monkeypatch.setattr(api_docs, "_made", {})

    for number in range(api_docs._MAX_MADE + 3):
        assert f"  - url: /zoo{number}\n".encode() in (await get("/openapi.yaml", f"/zoo{number}")).body

    assert len(api_docs._made) == api_docs._MAX_MADE


def test_the_etag_is_that_of_the_content() -> None:
    """Whoever holds a copy of another process, or of before a restart, is told that it is the current one."""
    first, again, other = (make_served_file(text.encode() + b"", "text/plain") for text in ("a" * 999, "a" * 999, "b"))

    assert (first.etag, first.gzipped) == (again.etag, again.gzipped)
    assert first.etag != other.etag
