"""What no text of a keeper may hold, beside characters that nobody sees: placeholders that nothing fills in."""

from __future__ import annotations

from openapi_server import linear_regex

_PLACEHOLDER = linear_regex.compile(
    r"[{}]|<%|%>|<\?|\?>|\$[A-Za-z_]|%\(\w|(?<!\S)%[sdr]\b|(?<!\d)%[A-Za-z_]\w{0,63}%|\[\[\w{1,64}\]\]|<<\w{1,64}>>"
)


def find_placeholder(text: str, allowed: str = "") -> str | None:
    """The first sign of a placeholder, such as "{" or "%(n"; None when there is none but the allowed one.

    >>> find_placeholder("Hello{name}!", "{name}"), find_placeholder("Hello {0}!"), find_placeholder("I cost $5, 50 %.")
    (None, '{', None)
    """
    found = _PLACEHOLDER.search(text.replace(allowed, "") if allowed else text)
    return found[0] if found else None
