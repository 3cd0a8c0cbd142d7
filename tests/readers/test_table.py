"""The table of `docs/streams.md` says what the readers of the suite see."""

from __future__ import annotations

import re

import pytest

from tests.conftest import OpensZoo
from tests.readers.recordings import ENDPOINTS, record_answered
from tests.readers.table import READERS
from tests.support.processes import ROOT

PAGE = (ROOT / "docs/streams.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Which readers read which stream\n")[2].partition("\n## ")[0]
HEAD, _, *ROWS = [
    [cell.strip() for cell in row.strip("|").split("|")] for row in re.findall(r"^\|.*\|$", SECTION, re.MULTILINE)
]
# The rows' first words, the names of their readers. One that is there in two languages has one row.
ANSWERS = {name: cells for names, *cells in ROWS for name in names.partition(":")[0].split(", ")}


def test_the_table_has_every_reader() -> None:
    """And no other."""
    assert sorted(ANSWERS) == sorted({name.removesuffix(" (JavaScript)") for name in READERS})


@pytest.mark.parametrize("name", [name for name in ENDPOINTS if name != "chat"])
async def test_the_table_says_who_reads_a_contract(open_zoo: OpensZoo, name: str) -> None:
    """`yes` for those that show every event of an answered turn, `only` for one event, `no` for none.

    `/chat` is bare, as it is without being asked.
    """
    endpoint = ENDPOINTS[name]
    column = HEAD.index(f"`{endpoint.path}`") - 1

    told = (await record_answered(open_zoo, endpoint)).told

    for reader in READERS.values():
        seen = [each.event for each in told if reader.sees(each.block)]
        expected = "yes" if len(seen) == len(told) else f"only `{seen[0]}`" if seen else "no"
        assert len(seen) in (0, 1, len(told)), reader.name
        assert ANSWERS[reader.name.removesuffix(" (JavaScript)")][column].startswith(expected), reader.name
