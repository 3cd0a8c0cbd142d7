"""Spelling correction: one wrong letter, and no more."""

from __future__ import annotations

import pytest

from openapi_server.knowledge.retrieval import spelling
from openapi_server.knowledge.retrieval.spelling import Speller


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("slep", "sleep"), ("enimy", "enemy"), ("tigre", "tiger"), ("teeeth", "teeth"), ("allrigato", "alligator")],
)
def test_one_mistake_is_corrected(typed: str, meant: str) -> None:
    """A missing, wrong, doubled, swapped or moved letter still finds the word."""
    assert Speller(["sleep", "enemy", "tiger", "teeth", "alligator"]).suggest(typed) == (meant,)


@pytest.mark.parametrize("typed", ["gate", "cat", "france", "teeth"])
def test_other_words_are_not_corrected(typed: str) -> None:
    """Short words, and words with another first letter, are left alone."""
    assert Speller(["game", "bat", "trance", "teeth"]).suggest(typed) == ()


def test_only_unknown_words_without_facts_are_corrected() -> None:
    """A word that the lexicon knows, or that a fact has, is right as it is."""
    speller = Speller(["giraffes", "sleep"])
    found = {
        (is_known, is_found): speller.correct(["girafes"], is_known=is_known, is_found=is_found)
        for is_known in (False, True)
        for is_found in (False, True)
    }

    assert found == {(False, False): ("giraffes",), (False, True): (), (True, False): (), (True, True): ()}


@pytest.mark.parametrize("typed", ["slep", "enimy", "tigre", "teeeth", "gate", "france"])
def test_a_shared_vocabulary_counts_like_the_own(typed: str) -> None:
    """Two spellers suggest together what one over both vocabularies does."""
    shared, own = ["sleep", "enemy", "game"], ["tiger", "teeth", "trance", "sheep"]
    assert Speller(own, Speller(shared)).suggest(typed) == Speller([*own, *shared]).suggest(typed)


def test_words_of_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spelling, "_HASH_BITS", 1)

    assert Speller(["sleep", "sheep", "tiger", "shark", "snake"]).suggest("slep") == ("sleep",)
