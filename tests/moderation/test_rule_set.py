"""Keepers' rules over the package's: read strictly, bounded in time, and never in another rule's way."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from openapi_server.models.prompt import Prompt
from openapi_server.models.rule import MAX_RULES
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import VersionedDocument
from openapi_server.moderation.output_buffer import BufferLimits, OutputBuffer
from openapi_server.moderation.rule_files import RuleFileError
from openapi_server.moderation.rule_set import (
    MAX_REPLY_MATCH_CHARS,
    RuleSet,
    load_packaged_rules,
    merge_rules,
    parse_keepers_rule,
    parse_rules,
)
from openapi_server.protocols import Verdict
from tests.moderation.datasets import ATTACKS, HARMLESS
from tests.moderation.test_output_buffer import LONG, SMALL, cut, sent, splits
from tests.support.examples import NOON
from tests.support.fakes import make_lion
from tests.support.report import Report

PACKAGED = load_packaged_rules()
PARTY: dict[str, Any] = {
    "name": "party",
    "strength": "NEVER",
    "category": "events",
    "then": "words",
    "words": {"preschool": "No."},
}
WITHHELD: dict[str, Any] = {"name": "party", "strength": "NEVER", "category": "events", "then": "withhold"}


def rules_with(*documents: dict[str, Any]) -> RuleSet:
    return merge_rules(PACKAGED, [VersionedDocument(each["name"], 1, each, "keeper1", NOON) for each in documents])


def found(text: str, **members: Any) -> bool:
    """Whether a keepers' rule for messages finds something."""
    prompt = Prompt(make_lion(), AgeGroup.ELEMENTARY, "")
    return "party" in rules_with({**PARTY, **members}).find_matching_rules(text, prompt, is_reply=False)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"keywords": ["Birthday Party"]}, "My birthday  PARTY!"),
        ({"keywords": ["don’t feed"]}, "Don't feed him"),
        ({"keywords": ["c++"]}, "I write c++ at home"),
        ({"keywords": ["c++"]}, "c++"),
        ({"keywords": ["löwe"]}, "Der LÖWE"),
        ({"keywords": ["löwe"]}, "löwe, tiger"),
        ({"keywords": ["dragon"]}, "a dr\u200bag0n"),
        ({"keywords": ["dragon"]}, "a drаgоn"),
        ({"keywords": ["dragon"]}, "draaaagon"),
        ({"patterns": ["dragons?( den)?"]}, "two\ndragons"),
        ({"patterns": ["^dragons?"]}, "Hello\ndragon"),
        ({"patterns": [r"\pL+ dragon"]}, "größter dragon"),
        ({"patterns": ["my (?:<grown_up>)s?"]}, "my grandma"),
        ({"anywhere": ["ドラゴン"]}, "大きなドラゴンです"),
        ({"anywhere": ["死"]}, "死"),
    ],
)
def test_what_a_rule_finds(members: dict[str, Any], text: str) -> None:
    """On the borders of words in all scripts, in whatever disguise."""
    assert found(text, **members)


@pytest.mark.parametrize(
    ("members", "text"),
    [
        ({"keywords": ["party"]}, "partying"),
        ({"keywords": ["party"]}, "a_party"),
        ({"keywords": ["löwe"]}, "Der Löwenzahn"),
        ({"keywords": ["löw"]}, "Der Löwe"),
        ({"keywords": ["a.b"]}, "a b"),
        ({"patterns": ["part"]}, "party"),
        ({"keywords": ["party"], "enabled": False}, "party"),
        ({"keywords": ["party"], "from_age": "adult"}, "party"),
        ({"keywords": ["party"], "animals": ["tiger_001"]}, "party"),
    ],
)
def test_what_a_rule_does_not_find(members: dict[str, Any], text: str) -> None:
    """Parts of words; what it is not for; and nothing when it is switched off."""
    assert not found(text, **members)


# RE2 comes with a Unicode of its own: what Python's does not know yet may be a letter there.
known = st.text(st.characters(exclude_categories=["Cn", "Cs"]), max_size=12)


