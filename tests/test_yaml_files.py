"""YAML files are loaded strictly, and what was dumped is loaded again without loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from connexion.utils import yamldumper
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml.representer import SafeRepresenter

from openapi_server.yaml_files import UnreadableFileError, dump_yaml, find_item_lines, load_yaml
from tests.support.examples import DELICATE_TEXTS

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]


def test_serving_the_spec_as_yaml_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connexion then replaces a function of the YAML library, for the whole process."""
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
    """A text stays a text, even if it looks like a number, a date, a comment or a line end."""
    assert yaml.load(dump_yaml(document), loader) == document  # noqa: S506  # both are the safe ones


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("text", DELICATE_TEXTS.values(), ids=list(DELICATE_TEXTS))
def test_delicate_texts_come_back_whole(loader: type[Any], text: str) -> None:
    """As values, keys and in lists, long and short."""
    document = {"say": text, "asks": [text, "x"], "favourites": {text[:500]: text}, "long": f"{text} and so on " * 9}

    assert yaml.load(dump_yaml(document), loader) == document  # noqa: S506  # both are the safe ones


def test_long_sentences_are_folded_and_short_lists_stand_on_one_line() -> None:
    """As in the packaged files, so that keepers can edit files and compare versions."""
    long = "Lions creep up, low and quiet, and charge. Most of the time the prey gets away, and so they take a nap."

    assert dump_yaml({"say": long, "asks": ["hunt", "catch"], "jokes": ["Chews-day!"]}) == (
        "say: >-\n"
        "  Lions creep up, low and quiet, and charge. Most of the time the prey gets away, and so they take a nap.\n"
        "asks: [hunt, catch]\n"
        "jokes:\n"
        "  - Chews-day!\n"
    )


@pytest.mark.parametrize(
    "content",
    [
        b"a: 1\na: 2\n",
        b"a:\n  b: {c: 1, c: 2}\n",
        b"a: [",
        b"\xff\xfe",
        b"a: \x00",
        b"? [a]\n: b\n",
        b"a: " + b"[" * 9_000,
    ],
    ids=["twice", "twice inside", "broken", "no UTF-8", "NUL", "a list as key", "deep"],
)
def test_a_file_that_cannot_be_read_is_one_kind_of_error(tmp_path: Path, content: bytes) -> None:
    """Also a key that comes twice: YAML itself would drop the first value without a word."""
    file = tmp_path / "some.yaml"
    file.write_bytes(content)

    with pytest.raises(UnreadableFileError, match=r"^cannot be read: "):
        load_yaml(file)
    with pytest.raises(UnreadableFileError):
        load_yaml(tmp_path / "missing.yaml")


def test_the_lines_of_list_items_are_known(tmp_path: Path) -> None:
    """From 1, where each item begins, whatever stands between."""
    file = tmp_path / "rules.yaml"
    file.write_text(
        "# rules\nother: [1]\nrules:\n  - name: a\n    words: x\n\n  # b\n  - {name: b}\n", encoding="utf-8"
    )

    assert find_item_lines(file, "rules") == [4, 8]
