"""One mapping of a YAML file, read strictly, key by key. What the keys mean is `loading`'s business."""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import date
from pathlib import Path
from typing import Any

# As in the contract: what comes in as a file can be sent back as a request.
LONGEST_TEXT, MOST_TEXTS = 2_000, 100

# No store, stream or terminal can carry these.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


class AnimalFileError(ValueError):
    """An animal's file is wrong. Names the file and the field, for the keeper who has to mend it."""

    def __init__(self, file: Path, field: str, complaint: str) -> None:
        super().__init__(f"{file}: {field}: {complaint}")
        self.file = file
        self.field = field
        self.message = complaint


class Fields:
    """Each reading takes its key away, so that `finish` can complain of keys that nobody asked for."""

    def __init__(self, file: Path, path: str, value: object) -> None:
        self._file, self._path = file, path
        if not isinstance(value, dict):
            raise self.error("", "must be a mapping")
        self._values: dict[Any, object] = dict(value)

    def error(self, key: str, complaint: str) -> AnimalFileError:
        return AnimalFileError(self._file, self._place(key) or "(the whole file)", complaint)

    def names(self) -> tuple[str, ...]:
        return tuple(self._checked_text(str(key), key) for key in self._values)

    def text(self, key: str, allowed: Collection[str] = ()) -> str:
        value = self._checked_text(key, self._take(key))
        if allowed and value not in allowed:
            raise self.error(key, f"{value!r} is not one of: {', '.join(sorted(allowed))}")
        return value

    def maybe_text(self, key: str) -> str | None:
        return self.text(key) if key in self._values else None

    def name(self, key: str) -> str:
        """What stands in addresses and on the wire."""
        value = self.text(key)
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,63}", value):
            raise self.error(key, "must be 1 to 64 of a-z, 0-9 and _, beginning with a letter")
        return value

    def maybe_number(self, key: str, least: float, most: float) -> float | None:
        if key not in self._values:
            return None
        value = self._take(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            raise self.error(key, f"must be a number from {least:g} to {most:g}, is {value!r}")
        return value

    def maybe_texts(self, key: str) -> tuple[str, ...]:
        return self.texts(key) if key in self._values else ()

    def texts(self, key: str) -> tuple[str, ...]:
        items = self._list(key, most=MOST_TEXTS)
        return tuple(self._checked_text(f"{key}[{at}]", item) for at, item in enumerate(items))

    def day(self, key: str) -> date:
        value = self.text(key)
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise self.error(key, f"must be a day such as 2016-06-14, is {value!r}") from None

    def section(self, key: str) -> Fields:
        return Fields(self._file, self._place(key), self._take(key))

    def maybe_section(self, key: str) -> Fields:
        return self.section(key) if key in self._values else Fields(self._file, self._place(key), {})

    def sections(self, key: str, most: int) -> list[Fields]:
        place = self._place(key)
        return [Fields(self._file, f"{place}[{at}]", item) for at, item in enumerate(self._list(key, most))]

    def finish(self) -> None:
        for key in self._values:
            raise self.error(str(key), "is not a key of this format")

    def _place(self, key: str) -> str:
        return ".".join(part for part in (self._path, key) if part)

    def _take(self, key: str) -> object:
        if key not in self._values:
            raise self.error(key, "is missing")
        return self._values.pop(key)

    def _list(self, key: str, most: int) -> list[object]:
        value = self._take(key)
        if not isinstance(value, list) or not value:
            raise self.error(key, "must be a list that is not empty")
        if len(value) > most:
            raise self.error(key, f"must hold at most {most}, holds {len(value)}")
        return value

    def _checked_text(self, key: str, value: object) -> str:
        # Until a visitor has told one, {name} stands for nothing.
        if not isinstance(value, str) or not value.replace("{name}", "").strip():
            raise self.error(key, f"must be a text that is not empty, is {value!r}")
        if len(value) > LONGEST_TEXT:
            raise self.error(key, f"must be at most {LONGEST_TEXT} characters long, is {len(value)}")
        if _UNSTORABLE.search(value):
            raise self.error(key, "must not hold NUL or half a surrogate pair")
        return value.strip()
