"""`docs/compatibility.md` is tested like code: what it names exists, and what is tested here is named there."""

from __future__ import annotations

import re

import pytest

from tests.support.processes import ROOT

PAGE = (ROOT / "docs/compatibility.md").read_text(encoding="utf-8")
HEAD, *SECTIONS = re.split(r"^## ", PAGE, flags=re.MULTILINE)
_TEST = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)


def get_title(section: str) -> str:
    return section.partition("\n")[0]


def make_anchor(title: str) -> str:
    """As the places where such pages are read make them."""
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def list_files(section: str) -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py)`", section)


def find_named(section: str) -> set[str]:
    """The tests in the last column."""
    rows = re.findall(r"^\|.*\|([^|]*)\|$", section, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(test_\w+)`", row)}


def test_the_contents_are_the_sections() -> None:
    """One line, and a link that leads there, for each of the five documents."""
    assert re.findall(r"^- \[(.+)\]\(#(.+)\)", HEAD, re.MULTILINE) == [
        (get_title(section), make_anchor(get_title(section))) for section in SECTIONS
    ]


@pytest.mark.parametrize("section", SECTIONS, ids=map(get_title, SECTIONS))
def test_every_row_has_a_test_or_the_reason_why_none_can_run_it(section: str) -> None:
    """`not run: ...` names the reason; an empty cell would be a claim that nobody has tried."""
    rows = re.findall(r"^\|.*\|([^|]*)\|$", section, re.MULTILINE)[2:]

    assert rows
    bad = [cell for cell in rows if not re.fullmatch(r" `test_\w+`(, `test_\w+`)* | not run: [a-z].+ ", cell)]
    assert bad == []


@pytest.mark.parametrize("section", SECTIONS, ids=map(get_title, SECTIONS))
def test_what_a_row_names_is_a_test(section: str) -> None:
    """In one of the files that the section names."""
    defined = {
        name for path in list_files(section) for name in _TEST.findall((ROOT / path).read_text(encoding="utf-8"))
    }

    assert find_named(section) - defined == set()


@pytest.mark.parametrize("section", SECTIONS, ids=map(get_title, SECTIONS))
def test_every_test_of_a_document_has_its_row(section: str) -> None:
    """Whoever adds one says for what."""
    own = [path for path in list_files(section) if path.startswith("tests/source_documents/test_")]
    tests = {name for path in own for name in _TEST.findall((ROOT / path).read_text(encoding="utf-8"))}

    assert own
    assert tests - find_named(section) == set()
