from __future__ import annotations

import json
import unicodedata
from importlib.resources import files
from string import ascii_lowercase

import yaml

from openapi_server.lookalikes import LOOKALIKES_FILE
from openapi_server.moderation.normalize import fold_lookalikes, normalize_text


def _generate_tr39_table() -> dict[str, str]:
    """The part `tr39` of lookalikes.yaml: Latin letter to its look-alikes, from the data of confusable-homoglyphs."""
    confusables = json.loads((files("confusable_homoglyphs") / "confusables.json").read_text(encoding="utf-8"))
    found: dict[str, list[str]] = {}
    for source, others in sorted(confusables.items()):
        is_unchanged = len(source) == 1 and normalize_text(source) == source
        base = unicodedata.normalize("NFKD", source)[:1]
        if is_unchanged and not base.isascii() and not unicodedata.category(source).startswith("M"):
            letters = {other["c"].lower() for other in others} & set(ascii_lowercase)
            for letter in letters:
                found.setdefault(letter, []).append(source)
    return {letter: "".join(sources) for letter, sources in sorted(found.items())}


def test_the_look_alike_letters_are_those_of_tr39_and_a_few_more() -> None:
    """Unicode Technical Standard #39; the generated part is never edited, and no letter has two readings."""
    tables = yaml.safe_load(LOOKALIKES_FILE.read_text(encoding="utf-8"))
    letters = "".join("".join(table.values()) for table in tables.values())

    assert tables["tr39"] == _generate_tr39_table()
    assert len(set(letters)) == len(letters) > 300
    assert fold_lookalikes("ꓲᏀꓠꓳᖇᎬ") == "lgnore"
