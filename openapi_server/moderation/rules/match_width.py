"""How wide a match of an expression can be, in characters. Pure; knows RE2's syntax, and trusts that it is that.

RE2 itself does not tell, and the gate must know: it holds back no more than a margin of a sentence without end.
"""

from __future__ import annotations

import math
import re

_GROUP = re.compile(r"\(\?(?:P?<\w+>|[imsU-]*:)|\((?!\?)")
_FLAGS = re.compile(r"\(\?[imsU-]+\)")
_CLASS = re.compile(r"\[\^?\]?(?:\[:\^?\w+:\]|\\[pP]\{\^?\w+\}|\\x\{\w+\}|\\.|[^\]\\])*\]", re.DOTALL)
_QUOTED = re.compile(r"\\Q(.*?)(?:\\E|$)", re.DOTALL)
_EDGE = re.compile(r"\\[AzbB]|[\^$]")
_ONE = re.compile(r"\\[pP](?:\{\^?\w+\}|\w)|\\x(?:\{\w+\}|\w\w)|\\[0-7]{1,3}|\\.|[^()|]", re.DOTALL)
_TIMES = re.compile(r"(?:([*+])|(\?)|\{(\d+)(,(\d*))?\})\??")


def measure_match_width(expression: str) -> float:
    r"""
    >>> widest(r"colou?r(ed|ing)?"), widest(r"\pL{2,9} (?:cage|den)"), widest(r"roar+")
    (9.0, 14.0, inf)
    """
    width, end = _measure_alternatives(expression, 0)
    # A bracket that was not understood: nothing is known then.
    return width if end == len(expression) else math.inf


def _measure_alternatives(text: str, at: int) -> tuple[float, int]:
    """Alternatives, up to the end or to the bracket that closes them: the widest of them, and the place."""
    best, width = 0.0, 0.0
    while at < len(text) and text[at] != ")":
        if text[at] == "|":
            best, width, at = max(best, width), 0.0, at + 1
            continue
        part, at = _measure_part(text, at)
        times, at = _parse_repetition(text, at)
        width += part * times if part else 0.0
    return max(best, width), at


def _measure_part(text: str, at: int) -> tuple[float, int]:
    """One group, class, edge or character."""
    if flags := _FLAGS.match(text, at):
        return 0.0, flags.end()
    if group := _GROUP.match(text, at):
        width, end = _measure_alternatives(text, group.end())
        return width, end + 1
    if quoted := _QUOTED.match(text, at):
        return float(len(quoted[1])), quoted.end()
    if edge := _EDGE.match(text, at):
        return 0.0, edge.end()
    one = _CLASS.match(text, at) or _ONE.match(text, at)
    return (1.0, one.end()) if one else (math.inf, at + 1)


def _parse_repetition(text: str, at: int) -> tuple[float, int]:
    """How often at most what stands before may come."""
    found = _TIMES.match(text, at)
    if found is None:
        return 1.0, at
    if found[1] or found[5] == "":
        return math.inf, found.end()
    return (1.0 if found[2] else float(found[5] or found[3])), found.end()
