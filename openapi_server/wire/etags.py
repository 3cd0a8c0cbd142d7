"""Entity tags (RFC 9110, section 8.8.3): a version of an animal as clients hold it in their hands. Pure."""

from __future__ import annotations

import re

_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')


def encode_etag(version: int) -> str:
    """
    >>> etag(17)
    '"17"'
    """
    return f'"{version}"'


def parse_if_match(if_match: str) -> frozenset[int] | None:
    """The versions that an `If-Match` header names (section 13.1.1), or None for `*`, which is any.

    Weak tags, and tags that are none of ours, match nothing: so they name no version.

    >>> versions_in('"17", W/"18", "ours?"'), versions_in("*"), versions_in("17")
    (frozenset({17}), None, frozenset())
    """
    if if_match.strip() == "*":
        return None
    tags = [(weak, tag) for weak, tag in _TAG.findall(if_match) if not weak]
    return frozenset(int(tag) for _, tag in tags if re.fullmatch(r"[0-9]{1,18}", tag, re.ASCII))
