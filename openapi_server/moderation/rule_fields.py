"""One mapping of a rules file, read strictly, key by key. What the keys mean is `files`' business."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any


class RuleFileError(ValueError):
    """A rules file is wrong. Names the file, the rule and the field, for whoever has to mend it."""

    def __init__(self, file: Path, rule: str, field: str, complaint: str) -> None:
        super().__init__(f"{file.name}: {rule}: {field}: {complaint}")
        self.rule = rule
        self.field = field
        self.message = complaint


class Fields:
    """Each reading takes its key away, so that `finish` can complain of keys that nobody asked for.

    `within`: the key of the rule that this mapping is the value of, and a dot.
    """

    def __init__(self, file: Path, rule: str, value: object, within: str = "") -> None:
        self._file, self._rule, self._within = file, rule, within
        if not isinstance(value, dict):
            raise self.error("(all of it)", "must be a mapping")
        self._values: dict[Any, object] = dict(value)

    def error(self, key: str, complaint: str) -> RuleFileError:
        return RuleFileError(self._file, self._rule, f"{self._within}{key}", complaint)

    def section(self, key: str) -> Fields:
        return Fields(self._file, self._rule, self.value(key), f"{key}.")

    def has(self, key: str) -> bool:
        return key in self._values

    def is_mapping(self, key: str) -> bool:
        return isinstance(self._values.get(key), dict)

    def names(self) -> tuple[str, ...]:
        return tuple(str(key) for key in self._values)

    def value(self, key: str, default: object = None) -> object:
        return self._values.pop(key, default)

    def text(self, key: str, default: str | None = None) -> str:
        value = self.value(key, default)
        if not isinstance(value, str) or not value.strip():
            raise self.error(key, f"must be a text that is not empty, is {value!r}")
        return value.strip()

    def number(self, key: str, default: int = 0) -> int:
        value = self.value(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(key, f"must be a whole number, is {value!r}")
        return value

    def truth(self, key: str, default: bool) -> bool:
        value = self.value(key, default)
        if not isinstance(value, bool):
            raise self.error(key, f"must be true or false, is {value!r}")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """No key, no texts. A bare text in place of the list would be read letter by letter, and match everything."""
        value = self.value(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item.strip() for item in value):
            raise self.error(key, f"must be a list of texts that are not empty, is {value!r}")
        return tuple(value)

    def compiled(self, key: str, source: str) -> re.Pattern[str]:
        try:
            return re.compile(source, re.MULTILINE)
        except re.error as error:
            raise self.error(key, f"is no regular expression: {error}") from None

    def finish(self) -> None:
        for key in self._values:
            raise self.error(str(key), "is not a key of this format")
