"""Cleans the text of a model: what it writes beside the animal's reply never reaches the moderation or the visitor.

Models write their thoughts (`<think>...</think>`), the marks of their chat template (`<|eot_id|>`), a code fence or a
JSON object around the reply, and both parts of a dialogue (`Leo: ...`, `Visitor: ...`). Pure and incremental: the same
text gives the same result however it is cut into pieces, in linear time. What may be the beginning of such a thing is
held back until it is clear; other text passes at once.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from enum import Enum, auto
from typing import Protocol

from openapi_server import linear_regex
from openapi_server.models.animal import Animal
from openapi_server.models.hidden_characters import HiddenCharacterRemover
from openapi_server.providers.reply_wrappers import ReplyUnwrapper
from openapi_server.providers.speaker_labels import LabelRemover

# Cleaning as much text takes a few milliseconds at most.
_MAX_PART_CHARS = 1_000


class CleaningStep(Protocol):
    """One step of the cleaning. `has_ended`: the reply is complete, whatever the model still writes."""

    has_ended: bool

    def feed(self, text: str) -> str: ...

    def finish(self) -> Iterator[str]:
        """The rest, in parts that take a few milliseconds each; some are empty."""
        ...


class ReplyCleaner:
    """Cleans one reply of the animal: `feed` it every piece, then `finish` it.

    A piece may be long, and so may be what has waited: with `feed_in_parts` and `finish_in_parts` no step takes more
    than a few milliseconds, so that the event loop can do other work between two parts.
    `begins_in_thought`: the model is known to begin with a thought, whose opening mark is in its template.
    """

    def __init__(self, animal: Animal, *, begins_in_thought: bool = False) -> None:
        self._marks = MarkRemover(begins_in_thought=begins_in_thought)
        unwrapper = ReplyUnwrapper(clean_marks)
        self._steps: tuple[CleaningStep, ...] = (CharacterJoiner(), self._marks, unwrapper, LabelRemover(animal))
        self.has_ended = False
        self._is_cut = False

    @property
    def began_in_thought(self) -> bool:
        """Whether a thought ended that had no opening mark."""
        return self._marks.began_in_thought

    @property
    def holds_sentence(self) -> bool:
        """Whether a whole sentence waits that reads like a reply as much as like a thought."""
        return not self.has_ended and self._marks.holds_sentence

    def feed(self, text: str) -> str:
        """The text that may go on now."""
        return "".join(self.feed_in_parts(text))

    def finish(self, *, is_cut_off: bool = False) -> str:
        """The rest, when the model has ended. `is_cut_off`: at its token limit, maybe before its thought was over."""
        return "".join(self.finish_in_parts(is_cut_off=is_cut_off))

    def feed_in_parts(self, text: str) -> Iterator[str]:
        """As `feed`, in parts, of which some are empty."""
        if not self.has_ended:
            yield from self._pass(self._steps, text)

    def finish_in_parts(self, *, is_cut_off: bool = False) -> Iterator[str]:
        """As `finish`, in parts, of which some are empty."""
        if self.has_ended:
            return
        if is_cut_off:
            self._marks.drop_thought()
        yield from self._pass(self._steps, "", is_last=True)
        self.has_ended = True

    def release_sentence(self) -> str:
        """The text with a whole sentence that waits for what follows it, for a model that writes slowly."""
        return "".join(self._pass(self._steps[2:], self._marks.release_sentence()))

    def _pass(self, steps: Sequence[CleaningStep], text: str, *, is_last: bool = False) -> Iterator[str]:
        """What the steps make of the text. `is_last`: nothing follows it."""
        if not steps:
            yield text
            return
        step, *others = steps
        for start in range(0, len(text), _MAX_PART_CHARS):
            yield from self._pass_on(others, step.feed(text[start : start + _MAX_PART_CHARS]))
            if self.has_ended:
                return
            if step.has_ended:
                break
        if is_last or step.has_ended:
            self._is_cut = self._is_cut or step.has_ended
            for rest in step.finish():
                # The blanks at the end of the text have waited until now.
                yield from self._pass_on(others, rest if others or not self._is_cut else rest.rstrip())
            yield from self._pass(others, "", is_last=True) if others else ()
            self.has_ended = True

    def _pass_on(self, steps: Sequence[CleaningStep], text: str) -> Iterator[str]:
        """The same, with at least one part: a step that gives no text takes its time, too."""
        if text:
            yield from self._pass(steps, text)
        else:
            yield ""


def clean_marks(text: str) -> Generator[str, None, str]:
    """The text of a whole reply without thoughts and template marks, as in the value of a JSON object.

    It is the value of the generator, which yields "" now and then, so that its caller can do other work.
    """
    for step in (CharacterJoiner(), MarkRemover()):
        cleaned: list[str] = []
        for start in range(0, len(text), _MAX_PART_CHARS):
            cleaned.append(step.feed(text[start : start + _MAX_PART_CHARS]))
            yield ""
        text = "".join((*cleaned, *step.finish()))
    return text


class CharacterJoiner:
    """Joins the halves of a character that came in two pieces, and removes characters that nobody sees.

    A half that stays alone becomes U+FFFD.

    >>> joiner = CharacterJoiner()
    >>> joiner.feed("\\ud83e"), joiner.feed("\\udd81!"), *joiner.finish()
    ('', '🦁!', '')
    """

    has_ended = False

    def __init__(self) -> None:
        self._half = ""
        self._remover = HiddenCharacterRemover()

    def feed(self, text: str) -> str:
        text, self._half = self._half + text, ""
        if text and "\ud800" <= text[-1] <= "\udbff":
            self._half, text = text[-1], text[:-1]
        return self._remover.feed(_join_halves(text))

    def finish(self) -> Iterator[str]:
        half, self._half = self._half, ""
        yield self._remover.feed(_join_halves(half)) + self._remover.finish()


def _join_halves(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


# Marks

# What surrounds a tag. Some servers escape it for HTML.
_OPENERS = {"<": ">", "&lt;": "&gt;", "◁": "▷", "[": "]"}
_MAX_MARK_CHARS = 64
_BARS = "|｜"
# In these a model thinks, or calls tools that it does not have.
_HIDDEN = frozenset(
    "think thinking thought thoughts thought_process reasoning reason reflection reflect analysis scratchpad "
    "antthinking inner_monologue internal_monologue monologue plan planning tool_call tool_calls function_call "
    "function_calls tool_code begin_of_thought startofthink".split()
)
_HIDDEN_ENDS = frozenset({"end_of_thought", "endofthink"})
# In these is the reply itself.
_VISIBLE = frozenset(
    "answer final_answer final response reply output result message speech say solution text assistant model pad unk "
    "begin_of_solution begin_of_text".split()
)
# Behind these a reply is over.
_ENDS = frozenset(
    "eos end_of_turn end_of_text endoftext end stop eot eom eot_id im_end user human visitor system "
    "end_of_solution".split()
)
_STARTS = frozenset({"s", "bos", "sop", "gmask", "start_of_turn"})
_TAGS = _HIDDEN | _HIDDEN_ENDS | _VISIBLE | _ENDS | _STARTS
# In square brackets only capitals are marks: Mistral's.
_BRACKETED = frozenset(
    "THINK INST SYSTEM_PROMPT AVAILABLE_TOOLS TOOL_CALLS TOOL_RESULTS EOS BOS END STOP PAD UNK".split()
)
_REPLY_ROLES = ("", "assistant", "model", "gpt", "bot", "final")
_MAX_HEADER_CHARS = 40


class _MarkKind(Enum):
    THOUGHT = auto()
    THOUGHT_END = auto()
    NOTHING = auto()
    START = auto()
    HEADER = auto()
    HEADER_END = auto()
    REPLY = auto()
    OTHER_SPEAKER = auto()
    END = auto()


class _Mode(Enum):
    TEXT = auto()
    THOUGHT = auto()
    HEADER = auto()
    OTHER_SPEAKER = auto()


class MarkRemover:
    """Removes thoughts and the marks of chat templates. A mark of an end behind text ends the reply.

    A thought without its opening mark is only known by its end, so the beginning of a reply waits until it reads like
    the animal's (`classify_beginning`); with `begins_in_thought` the whole reply waits for the end of a thought.
    """

    def __init__(self, *, begins_in_thought: bool = False) -> None:
        self.has_ended = False
        self.began_in_thought = False
        self._mode = _Mode.TEXT
        self._input = ""
        self._header = ""
        self._has_text = False
        self._waiting: list[str] | None = []
        self._waits_for_thought = begins_in_thought
        self._unjudged = ""
        self._is_unjudged = False
        self._begins_in_thought = begins_in_thought

    def feed(self, text: str) -> str:
        if self.has_ended:
            return ""
        self._input += text
        output: list[str] = []
        at = 0
        while at < len(self._input) and not self.has_ended:
            start = _find_mark_start(self._input, at, in_header=self._mode is _Mode.HEADER)
            output.append(self._take_text(self._input[at:start]))
            at = start
            if at == len(self._input):
                break
            if self._input[at] == "\n":
                self._end_header()
                at += 1
                continue
            length, kind = _read_mark(self._input, at)
            if length == 0:
                break
            if kind is None:
                output.append(self._take_text(self._input[at : at + length]))
            else:
                self._take_mark(kind)
            at += length
        self._input = self._input[at:]
        return "".join(output)

    def finish(self) -> Iterator[str]:
        rest, self._input = self._input, ""
        # Nobody writes the beginning of a template's mark: it was cut off.
        is_cut = rest[:2] in ("<|", "<｜", "</") or self.has_ended
        output = "" if is_cut else self._take_text(rest)
        yield output + self._release()

    @property
    def holds_sentence(self) -> bool:
        """Whether text with a whole sentence waits to be judged by what follows it."""
        waits = self._waiting is not None and not self._waits_for_thought and self._mode is _Mode.TEXT
        return waits and _SENTENCE_END.search(self._unjudged) is not None

    def release_sentence(self) -> str:
        """The text that waits to be judged. The end of a thought behind it is remembered (`began_in_thought`)."""
        if not self.holds_sentence:
            return ""
        self._is_unjudged = True
        return self._release()

    def drop_thought(self) -> None:
        """Forget what has waited for the end of a thought that the model is known to begin with."""
        if self._begins_in_thought and self._waits_for_thought:
            self._input, self._waiting = "", []

    def _take_text(self, text: str) -> str:
        """The text that may go on now."""
        if not text:
            return ""
        if self._mode is _Mode.HEADER:
            self._header += text
            if len(self._header) <= _MAX_HEADER_CHARS:
                return ""
            # It is no header.
            text, self._header, self._mode = self._header, "", _Mode.TEXT
        if self._mode is not _Mode.TEXT:
            return ""
        text = text if self._has_text else text.lstrip()
        self._has_text = self._has_text or bool(text)
        if self._waiting is None:
            return text
        self._waiting.append(text)
        if self._waits_for_thought:
            return ""
        self._unjudged += text
        is_reply = classify_beginning(self._unjudged)
        if is_reply is None:
            return ""
        if not is_reply:
            self._waits_for_thought, self._unjudged = True, ""
            return ""
        return self._release()

    def _release(self) -> str:
        """The text that has waited; nothing waits from now on."""
        text = "".join(self._waiting or ())
        self._waiting = None
        # The thoughts of a model whose server removes the marks but not what is between them.
        return text.rpartition("assistantfinal")[2] if text.startswith("analysis") else text

    def _take_mark(self, kind: _MarkKind) -> None:
        if kind is _MarkKind.THOUGHT_END:
            self._end_thought()
        elif self._mode is _Mode.THOUGHT or kind is _MarkKind.NOTHING:
            return
        elif kind is _MarkKind.THOUGHT:
            self._mode = _Mode.THOUGHT
        elif self._has_text and self._mode is _Mode.TEXT and kind is not _MarkKind.START:
            self.has_ended = True
        elif kind is _MarkKind.HEADER:
            self._mode, self._header = _Mode.HEADER, ""
        elif kind is _MarkKind.HEADER_END:
            self._end_header()
        elif kind is _MarkKind.REPLY:
            self._mode = _Mode.TEXT
        elif kind is _MarkKind.OTHER_SPEAKER:
            self._mode = _Mode.OTHER_SPEAKER
        elif self._mode is _Mode.HEADER:
            self._end_header()

    def _end_thought(self) -> None:
        is_open, self._mode = self._mode is not _Mode.TEXT, _Mode.TEXT
        if self._waiting is None or (is_open and self._has_text):
            self.began_in_thought = self.began_in_thought or (self._is_unjudged and not is_open)
            return
        # What has waited was the thought; what follows is judged afresh, because thoughts can be nested.
        self.began_in_thought = self.began_in_thought or not is_open
        self._waiting, self._unjudged, self._has_text, self._waits_for_thought = [], "", False, False

    def _end_header(self) -> None:
        """The name of a role or channel is complete: it says whose text follows."""
        role, self._header = self._header.strip().casefold(), ""
        if self._mode is _Mode.HEADER:
            self._mode = _Mode.TEXT if role.startswith(_REPLY_ROLES[1:]) or not role else _Mode.OTHER_SPEAKER


def _find_mark_start(text: str, at: int, *, in_header: bool) -> int:
    """Where the next mark may begin, or, in a header, its line ends."""
    found = (_HEADER_BREAK if in_header else _MARK_START).search(text, at)
    return found.start() if found else len(text)


_MARK_START = linear_regex.compile(r"[<&\[◁]")
_HEADER_BREAK = linear_regex.compile(r"[<&\[◁\n]")


def _read_mark(text: str, at: int) -> tuple[int, _MarkKind | None]:
    """The length of the mark there and its kind; kind None: so much is text; length 0: more has to come."""
    window = text[at : at + _MAX_MARK_CHARS]
    opener = next((one for one in _OPENERS if window.startswith(one)), None)
    if opener is None:
        may_become = "&lt;".startswith(window)
        return (0 if may_become else 1), None
    closer = _OPENERS[opener]
    end = window.find(closer, len(opener))
    if end >= 0:
        kind = _classify(window[len(opener) : end], opener)
        return (end + len(closer) if kind else len(opener)), kind
    body = window[len(opener) :]
    may_become = len(window) < _MAX_MARK_CHARS and _may_become_mark(body, opener, closer)
    return (0 if may_become else len(opener)), None


def _may_become_mark(body: str, opener: str, closer: str) -> bool:
    """Whether more text could make it a mark. True for every beginning of one."""
    if opener == "[":
        return any(name.startswith(body.removeprefix("/")) for name in _BRACKETED)
    # The beginning of a closer that has more than one character.
    body = next((body[:-count] for count in range(len(closer) - 1, 0, -1) if body.endswith(closer[:count])), body)
    if body[:1] and body[0] in _BARS:
        return _is_special(body.strip(_BARS))
    rest = body.removeprefix(" ").removeprefix("/").removeprefix(" ").casefold()
    name = _read_name(rest)
    if len(name) < len(rest):
        return name.rpartition(":")[2].replace("-", "_") in _TAGS and "\n" not in rest
    name = name.rpartition(":")[2].replace("-", "_")
    # A prefix such as `seed:` comes before a name.
    return any(tag.startswith(name) for tag in _TAGS) or (
        ":" not in rest and any(p.startswith(name) for p in _PREFIXES)
    )


_PREFIXES = ("seed:", "antml:", "ns:")


def _read_name(text: str) -> str:
    return text[: next((at for at, char in enumerate(text) if not (char.isalnum() or char in "_-:")), len(text))]


def _is_special(name: str) -> bool:
    return all(char.isalnum() or char in "_-/.: ▁" for char in name)


def _classify(body: str, opener: str) -> _MarkKind | None:
    """The kind of what stands between the brackets; None when it is no mark."""
    if opener == "[":
        is_mark = body.removeprefix("/") in _BRACKETED
        return _classify_tag(body.casefold().removeprefix("/"), is_closing=body[0] == "/") if is_mark else None
    if len(body) > 2 and body[0] in _BARS and body[-1] in _BARS:
        return _classify_special(body.strip(_BARS).strip()) if _is_special(body.strip(_BARS)) else None
    rest = body.removeprefix(" ")
    is_closing = rest.startswith("/")
    rest = rest.removeprefix("/").removeprefix(" ").casefold()
    prefix, _, name = _read_name(rest).rpartition(":")
    name = name.replace("-", "_")
    if name not in _TAGS or "\n" in rest or (prefix and f"{prefix}:" not in _PREFIXES):
        return None
    return _MarkKind.NOTHING if rest.endswith("/") else _classify_tag(name, is_closing=is_closing)


def _classify_tag(name: str, *, is_closing: bool) -> _MarkKind:
    if name in _HIDDEN_ENDS or (name in _HIDDEN and is_closing):
        return _MarkKind.THOUGHT_END
    if name in _HIDDEN:
        return _MarkKind.THOUGHT
    if name in _VISIBLE:
        return _MarkKind.NOTHING
    if name == "start_of_turn":
        return _MarkKind.HEADER
    if name in ("user", "human", "visitor", "system", "system_prompt") and not is_closing:
        return _MarkKind.OTHER_SPEAKER
    if name in _STARTS and not is_closing:
        return _MarkKind.START
    return _MarkKind.END


def _classify_special(name: str) -> _MarkKind:
    """Of a mark such as `<|im_end|>`. Any name is one, because every model has its own."""
    name = name.casefold().replace("▁", "_").replace(" ", "_")
    is_closing, name = name.startswith("/"), name.removeprefix("/")
    if name in _HIDDEN | _HIDDEN_ENDS:
        return _classify_tag(name, is_closing=is_closing)
    if name in ("im_start", "start_header_id", "start", "channel", "start_of_role", "header_start", "turn"):
        return _MarkKind.HEADER
    if name in ("message", "im_sep", "end_header_id", "end_of_role", "header_end", "im_middle"):
        return _MarkKind.HEADER_END
    if name in _VISIBLE or "begin" in name:
        return _MarkKind.REPLY if name in ("assistant", "model") else _MarkKind.NOTHING
    if name in ("user", "human", "system", "observation", "tool", "context"):
        return _MarkKind.OTHER_SPEAKER
    return _MarkKind.END


# The beginning of a reply

_SENTENCE_END = linear_regex.compile(r"[.!?…][\"'”’)*_]*\s|[。！？\n]")
# A long sentence is judged by its beginning.
_JUDGED_CHARS = 60
_MAX_NEUTRAL_CHARS = 240
# Who thinks speaks of the visitor, of the answer and of the rules, not to anybody.
_READS_LIKE_THOUGHT = linear_regex.compile_detector(
    whole=(
        r"(?:the|this) (?:user|visitor|child|kid|human|person|question|prompt|conversation|message|persona|system"
        r"|instructions?|facts|notes)",
        r"(?:user|visitor|child|they|he|she)(?:'s| is| has| just)? (?:asks?|asked|asking|wants?|says?|said|greets?)",
        r"(?:i|we) (?:should|need to|must|have to) (?:\w+ )?(?:answer|respond|reply|greet|mention|explain|tell|say"
        r"|avoid|write|give|be|use|speak|follow|stay|keep|make sure)",
        r"(?:i|we)(?:'ll| will|'m going to| am going to) (?:answer|respond|reply|greet|mention|keep it|stay in)",
        r"(?:let me|let's|lets) (?:think|check|see|recall|consider|look|figure|answer|respond|craft|draft|write)",
        r"system prompt|in character|role-?play|step by step|thinking process|final answer|keepers' notes",
        r"(?:ok|okay|alright), so",
        r"der nutzer|der benutzer|der besucher|el usuario|el visitante|l'utilisateur|le visiteur",
    ),
    inside=(
        r"^\W*(?:plan|thinking|thoughts?|reasoning|analysis|task|goal|step \d+|draft) ?[:.-]",
        r"^analysis\w",
        r"用户|访客|ユーザー",
    ),
    flags=linear_regex.IGNORECASE,
)
_READS_LIKE_SPEECH = linear_regex.compile(
    r"\b(?:i|i'm|i've|i'd|me|my|mine|we|us|our|you|your|you're|hello|hi|hey)\b|[!?！？]", linear_regex.IGNORECASE
)


def classify_beginning(text: str) -> bool | None:
    """Whether a reply that begins so is the animal's (True), or may be a thought (False). None: it is too short.

    >>> classify_beginning("Roar! I am Leo."), classify_beginning("The child asks my name. "), classify_beginning("Li")
    (True, False, None)
    """
    text = text[:_MAX_NEUTRAL_CHARS]
    for part in _list_parts(text):
        if _READS_LIKE_THOUGHT.search(part):
            return False
        if _READS_LIKE_SPEECH.search(part):
            return True
    return True if len(text) == _MAX_NEUTRAL_CHARS else None


def _list_parts(text: str) -> Iterator[str]:
    """The complete sentences at the beginning, and the beginning of each long one."""
    start = 0
    while start < len(text):
        found = _SENTENCE_END.search(text, start)
        end = found.end() if found else len(text)
        if end - start >= _JUDGED_CHARS:
            yield text[start : start + _JUDGED_CHARS]
        if found is None:
            return
        yield text[start:end]
        start = end