@given(known, st.sampled_from(["roar", "löwe", "ein wort", "c++"]), known)
def test_borders_are_those_of_the_package(before: str, word: str, after: str) -> None:
    """RE2 has no look-around; what it takes for a border is what the packaged rules take for one."""
    pattern = parse_keepers_rule({**PARTY, "keywords": [word]}, PACKAGED).pattern
    assert pattern is not None
    text = (before + word + after).casefold()

    assert bool(pattern.search(text)) == bool(re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text))


def test_half_a_surrogate_pair_is_no_crash() -> None:
    """A model may send one; the pipeline refuses it a moment later."""
    assert found("\ud800 party", keywords=["party"])


WRONG = [
    ({"name": "No Name"}, "name"),
    ({"name": 7}, "name"),
    ({"category": "a\nb"}, "category"),
    ({"enabled": None}, "enabled"),
    ({"animals": ["lion_001"] * 101}, "animals"),
    ({"priority": 10**9}, "priority"),
    ({"keywords": ["a\0b"]}, "keywords.0"),
    ({"words": {"preschool": "\ud800"}}, "words.preschool"),
    ({"then": ["words"]}, "then"),
    ({"name": "membership"}, "then"),
    ({"moods": ["x"]}, "moods"),
]


@pytest.mark.parametrize(("members", "field"), WRONG, ids=lambda part: str(part)[:40])
def test_what_only_a_file_can_get_wrong_is_named_too(members: dict[str, Any], field: str) -> None:
    """The API's own schema lets none of these come so far; YAML does."""
    with pytest.raises(RuleFileError) as error:
        parse_keepers_rule({**PARTY, "keywords": ["party"], **members}, PACKAGED)

    assert error.value.field == field


def test_only_changed_rules_are_parsed_again() -> None:
    """Compiling patterns is what takes long: a change of one rule of two hundred must not compile all of them."""
    documents = [{**PARTY, "name": f"rule-{number}", "keywords": [f"word {number}"]} for number in range(3)]
    before = parse_rules(PACKAGED, [VersionedDocument(each["name"], 1, each, "", NOON) for each in documents])
    documents[1] = {**documents[1], "keywords": ["another word"]}

    after = parse_rules(PACKAGED, [VersionedDocument(each["name"], 2, each, "", NOON) for each in documents], before)

    same = [after[f"rule-{number}"][1] is before[f"rule-{number}"][1] for number in range(3)]
    assert same == [True, False, True]


def test_no_two_packaged_rules_have_one_name() -> None:
    """In all three files together: a name stands in addresses."""
    books = (PACKAGED.messages, PACKAGED.guidance, PACKAGED.replies)

    assert len(PACKAGED.rules) == sum(len(book.rules) for book in books)


TEXTS = [text for texts in (HARMLESS, ATTACKS) for listed in texts.values() for text in listed[:6]]
own_rules = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["party", "other", "third"]),
        "strength": st.sampled_from(["ALWAYS", "NEVER"]),
        "category": st.just("events"),
        "then": st.sampled_from(["words", "flag", "withhold"]),
        "priority": st.integers(-1000, 1000),
        "patterns": st.lists(
            st.sampled_from([r"\pL+ \pL+", "you", "(kill|ignore) .{0,9}", "my"]), min_size=1, max_size=2
        ),
    }
)


async def verdicts(rules: RuleSet, text: str) -> tuple[object, object, object]:
    """The packaged rules that match as a message and as a reply, and the guidance for the model."""
    prompt = Prompt(make_lion(), AgeGroup.ELEMENTARY, "")
    names = [name for name in rules.find_matching_rules(text, prompt, is_reply=False) if name in PACKAGED.rules]
    replies = [name for name in rules.find_matching_rules(text, prompt, is_reply=True) if name in PACKAGED.rules]
    guidance = await rules.input_rules.list_guidance(make_lion(), AgeGroup.ELEMENTARY, text)
    return names, guidance, replies


async def outcome(rules: RuleSet, text: str) -> Verdict:
    return await rules.input_rules.check_message(text, make_lion(), AgeGroup.ELEMENTARY)


