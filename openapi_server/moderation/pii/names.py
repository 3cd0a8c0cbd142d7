"""Names that visitors tell of themselves or of their people: the first one stays, what follows it is found here."""

from __future__ import annotations

import re
from collections.abc import Iterator

# An initial keeps its stop; a longer word's stop ends the sentence.
_WORD = re.compile(r"[^\W\d_]\.(?= )|st\.(?= )|[^\W\d_](?:[\w'’-]*\w)?", re.I)
# A surname's own small words: van der Berg, de la Cruz, O'Brien needs none.
_PARTICLE = re.compile(r"van|von|der|den|de|del|della|di|da|la|le|el|al|bin|ibn|ten|ter|zu|zum|zur|st\.?|mc|mac", re.I)
_PEOPLE = (
    r"(?:friend|brother|sister|cousin|teacher|mum|mom|dad|uncle|aunt|neighbou?r|classmate|grandma|grandpa|mother|father"
    r"|babysitter|coach)"
)
_TELLS_NAME = re.compile(
    r"(?:\b(?:my|his|her|their|our|the) (?:\w+(?:'s)? )?(?:(?:full|real|whole|first|birth) )?name(?:'?s| is|:)"
    rf"|\b(?:i am|i'm|im|he is|she is|(?:my|our) (?:\w+ )?{_PEOPLE} is) (?:called|named)|\b(?:call|named) me"
    r"|\bname ?[:=]|\bich hei(?:ß|ss)e|\bich bin (?:der|die)|\bmein name ist|\bje m'appelle|\bme llamo|\bmi nombre es"
    r"|\bmi chiamo|\bik heet|\bjag heter|\bmeu nome é|\bnazywam się|\bменя зовут)[ ,]+",
    re.I,
)
# "I'm" also goes before everything else that one can be; there, a name is two words with capitals.
_SAYS_WHO = re.compile(
    r"\b(?:[Ii] am|[Ii]['’]?m|[Tt]his is|[Ii]t['’]s|[Ii]ch bin),? (?:called )?"
    # How a letter ends.
    r"|\b(?:[Ll]ove|[Gg]reetings|[Rr]egards|[Yy]ours|[Cc]heers|[Gg]rüße)(?:,| from| von)+ "
)
_NAMES_ONE = re.compile(rf"\b(?:[Mm]y|[Oo]ur) (?:\w+ )?{_PEOPLE}(?: is|,)? ")
_TITLE = re.compile(
    r"\b(?:my|our)(?: \w+)? (?:teacher|headteacher|principal|coach|doctor|neighbou?r)(?:'s name)?(?: is|,)?"
    r" (?:called )?(?:mrs?|ms|miss|mister|frau|herr|madame|dr)\.? ",
    re.I,
)
_TELLS_SURNAME = re.compile(
    r"\b(?:my|our|his|her) (?:\w+(?:'s)? )?(?:sur|last|family|second) ?name(?:'?s| is|:)[ ]+"
    r"|\b(?=[^\W\d_]+ is my (?:sur|last|family) ?name\b)|\bmein nachname ist |\bmit nachnamen ",
    re.I,
)

# What comes after a first name and is no surname, in any capitals.
_NOT_SURNAMES = frozenset(
    """a about after again age aged also am an and animal animals are as ask at aus be because but by bye can could cool
    dear did do does else et excuse for forever from glad good great had has have he hello her here hey hi his how i i'm
    id if ill im in is isn't it its it's ive just know leo like likes live lion long love loves mag may me mein mit more
    much my name never nice no not now ok okay old on one only or our please pleased pls roar same she should since so
    sorry still sure tell than thank thanks that the their then there they this tiger to today together too u und und
    une very visiting want was we welcome well went were what what's whats wat wer when where where's which who who's
    whos why wie will with wo would wow wot y years yes yet you your""".split()
)
_CAN_BE = frozenset(
    """afraid alone american angry asking bored british called coming confused cool curious cute doing dying english
    excited fine french from german going gonna good great happy hungry ill in interested italian just kidding learning
    looking lost mad new nice not on only out polish queen king really sad scared shy sick silly so sorry spanish sure
    talking the thinking thirsty tired trying upset very visiting wearing with wondering worried writing year years
    """.split()
)
_MOST_WORDS = 4


def find_surnames(text: str) -> Iterator[tuple[int, int]]:
    """Where a surname stands, from its first letter to its last; middle names are part of it."""
    for told in _TELLS_NAME.finditer(text):
        yield from _find_after_first_name(text, told.end(), is_surely_a_name=True)
    for said in (*_SAYS_WHO.finditer(text), *_NAMES_ONE.finditer(text)):
        yield from _find_after_first_name(text, said.end(), is_surely_a_name=False)
    for found in (*_TITLE.finditer(text), *_TELLS_SURNAME.finditer(text)):
        yield from _find_name_words(text, found.end(), needs_capitals=False)


def _find_after_first_name(text: str, at: int, *, is_surely_a_name: bool) -> Iterator[tuple[int, int]]:
    first = _WORD.match(text, at)
    if first is None or first[0].casefold() in _CAN_BE | _NOT_SURNAMES or first[0].endswith("."):
        return
    has_capital = first[0][0].isupper()
    if not is_surely_a_name and (not has_capital or first[0].isupper()):
        return
    if text[first.end() : first.end() + 1] == " ":
        yield from _find_name_words(text, first.end() + 1, needs_capitals=has_capital and not first[0].isupper())


def _find_name_words(text: str, at: int, *, needs_capitals: bool) -> Iterator[tuple[int, int]]:
    """The words from `at` that can be a surname. Without capitals to go by: one word, and small ones before it."""
    start, end = at, at
    for _ in range(_MOST_WORDS):
        word = _WORD.match(text, at)
        if word is None or word[0].casefold() in _NOT_SURNAMES:
            break
        is_particle = _PARTICLE.fullmatch(word[0]) is not None
        if needs_capitals and not is_particle and not word[0][0].isupper():
            break
        end = end if is_particle else word.end()
        at = word.end() + 1
        is_last = not needs_capitals and not is_particle and not word[0].endswith(".")
        if is_last or text[word.end() : at] != " ":
            break
    if end > start:
        yield start, end
