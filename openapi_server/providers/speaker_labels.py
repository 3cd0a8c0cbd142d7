"""Removes the names of speakers from a reply that is written as a dialogue, and ends it where another one speaks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum, auto

from openapi_server import linear_regex
from openapi_server.models.animal import Animal

_OWN = ("assistant", "ai", "ai assistant", "bot", "chatbot", "model", "answer", "a", "reply", "response", "animal")
# The other part of a dialogue. `You:` is not among them, because jokes are told with it.
_OTHERS = frozenset(
    "visitor user human child kid guest student person customer boy girl mom mum dad parent system instruction "
    "besucher benutzer nutzer kind mensch visiteur utilisateur enfant visitante usuario niño niña visitatore "
    "utente".split()
)
# At the beginning of a line within a reply; a riddle may begin with a question.
_OTHERS_WITHIN = _OTHERS | {"question", "q", "input"}
_OTHERS_BEHIND_SENTENCES = frozenset({"visitor", "user", "human", "child"})
# What may stand at the beginning of a line of a dialogue without being a name.
_NO_NAMES = frozenset("fact joke riddle tip note example story bonus remember warning me you".split())
_MARKUP = "*_#>[](-•~ \t"
_MAX_MARKUP_CHARS = 8
_MAX_LABEL_CHARS = 60
_MAX_NAME_CHARS = 24
_SENTENCE_ENDS = ".!?…。！？"
_CLOSING_MARKS = "\"'”’»)*_"
_BLANK = linear_regex.compile(r"\s")
_TEXT = linear_regex.compile(r"\S")
_COLON = linear_regex.compile(r"[:：]")


class _Place(Enum):
    """Where the next character stands. A label may stand at the first three."""

    BEGINNING = auto()
    LINE = auto()
    SENTENCE = auto()
    WORD = auto()
    INSIDE = auto()


class _Speaker(Enum):
    NOBODY = auto()
    UNKNOWN_YET = auto()
    ANIMAL = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class _Label:
    """A label that was read. `markup` is what was opened before it and has to be closed behind it, such as `**`."""

    speaker: _Speaker
    length: int = 0
    markup: str = ""
    is_name: bool = False


class LabelRemover:
    """Removes the animal's own label (`Leo:`) and ends the reply at that of another speaker (`Visitor:`).

    Labels stand at the beginning of a line; those of visitors also behind a sentence. Inside a sentence nothing is a
    label. Blanks wait for what follows them, so that a reply that is cut ends without any.
    """

    def __init__(self, animal: Animal) -> None:
        self.has_ended = False
        self._names = _list_names(animal)
        self._place = _Place.BEGINNING
        self._rest = ""
        self._blanks: list[str] = []
        self._tail = ""
        self._markup = ""
        self._has_text = False
        self._is_skipping = False
        self._is_dialogue = False

    def feed(self, text: str) -> str:
        text, self._rest = self._rest + text, ""
        output: list[str] = []
        at = 0
        while at < len(text) and not self.has_ended:
            if self._is_skipping:
                at = self._skip_line(text, at)
            elif self._place is _Place.INSIDE:
                at = self._copy_word(text, at, output)
            elif text[at].isspace():
                at = self._take_blanks(text, at)
            elif self._place is _Place.WORD:
                self._go_on(output)
            else:
                length = self._take_label(text, at, output)
                if length is None:
                    self._rest = text[at:]
                    break
                at += length
        return "".join(output)

    def finish(self) -> Iterator[str]:
        is_over = self.has_ended or self._is_skipping
        yield "" if is_over else "".join((*self._blanks, self._rest))

    def _copy_word(self, text: str, at: int, output: list[str]) -> int:
        found = _BLANK.search(text, at)
        end = found.start() if found else len(text)
        output.append(text[at:end])
        # Enough to see the end of a sentence behind some closing marks.
        self._tail = (self._tail + text[max(at, end - 8) : end])[-8:]
        if found:
            is_over = self._tail.rstrip(_CLOSING_MARKS)[-1:] in (*_SENTENCE_ENDS,)
            self._place = _Place.SENTENCE if is_over else _Place.WORD
        return end

    def _take_blanks(self, text: str, at: int) -> int:
        found = _TEXT.search(text, at)
        end = found.start() if found else len(text)
        if self._place is not _Place.BEGINNING:
            self._place = _Place.LINE if "\n" in text[at:end] else self._place
            self._blanks.append(text[at:end])
        return end

    def _take_label(self, text: str, at: int, output: list[str]) -> int | None:
        """How much to go on: behind a label, or 0 for text. None: more has to come."""
        if self._markup:
            return self._close_markup(text, at)
        label = self._read_label(text[at : at + _MAX_LABEL_CHARS])
        match label.speaker:
            case _Speaker.UNKNOWN_YET:
                return None
            case _Speaker.OTHER if self._has_text:
                self.has_ended = True
            case _Speaker.OTHER:
                # The model repeats the question first.
                self._is_skipping = True
            case _Speaker.ANIMAL:
                output += self._blanks
                self._blanks.clear()
                self._is_dialogue = self._is_dialogue or label.is_name
                self._place, self._markup = _Place.BEGINNING, label.markup
            case _Speaker.NOBODY:
                self._go_on(output)
        return label.length

    def _go_on(self, output: list[str]) -> None:
        output += self._blanks
        self._blanks.clear()
        self._place, self._has_text, self._tail = _Place.INSIDE, True, ""

    def _close_markup(self, text: str, at: int) -> int | None:
        following = text[at : at + len(self._markup)]
        if following != self._markup and self._markup.startswith(following):
            return None
        length = len(following) if following == self._markup else 0
        self._markup = ""
        return length

    def _skip_line(self, text: str, at: int) -> int:
        end = text.find("\n", at)
        self._is_skipping = end < 0
        return len(text) if end < 0 else end

    def _read_label(self, window: str) -> _Label:
        start = len(window) - len(window.lstrip(_MARKUP))
        if start == len(window) or start > _MAX_MARKUP_CHARS:
            return _Label(_Speaker.UNKNOWN_YET if start <= _MAX_MARKUP_CHARS else _Speaker.NOBODY)
        line, line_end, _ = window[start:].partition("\n")
        colon = _COLON.search(line)
        if colon is None:
            is_possible = not line_end and len(window) < _MAX_LABEL_CHARS and self._may_become_label(line)
            return _Label(_Speaker.UNKNOWN_YET if is_possible else _Speaker.NOBODY)
        head = line[: colon.start()]
        name = head.partition("(")[0].strip(_MARKUP).casefold()
        speaker = self._find_speaker(name, head)
        if speaker is _Speaker.NOBODY:
            return _Label(speaker)
        opened = window[:start].rstrip()
        opened = opened[len(opened.rstrip("*_")) :]
        is_closed = not opened or head.rstrip().endswith(opened)
        markup = "" if is_closed else opened
        return _Label(speaker, start + colon.end(), markup, is_name=name not in _OWN)

    def _find_speaker(self, name: str, head: str) -> _Speaker:
        if name in self._list_others():
            return _Speaker.OTHER
        if self._place is _Place.SENTENCE:
            return _Speaker.NOBODY
        if name in self._names:
            return _Speaker.ANIMAL
        return _Speaker.OTHER if self._is_other_name(head.strip(_MARKUP)) else _Speaker.NOBODY

    def _may_become_label(self, head: str) -> bool:
        """Whether more text could make it the label of somebody. True for every beginning of one."""
        beginning = head.casefold()
        own: Iterable[str] = () if self._place is _Place.SENTENCE else self._names
        if any(_begins_label(beginning, name) for names in (own, self._list_others()) for name in names):
            return True
        return self._is_other_name(head.partition("(")[0].strip(_MARKUP))

    def _list_others(self) -> frozenset[str]:
        match self._place:
            case _Place.SENTENCE:
                return _OTHERS_BEHIND_SENTENCES
            case _Place.LINE:
                return _OTHERS_WITHIN
            case _:
                return _OTHERS

    def _is_other_name(self, word: str) -> bool:
        """Whether it may be the name of a visitor: in a dialogue every line begins with one."""
        is_name = word.isalpha() and word[0].isupper() and len(word) <= _MAX_NAME_CHARS
        return is_name and self._is_dialogue and self._place is _Place.LINE and word.casefold() not in _NO_NAMES


def _begins_label(beginning: str, name: str) -> bool:
    """Whether a label of that name may begin so: `leo`, `Leo **`, `Leo (roars loudly`."""
    if name.startswith(beginning):
        return True
    rest = beginning[len(name) :].lstrip(_MARKUP.replace("(", ""))
    return beginning.startswith(name) and (not rest or rest[0] == "(")


def _list_names(animal: Animal) -> frozenset[str]:
    """What the animal calls itself before a colon, in lower case."""
    name, species = animal.name.casefold(), animal.species.casefold()
    kinds = (species, species.rpartition(" ")[2])
    titles = (f"{name}{link}{kind}" for link in (" the ", ", the ") for kind in kinds)
    return frozenset((name, *kinds, *(f"the {kind}" for kind in kinds), *titles, *_OWN))
