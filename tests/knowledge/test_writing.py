"""Between documents and files nothing is lost, and a mistake in a file is found where it is."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from connexion.utils import yamldumper
from hypothesis import given, settings
from hypothesis import strategies as st
from yaml.representer import SafeRepresenter

from openapi_server.knowledge.documents.export import dump_yaml
from openapi_server.knowledge.documents.linting import LintIssue, lint_file
from openapi_server.knowledge.documents.schema import (
    PACKAGED_ANIMALS,
    list_animal_files,
    load_document,
    read_animal,
    read_document,
)
from tests.knowledge.test_loading import FACT, MOLE, spoilt, written
from tests.support.examples import DELICATE_TEXTS

LOADERS = [yaml.SafeLoader, getattr(yaml, "CSafeLoader", yaml.SafeLoader)]


@pytest.mark.parametrize("file", list_animal_files(PACKAGED_ANIMALS), ids=lambda file: file.stem)
def test_a_packaged_animal_comes_back_whole(file: Path, tmp_path: Path) -> None:
    """The document that is written is the one that was read, member by member in their order, and the same animal."""
    document = read_document(file)
    copy = tmp_path / file.name
    copy.write_text(dump_yaml(document), encoding="utf-8")

    again = read_document(copy)

    assert yaml.safe_dump(again, sort_keys=False) == yaml.safe_dump(document, sort_keys=False)
    assert read_animal(copy) == read_animal(file)
    assert dump_yaml(again) == dump_yaml(document)


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


def test_a_right_file_has_no_complaints(tmp_path: Path) -> None:
    """Nothing is said of nothing."""
    assert lint_file(written(tmp_path, MOLE)) == []


def test_every_wrong_fact_is_told_by_its_name(tmp_path: Path) -> None:
    """Also when several are; one without an id by its number."""
    animal = deepcopy(MOLE)
    nameless = {name: value for name, value in FACT.items() if name != "id"}
    animal["facts"] = [
        {**FACT, "topic": "gossip"},
        {**FACT, "id": "right"},
        nameless,
        "no fact at all",
        {**FACT, "id": "without_little", "little": " "},
        {**FACT, "id": "right"},
    ]
    file = written(tmp_path, animal)

    found = [(each.fact, each.field) for each in lint_file(file)]

    assert found == [
        ("top_speed", "topic"),
        ("number 3", "id"),
        ("number 4", ""),
        ("without_little", "little"),
        ("right", "id"),
    ]
    assert str(lint_file(file)[0]).startswith(f"{file}: fact top_speed: topic: 'gossip' is not one of:")


def test_a_file_with_only_wrong_facts_is_told_of_them_alone(tmp_path: Path) -> None:
    """That no fact is left then is not the keeper's doing."""
    file = written(tmp_path, spoilt("facts.0.topic", "gossip"))

    assert [each.fact for each in lint_file(file)] == ["top_speed"]


@pytest.mark.parametrize(
    ("animal", "field"),
    [(spoilt("voice.jokes", []), "voice.jokes"), (spoilt("facts", {}), "facts"), ("a text", "(the whole file)")],
)
def test_what_is_no_fact_is_told_by_its_field(tmp_path: Path, animal: object, field: str) -> None:
    """With the file."""
    [complaint] = lint_file(written(tmp_path, animal))

    assert (complaint.field, complaint.fact) == (field, None)


def test_a_file_that_cannot_be_read_is_a_complaint(tmp_path: Path) -> None:
    """Not an end of all."""
    file = tmp_path / "mole_001.yaml"
    file.write_text("a: [", encoding="utf-8")

    [complaint] = lint_file(file)

    assert isinstance(complaint, LintIssue)
    assert "cannot be read" in complaint.message
    assert load_document(written(tmp_path, MOLE)) == MOLE
