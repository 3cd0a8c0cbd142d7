"""Steps that are left out for most texts would have changed nothing: compared with all of them, one after the other."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openapi_server.linear_regex import PreparedText
from openapi_server.models.turn import AgeGroup
from openapi_server.moderation import normalize, pii
from openapi_server.moderation.input_rules import GUIDANCE_FILE, INPUT_RULES_FILE, InputRules
from openapi_server.moderation.normalize import WordSegmenter, list_variants
from openapi_server.moderation.rule_files import read_rules
from tests.moderation.datasets import ATTACKS, FRESH, HARMLESS, asked_elsewhere
from tests.moderation.test_normalize import DISGUISES
from tests.support.fakes import make_lion

LION = make_lion()
PACKAGED, GUIDANCE = read_rules(INPUT_RULES_FILE), read_rules(GUIDANCE_FILE)
RULES = InputRules(PACKAGED, GUIDANCE)
TEXTS = [
    *(text for texts in (HARMLESS, ATTACKS, FRESH) for listed in texts.values() for text in listed),
    *asked_elsewhere(),
    *DISGUISES.values(),
]
# Parts of texts that the rules are for, also cut in the middle of a word, and signs that disguise them.
WORDS = sorted({word for text in TEXTS for word in text.split()})
PARTS = st.one_of(
    st.sampled_from(WORDS),
    st.builds(lambda word, at: word[at:], st.sampled_from(WORDS), st.integers(0, 3)),
    st.sampled_from(PACKAGED.strong_words).map(lambda word: word[::-1]),
    st.sampled_from(PACKAGED.strong_words).map(lambda word: normalize.reverse_and_rot13(word)[1]),
    st.sampled_from(
        [".", "!", "? ", ". ", ".. ", "\n", "-", "'", "1", "0", "$", "a", "aaa", "i g n o r e", "é", "🦁", "%41"]
    ),
    st.text(max_size=4),
)
MESSAGES = st.one_of(st.sampled_from(TEXTS), st.lists(PARTS, max_size=8).map("".join), st.lists(PARTS).map(" ".join))


# What stands before personal data, in it, and behind it, put together in any order.
PERSONAL = st.lists(
    st.sampled_from(
        """my our name is called John Doe Mia Müller-Lüdenscheidt i am I'm ich heiße mrs smith teacher surname friend
        mia.b@web.de at gmail dot com [at] https://zoo.example www. password pin discord @leo_99 call me phone number
        +49 0151 2345678 030/1234567 (555) 123-4567 one two three four five six seven 4111 1111 1111 1111 1750000000
        12 Oak Street 10115 Berlin NW1 6XE P.O. box 7 Hauptstraße 5 rue de i live at address postcode is zip code is
        my school go to Oakwood Primary School Lincoln Elementary Grundschule . , ! ? \u2019 é ٣ 🦁 12 kg""".split()
    ),
    max_size=9,
).map(" ".join)


class CarefulSegmenter(WordSegmenter):
    """Takes every text for a disguised one."""

    def is_disguised(self, text: str) -> bool:
        return True


SEGMENTERS = [
    (kind(PACKAGED.strong_words, PACKAGED.small_words), kind([], [])) for kind in (WordSegmenter, CarefulSegmenter)
]


def list_matching_rules(variants: Sequence[str], age_group: AgeGroup) -> list[str]:
    rules = RULES._rules.rules
    return [rule.name for rule in rules if rule.audience.includes(LION, age_group) and rule.matches(variants)]


@given(message=MESSAGES)
def test_a_text_without_a_disguise_has_no_further_variants(message: str) -> None:
    """Also beside another sentence, and in a message of several lines."""
    for fast, careful in zip(*SEGMENTERS, strict=True):
        assert list_variants(message, fast) == list_variants(message, careful)


@given(message=MESSAGES)
def test_text_that_is_not_encoded_is_not_decoded(message: str) -> None:
    """One look for all encodings, and the three that it takes the place of."""
    found = any(pattern.search(message) for pattern, _ in normalize._CODES)

    assert normalize._CODE.search(message) == found


@given(message=MESSAGES, age_group=st.sampled_from(AgeGroup))
def test_rules_that_are_not_looked_at_do_not_match(message: str, age_group: AgeGroup) -> None:
    """All rules against the text, and those only that the prefilter leaves."""
    variants = list_variants(message, RULES._segmenter)
    found = [rule.name for rule in RULES._rules.iterate_matches(variants, LION, age_group)]

    assert found == list_matching_rules([PreparedText(text) for text in variants], age_group)


@given(message=st.one_of(MESSAGES, PERSONAL))
def test_personal_data_that_is_not_searched_for_is_not_there(message: str) -> None:
    """Each kind, found by itself."""
    plain, _ = pii._normalize_with_offsets(message)
    found = {kind for kind, find, _ in pii._FINDERS if any(start < end for start, end in find(plain))}
    possible = {pii._SEARCHED[number] for number in pii._PREFILTER.list_candidates(plain)}

    assert found <= {kind for kind, _, names in pii._FINDERS if not possible.isdisjoint(names)}


def test_no_known_text_loses_a_rule() -> None:
    """Of all texts that the rules were written for, at the age that most rules are for."""
    for text in TEXTS:
        variants = list_variants(text, RULES._segmenter)
        found = [rule.name for rule in RULES._rules.iterate_matches(variants, LION, AgeGroup.ELEMENTARY)]
        assert found == list_matching_rules(variants, AgeGroup.ELEMENTARY), text


def test_most_rules_are_not_looked_at() -> None:
    """Else all of this would be for nothing."""
    with_pattern = [rule for rule in RULES._rules.rules if rule.pattern is not None]
    always = len(RULES._rules.rules) - len(with_pattern)
    looked_at = [len(RULES._rules._prefilter.list_candidates(text)) - always for text in asked_elsewhere()]

    assert len(with_pattern) > 30
    assert sum(looked_at) / len(looked_at) < 5


@pytest.mark.parametrize("text", ["", " ", "\n", "\ud800", "\x80" * 50, "0" * 50, "a" * 540, "a" * 2_100])
def test_texts_at_the_limits(text: str) -> None:
    """Nothing, what other characters are read as, and more than is looked at by pieces."""
    variants = list_variants(text, RULES._segmenter)
    found = [rule.name for rule in RULES._rules.iterate_matches(variants, LION, AgeGroup.ADULT)]

    assert found == list_matching_rules(variants, AgeGroup.ADULT)
