"""The texts that the rules are tested with, and which of them were held out while the rules were tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import yaml

_HERE = Path(__file__).parent
_RETRIEVAL = Path(__file__).parents[1] / "knowledge" / "retrieval"

Texts = Mapping[str, Sequence[str]]


def _texts(name: str) -> Texts:
    loaded: Texts = yaml.safe_load((_HERE / name).read_text(encoding="utf-8"))
    return loaded


HARMLESS = _texts("harmless.yaml")
ATTACKS = _texts("attacks.yaml")
FRESH = _texts("fresh.yaml")

_LEARNED = "learned"


def part(texts: Texts, *, is_held_out: bool) -> Iterator[tuple[str, str]]:
    """Subject and text of one part: every third text of each subject is held out, except where all were used."""
    for subject, listed in texts.items():
        for at, text in enumerate(listed):
            if (at % 3 == 2 and subject != _LEARNED) == is_held_out:
                yield subject, text


def asked_elsewhere() -> list[str]:
    """The questions of the retrieval tests, which were written by people who never saw the rules."""
    listed = [
        entry
        for file in sorted(_RETRIEVAL.glob("*.yaml"))
        for entries in yaml.safe_load(file.read_text(encoding="utf-8")).values()
        for entry in entries
    ]
    return [entry["ask"] if isinstance(entry, dict) else entry for entry in listed]
