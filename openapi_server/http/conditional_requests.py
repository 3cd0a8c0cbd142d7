"""Conditional requests (RFC 9110, section 13): a document's version as `ETag`, and the versions in `If-Match`."""

from __future__ import annotations

import re

from starlette.responses import JSONResponse
from starlette.types import ASGIApp

# What keepers read is no cache's business.
PRIVATE = {"Cache-Control": "no-store"}

# Our own: werkzeug's parse_etags takes an unquoted 17 for "17", and a `*` only where no blank is beside it.
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def encode_etag(version: int) -> str:
    """
    >>> encode_etag(17)
    '"17"'
    """
    return f'"{version}"'


def parse_if_match(if_match: str) -> frozenset[int] | None:
    """The versions that an `If-Match` header names (section 13.1.1), or None for `*`, which is any.

    Weak tags, and tags that are none of ours, match nothing: so they name no version.

    >>> parse_if_match('"17", W/"18", "ours?"'), parse_if_match("*"), parse_if_match("17")
    (frozenset({17}), None, frozenset())
    """
    if if_match.strip() == "*":
        return None
    tags = [(weak, tag) for weak, tag in _TAG.findall(if_match) if not weak]
    return frozenset(int(tag) for _, tag in tags if re.fullmatch(r"[0-9]{1,18}", tag, re.ASCII))


def respond_with_version(body: object, version: int, status: int = 200, **headers: str) -> ASGIApp:
    """The body as JSON, with the version that it was read from as its `ETag`."""
    return JSONResponse(body, status, {**PRIVATE, "ETag": encode_etag(version), **headers})
