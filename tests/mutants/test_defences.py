"""Every deliberate break of the defences still applies to the code; `python -m tests.mutants.defences` runs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.mutants.defences import BREAKS, REPOSITORY, Break


@pytest.mark.parametrize("item", BREAKS, ids=lambda item: item.name)
def test_a_break_applies(item: Break, tmp_path: Path) -> None:
    target = tmp_path / item.file
    target.parent.mkdir(parents=True)
    target.write_text((REPOSITORY / item.file).read_text(encoding="utf-8"), encoding="utf-8")

    item.apply(tmp_path)

    assert target.read_text(encoding="utf-8") != (REPOSITORY / item.file).read_text(encoding="utf-8")
    assert all((REPOSITORY / test.partition("::")[0]).exists() for test in item.tests)
