"""Unwraps a reply that a model has put as a whole into a code fence, a JSON value or quotation marks."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

# Where the reply is in an object, the likeliest first.
_REPLY_KEYS = tuple(
    "reply response answer final_answer content text message output speech utterance result say says said assistant "
    "completion choices delta parts data".split()
)
_THOUGHT_KEYS = frozenset("thought thoughts thinking think reasoning analysis plan reflection scratchpad".split())
_QUOTES = {'"': '"', "“": "”", "„": "“", "«": "»", "`": "`"}
_FENCES = ("```", "~~~")
_MAX_DEPTH = 4
# The longest name of a language behind a fence, and the most blanks behind the bracket that begins JSON.
_MAX_LANGUAGE_CHARS = 30
_MAX_BLANKS = 64
# What may be missing at the end of JSON that was cut off, with a text in it.
_MISSING_ENDS = ('"}', "}", '"}}', "}}", '"]', "]", '"}]', "}]")


Work = Generator[str, None, str]
"""Work whose result is the value of the generator. It yields "" now and then, so that its caller can do other work."""


class ReplyUnwrapper:
    """Holds back a reply that begins with a fence or as JSON, and one that begins with a quotation until it goes on.

    `clean` is used on the text of a JSON value, where characters can be written in other ways.
    """

    has_ended = False

    def __init__(self, clean: Callable[[str], Work]) -> None:
        self._clean = clean
        self._beginning = ""
        self._held: list[str] = []
        self._quotation: _Quotation | None = None
        self._take: Callable[[str], str] = self._take_beginning

    def feed(self, text: str) -> str:
        return self._take(text)

    def finish(self) -> Iterator[str]:
        text, self._held = "".join((self._beginning, *self._held)), []
        self._beginning = ""
        yield (yield from unwrap(text, self._clean))

    def _take_beginning(self, text: str) -> str:
        self._beginning = (self._beginning + text).lstrip()
        is_wrapped = _begins_wrapped(self._beginning)
        if is_wrapped is None:
            return ""
        begins, self._beginning = self._beginning, ""
        self._take = self._hold if is_wrapped else _pass
        # Behind one quotation mark stands a quotation; a fence has three marks.
        if begins[0] in _QUOTES and not begins.startswith(_FENCES):
            self._quotation = _Quotation(_QUOTES[begins[0]])
        return self._take(begins)

    def _hold(self, text: str) -> str:
        self._held.append(text)
        if self._quotation is None or not self._quotation.is_continued(text):
            return ""
        whole, self._held, self._take = "".join(self._held), [], _pass
        return whole


class _Quotation:
    """The characters of a reply that begins with a quotation mark."""

    def __init__(self, closing: str) -> None:
        self._closing = closing
        self._has_begun = self._is_escaped = self._is_over = False

    def is_continued(self, text: str) -> bool:
        """Whether there is more than the quotation, so that it does not enclose the reply."""
        for char in text:
            if self._is_over and not char.isspace():
                return True
            if self._is_escaped:
                self._is_escaped = False
            elif char == "\\":
                self._is_escaped = True
            elif char == self._closing and self._has_begun:
                self._is_over = True
            self._has_begun = True
        return False


def _pass(text: str) -> str:
    return text


def _begins_wrapped(text: str) -> bool | None:
    """Whether a reply that begins so may be wrapped; None: it is too short to say."""
    if not text or (text in ("`", "``", "~", "~~")):
        return None
    if text.startswith(_FENCES) or text[0] in _QUOTES:
        return True
    if text[0] not in "{[":
        return False
    inside = text[1:].lstrip()
    if not inside:
        return None if len(text) < _MAX_BLANKS else False
    return inside[0] == '"' or (text[0] == "[" and inside[0] == "{")


def unwrap(text: str, clean: Callable[[str], Work]) -> Work:
    """What is inside; the text itself when nothing encloses the whole of it."""
    for _ in range(_MAX_DEPTH):
        stripped = text.strip()
        if not stripped:
            break
        inside = _open_fence(stripped) if stripped.startswith(_FENCES) else (yield from _open_json(stripped, clean))
        if inside is None:
            inside = _open_quotation(stripped)
        if inside is None:
            break
        text = inside.strip()
        yield ""
    return text


def _open_fence(text: str) -> str | None:
    """The text between the fences, of which the last may have been cut off; None when there is more than that."""
    fence = text[:3]
    first, line_end, body = text.lstrip(fence[0]).partition("\n")
    if not line_end:
        # All in one line.
        return None if fence in first.removesuffix(fence) else first.removesuffix(fence)
    if len(first) > _MAX_LANGUAGE_CHARS or fence in first:
        return None
    body = body.rstrip().rstrip(fence[0]) if body.rstrip().endswith(fence) else body
    return None if fence in body else body


def _open_quotation(text: str) -> str | None:
    closing = _QUOTES.get(text[0])
    inside = text[1:-1]
    is_whole = closing is not None and len(text) > 1 and text[-1] == closing and closing not in inside
    return inside if is_whole and not text.startswith(_FENCES) else None


def _open_json(text: str, clean: Callable[[str], Work]) -> Generator[str, None, str | None]:
    """The reply in a JSON value, "" where there is none; None when it is no JSON, or more than that."""
    if text[0] not in '{["':
        return None
    for candidate in _list_completions(text):
        yield ""
        try:
            reply = _find_reply(json.loads(candidate, strict=False))
        except (ValueError, RecursionError):
            continue
        return (yield from clean(reply))
    return None


def _list_completions(text: str) -> Sequence[str]:
    """The text, and, in case it was cut off, what makes it JSON again."""
    escape = text.rfind("\\", len(text) - 6)
    whole = text if escape < 0 else text[:escape]
    return [text, *(cut + end for cut in dict.fromkeys((text, whole)) for end in _MISSING_ENDS)]


def _find_reply(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return _find_in_list(value)
    if not isinstance(value, dict) or value.get("role") in ("user", "system"):
        return ""
    members = {str(name).casefold().replace("-", "_"): member for name, member in value.items()}
    for key in _REPLY_KEYS:
        if key in members and (found := _find_reply(members[key])):
            return found
    return _find_sentence(members)


def _find_in_list(values: Sequence[object]) -> str:
    if all(isinstance(value, str) for value in values):
        return " ".join(map(str, values))
    return next(filter(None, map(_find_reply, values)), "")


def _find_sentence(members: Mapping[str, object]) -> str:
    """The longest text of more than one word, where no name says which member is the reply."""
    texts = [text for name, text in members.items() if isinstance(text, str) and name not in _THOUGHT_KEYS]
    # Those of the reply's names were searched before; again at each depth, the time would be exponential.
    searched = _THOUGHT_KEYS.union(_REPLY_KEYS)
    objects = [member for name, member in members.items() if isinstance(member, dict) and name not in searched]
    longest = max((text for text in texts if " " in text.strip()), key=len, default="")
    return longest or next(filter(None, map(_find_reply, objects)), "")
