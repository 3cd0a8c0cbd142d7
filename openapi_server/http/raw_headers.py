"""The headers of an answer as ASGI has them: pairs of bytes, whose names are in lower case.

Starlette's `MutableHeaders` encodes a name for each look and each change, and each answer gets a dozen headers from
several middleware. These functions take what was encoded once.
"""

from __future__ import annotations

from collections.abc import Iterable

RawHeader = tuple[bytes, bytes]


def encode_header(name: str, value: str) -> RawHeader:
    return name.lower().encode("latin-1"), value.encode("latin-1")


def set_headers(headers: list[RawHeader], new: Iterable[RawHeader]) -> None:
    """Each header takes the place of the first one with its name, and of all further ones; else it is added.

    >>> headers = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
    >>> set_headers(headers, [(b"a", b"4"), (b"c", b"5")])
    >>> headers
    [(b'a', b'4'), (b'b', b'2'), (b'c', b'5')]
    """
    names = [name for name, _ in headers]
    for header in new:
        name = header[0]
        if name not in names:
            headers.append(header)
            names.append(name)
            continue
        first = names.index(name)
        headers[first] = header
        headers[first + 1 :] = [other for other in headers[first + 1 :] if other[0] != name]
        names = [other for other, _ in headers]


def get_values(headers: Iterable[RawHeader], name: bytes) -> list[str]:
    """The values of all headers with the name."""
    return [value.decode("latin-1") for given, value in headers if given == name]
