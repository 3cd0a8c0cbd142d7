"""`docs/compatibility.md` is tested like code: what it names exists, and what is tested here is named there."""

from __future__ import annotations

import re

import pytest

from tests.live.processes import ROOT

PAGE = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
HEAD, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def title_of(section: str) -> str:
    return section.partition("\n")[0]


def anchor_of(title: str) -> str:
    """As the places where such pages are read make them."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def files_of(section: str) -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py)`", section)


def named_in(section: str) -> set[str]:
    """The tests in the last column."""
    rows = re.findall(r"^\|.*\|([^|]*)\|$", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}


def test_the_contents_are_the_sections() -> None:
    """One line, and a link that leads there, for each of the five documents."""
    assert re.findall(r"^- \[(.+)\]\(#(.+)\)", HEAD, re.MULTILINE) == [
        (title_of(section), anchor_of(title_of(section))) for section in SECTIONS
    ]


@pytest.mark.parametrize("section", SECTIONS, ids=map(title_of, SECTIONS))
def test_what_a_row_names_is_a_test(section: str) -> None:
    """In one of the files that the section names."""
    defined = {name for path in files_of(section) for name in _TEST.findall((ROOT / path).read_text(encoding="utf-8"))}

    assert named_in(section) - defined == set()


@pytest.mark.parametrize("section", SECTIONS, ids=map(title_of, SECTIONS))
def test_every_test_of_a_document_has_its_row(section: str) -> None:
    """Whoever adds one says for what."""
    own = [path for path in files_of(section) if path.startswith("tests/seeds/test_")]
    tests = {name for path in own for name in _TEST.findall((ROOT / path).read_text(encoding="utf-8"))}

    assert own
    assert tests - named_in(section) == set()
