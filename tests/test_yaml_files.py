"""Between documents and files nothing is lost, and a mistake in a file is found where it is."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from connexion.utils import yamldumper
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml.representer import SafeRepresenter

from openapi_server.yaml_files import dump_yaml
from tests.support.examples import DELICATE_TEXTS

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]


def test_serving_the_spec_as_yaml_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connexion puts a function of its own into the YAML library then, for the whole process."""
    monkeypatch.setattr(SafeRepresenter, "represent_scalar", SafeRepresenter.represent_scalar)
    document = {"say": "one\x85two", "why": "It is warm there. " * 9}
    before = dump_yaml(document)

    yamldumper({"openapi": "3.0.3"})

    assert dump_yaml(document) == before


words = st.sampled_from(
    ["lion", "it's", "a:", "#1", "- x", "no", "1e3", "2016-06-14", "{name}", "null", "~", "🦁", "é"]
)
sentences = st.lists(words, min_size=1, max_size=40).map(" ".join)
lines = sentences | st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200)
values = st.recursive(
    lines | st.integers(-1000, 1000) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, min_size=1, max_size=4) | st.dictionaries(lines, inner, min_size=1, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("loader", LOADERS)
@given(st.dictionaries(lines, values, min_size=1, max_size=5))
@settings(deadline=None)
def test_any_document_comes_back_whole(loader: type[Any], document: dict[str, Any]) -> None:
    """Whatever looks like a number, a date, a comment or a line end is a text if it was one; to the code point."""
    assert yaml.load(dump_yaml(document), loader) == document  # noqa: S506  # both are the safe ones


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
def test_delicate_texts_come_back_whole(loader: type[Any], text: str) -> None:
    """As values, keys and in lists, long and short."""
    document = {"say": text, "asks": [text, "x"], "favourites": {text[:500]: text}, "long": f"{text} and so on " * 9}

    assert yaml.load(dump_yaml(document), loader) == document  # noqa: S506  # both are the safe ones


def test_long_sentences_are_folded_and_short_words_stand_in_a_row() -> None:
    """What keepers edit, and compare from version to version, looks as they wrote it."""
    long = "Lions creep up, low and quiet, and charge. Most of the time the prey gets away, and so they take a nap."

    assert dump_yaml({"say": long, "asks": ["hunt", "catch"], "jokes": ["Chews-day!"]}) == (
        "say: >-\n"
        "  Lions creep up, low and quiet, and charge. Most of the time the prey gets away, and so they take a nap.\n"
        "asks: [hunt, catch]\n"
        "jokes:\n"
        "  - Chews-day!\n"
    )