@given(st.lists(own_rules, min_size=1, max_size=3, unique_by=lambda rule: rule["name"]), st.sampled_from(TEXTS))
@settings(max_examples=60, deadline=None)
async def test_keepers_own_rules_never_change_what_others_do(documents: list[dict[str, Any]], text: str) -> None:
    """Packaged rules keep their words, their guidance and what they withhold."""
    words = {"words": {"preschool": "No."}}
    given_rules = [each | words if each["then"] == "words" else each for each in documents]
    plain, with_ours = rules_with(), rules_with(*given_rules)

    assert await verdicts(with_ours, text) == await verdicts(plain, text)
    before, after = await outcome(plain, text), await outcome(with_ours, text)
    if before.safe_words is not None:
        assert after == before
    if after.safe_words is None:
        assert after.guidance == await with_ours.input_rules.list_guidance(make_lion(), AgeGroup.ELEMENTARY, text)


def test_as_many_rules_as_there_may_be_are_quick(report: Report) -> None:
    """The time that they add to each message on the event loop."""
    words = [f"{letter}{number}word" for number in range(10) for letter in "abcde"]
    documents = [
        {**PARTY, "name": f"rule-{number}", "keywords": words, "patterns": [rf"(my|your) \pL{{2,9}}{number}"]}
        for number in range(MAX_RULES)
    ]
    plain, rules = rules_with(), rules_with(*documents)
    question = "How long do you sleep in the afternoon, and who watches over your cubs then?"
    extra_ms = _check_ms(rules, question) - _check_ms(plain, question)
    report(f"{MAX_RULES} rules of keepers with {len(words)} keywords each: {extra_ms:.2f} ms a message")

    assert extra_ms < 50


def _check_ms(rules: RuleSet, text: str) -> float:
    """The processor time of the fastest of several runs, so that other load on the machine does not count."""
    prompt = Prompt(make_lion(), AgeGroup.ELEMENTARY, "")
    taken_ms = []
    for _ in range(5):
        started_s = time.process_time()
        rules.find_matching_rules(text, prompt, is_reply=False)
        taken_ms.append((time.process_time() - started_s) * 1_000)
    return min(taken_ms)


FOR_REPLIES = rules_with(
    {
        **WITHHELD,
        "keywords": ["secret dragon"],
        "patterns": ["tickets? (are|were) (very )?(cheap|free)"],
    },
    {**WITHHELD, "name": "wide", "patterns": [r"the (\w{1,10} ){4}cellar"], "anywhere": ["竜の巣"]},
)
UNSAFE = [
    "secret dragon",
    "SECRET  DRАGON",
    "s3cret drag0n",
    "tickets were very cheap",
    "the wonderfull wonderfull wonderfull wonderfull cellar",
    "竜の巣",
]


def check(text: str) -> str | None:
    return FOR_REPLIES.output_rules.build_check(Prompt(make_lion(), AgeGroup.ELEMENTARY, ""))(text)


@given(
    parts=st.lists(st.sampled_from([LONG, "I sleep. ", "Roar! ", "So?\n"]), max_size=4),
    unsafe=st.sampled_from(UNSAFE),
    places=splits,
    step_ms=st.sampled_from([0, 30, 200]),
)
@settings(deadline=None, max_examples=200)
def test_no_unsafe_character_leaves(parts: Sequence[str], unsafe: str, places: list[int], step_ms: float) -> None:
    """What keepers withhold is held back like what the package withholds: any splitting, any pace, any place."""
    before = "".join(parts)
    bounds = BufferLimits(max_chars=100, max_wait_ms=100)
    out, category = sent(OutputBuffer(check, bounds), cut(f"{before}{unsafe}. Bye.", places), step_ms=step_ms)

    assert category == "events"
    assert before.startswith(out)


@given(places=splits, end=st.sampled_from([". ", "! ", "?\n", "。"]))
@settings(deadline=None)
def test_a_rule_for_replies_ends_with_the_sentence(places: list[int], end: str) -> None:
    """The first sentence leaves before the second has come; so what stands in two of them is no match, ever."""
    rules = rules_with({**WITHHELD, "patterns": [r"secret\PL{1,5}dragon"]})
    text = f"It is secret{end}Dragon, come! "
    gate = OutputBuffer(rules.output_rules.build_check(Prompt(make_lion(), AgeGroup.ADULT, "")), SMALL)

    assert sent(gate, cut(text, places)) == (text, None)


def test_a_match_fits_into_the_margin() -> None:
    """With the borders of words around it."""
    assert max(map(len, UNSAFE)) <= MAX_REPLY_MATCH_CHARS == BufferLimits().margin_chars - 4
