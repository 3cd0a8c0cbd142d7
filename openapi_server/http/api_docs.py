"""The API description at `/openapi.json` and `/openapi.yaml`, and Swagger UI at `/ui/`, as bytes that are made once,
when somebody asks for them.

The description is the file as it is written, with its `$ref`s; only `servers` says where a proxy serves the server.
`/openapi-3.2.json` is the same in OpenAPI 3.2, for tools that know its `itemSchema`.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from connexion.options import SwaggerUIConfig
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from werkzeug.http import parse_accept_header

from openapi_server import web
from openapi_server.http.proxies import get_root_path
from openapi_server.spec import load_spec, load_spec_3_2, read_spec
from openapi_server.worker_threads import run_in_worker

_SERVERS = "servers:\n  - url: /\n"
# Swagger UI loads its icons from `data:` URLs.
_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'"
)
_WEB = Path(web.__file__).parent
_ASSETS = {
    "/ui/": (_WEB / "api_docs.html", "text/html; charset=utf-8"),
    "/ui/index.html": (_WEB / "api_docs.html", "text/html; charset=utf-8"),
    "/ui/api_docs.js": (_WEB / "api_docs.js", "text/javascript; charset=utf-8"),
    **{
        f"/ui/{name}": (Path(SwaggerUIConfig().swagger_ui_template_dir) / name, media_type)
        for name, media_type in (
            ("swagger-ui.css", "text/css; charset=utf-8"),
            ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
            ("favicon-32x32.png", "image/png"),
        )
    },
}


@dataclass(frozen=True, slots=True)
class ServedFile:
    """A body in both encodings, each with its strong `ETag` (RFC 9110, section 8.8.3)."""

    body: bytes
    gzipped: bytes
    etag: str
    media_type: str

    @property
    def gzipped_etag(self) -> str:
        return f'{self.etag[:-1]}-gzip"'


def make_served_file(body: bytes, media_type: str) -> ServedFile:
    """The document with its compressed body, which is the same bytes in every process."""
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    return ServedFile(body, gzip.compress(body, compresslevel=9, mtime=0), etag, media_type)


def _make_yaml_file(root_path: str) -> ServedFile:
    before, _, after = _divide_description()
    located = f"{before}servers:\n  - url: {root_path or '/'}\n{after}"
    return make_served_file(located.encode(), "application/yaml")


def _divide_description() -> tuple[str, str, str]:
    """The text of `openapi.yaml` before its `servers`, those, and the text behind.

    Raises ValueError when the file does not have the `servers` that is to be replaced.
    """
    before, servers, after = read_spec().partition(_SERVERS)
    if not servers:
        raise ValueError("openapi.yaml has no `servers` with the one url /")
    return before, servers, after


def _make_json_file(load: Callable[[], Mapping[str, Any]], root_path: str) -> ServedFile:
    located = {**load(), "servers": [{"url": root_path or "/"}]}
    body = json.dumps(located, ensure_ascii=False, separators=(",", ":"))
    return make_served_file(body.encode(), "application/json")


_DESCRIPTIONS: dict[str, Callable[[str], ServedFile]] = {
    "/openapi.json": functools.partial(_make_json_file, load_spec),
    "/openapi-3.2.json": functools.partial(_make_json_file, load_spec_3_2),
    "/openapi.yaml": _make_yaml_file,
}
# By path and prefix. A trusted proxy may pass on what a client sends as its prefix: so the number of them is bounded.
_MAX_MADE = 64
_made: dict[tuple[str, str], ServedFile] = {}
_making = threading.Lock()


async def load_served_file(path: str, root_path: str) -> ServedFile:
    """The document at the path; `root_path`: the prefix that a proxy removes. Who asks first waits while it is made.

    Most servers are never asked for them, and compressing all takes a tenth of a second of each start.
    """
    key = (path, "" if path in _ASSETS else root_path)
    made = _made.get(key)
    return made if made is not None else await run_in_worker(functools.partial(_make_once, *key))


def _make_once(path: str, root_path: str) -> ServedFile:
    with _making:
        document = _made.get((path, root_path))
        if document is None:
            document = _make(path, root_path)
            if len(_made) >= _MAX_MADE:
                del _made[next(iter(_made))]
            _made[path, root_path] = document
        return document


def _make(path: str, root_path: str) -> ServedFile:
    if path in _ASSETS:
        file, media_type = _ASSETS[path]
        return make_served_file(file.read_bytes(), media_type)
    return _DESCRIPTIONS[path](root_path)


def list_served_paths(*, has_ui: bool) -> tuple[str, ...]:
    """The paths that this module serves. `has_ui`: Swagger UI, too."""
    return (*_DESCRIPTIONS, *(_ASSETS if has_ui else ()))


class ApiDocsMiddleware:
    """ASGI middleware behind `OperationMiddleware`: answers `GET` for the paths of `list_served_paths`."""

    def __init__(self, app: ASGIApp, *, has_ui: bool) -> None:
        self._app = app
        self._paths = frozenset(list_served_paths(has_ui=has_ui))
        # A description that cannot be served stops the start.
        _divide_description()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self._app
        if scope["type"] == "http" and scope["path"] in self._paths:
            app = _make_response(await load_served_file(scope["path"], get_root_path(scope)), Headers(scope=scope))
        await app(scope, receive, send)


def _make_response(document: ServedFile, request: Headers) -> Response:
    headers = {"Vary": "Accept-Encoding", "ETag": document.etag}
    body = document.body
    if parse_accept_header(request.get("accept-encoding")).quality("gzip") > 0:
        headers |= {"Content-Encoding": "gzip", "ETag": document.gzipped_etag}
        body = document.gzipped
    if document.media_type.startswith("text/html"):
        headers["Content-Security-Policy"] = _PAGE_POLICY
    return Response(body, headers=headers, media_type=document.media_type)
