"""The file of settings, `.env.local`, read strictly: a line that is no setting is refused and named, never skipped."""

from __future__ import annotations

import codecs
import io
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

from dotenv.parser import parse_stream

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# What people know from other programs, with what it is called here.
_FOREIGN_NAMES = {
    "ADDRESS": "HOST",
    "ALLOWED_ORIGINS": "CORS_ORIGINS",
    "DATABASE_URL": "SQLITE_PATH",
    "DB_PATH": "SQLITE_PATH",
    "DEBUG": "LOG_LEVEL",
    "JWT_SECRET": "SIGNING_KEY",
    "MODEL": "OPENAI_MODEL",
    "SECRET_KEY": "SIGNING_KEY",
}


class SettingsFileError(Exception):
    """The file cannot be used. The message begins with its name and, where there is one, the number of the line."""


@dataclass(frozen=True, slots=True)
class SettingsFile:
    """`lines` are the numbers of the lines where settings stand, by the name in upper case; the last one counts."""

    path: Path
    lines: Mapping[str, int] = field(default_factory=dict)

    def locate(self, name: str) -> str | None:
        """Where the setting stands, as `.env.local:12`; None when it is not in the file, or the environment sets it."""
        line = self.lines.get(name.upper())
        return f"{self.path}:{line}" if line is not None and not is_in_environment(name) else None


def is_in_environment(name: str) -> bool:
    """Whether an environment variable sets it. Upper and lower case are the same; an empty variable sets nothing."""
    return any(value for variable, value in os.environ.items() if variable.upper() == name.upper())


def read_settings_file(path: Path) -> SettingsFile:
    """The file's settings; none when there is no file. Raises `SettingsFileError`."""
    try:
        if path.is_dir():
            raise SettingsFileError(f"{path}: is a folder; settings stand in a file of that name")
        if path.exists() and not path.is_file():
            # A pipe would be waited for, for ever.
            raise SettingsFileError(f"{path}: is no file that can be read twice")
        content = path.read_bytes()
    except FileNotFoundError:
        return SettingsFile(path)
    except OSError as error:
        raise SettingsFileError(f"{path}: cannot be read: {error.strerror}") from None
    lines: dict[str, int] = {}
    for binding in parse_stream(io.StringIO(_decode(path, content))):
        text = binding.original.string
        # The parser counts blank lines before a setting as part of it.
        number = binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
        if binding.error or (binding.key is not None and binding.value is None):
            raise SettingsFileError(f"{path}:{number}: is no setting; write NAME=value, with quotes closed")
        if binding.key is not None:
            lines[binding.key.upper()] = number
    return SettingsFile(path, lines)


def _decode(path: Path, content: bytes) -> str:
    if content.startswith(_UTF_16) or b"\0" in content:
        raise SettingsFileError(f"{path}: is not in UTF-8 but looks like UTF-16; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsFileError(
            f"{path}:{line}: is not in UTF-8 (byte {content[error.start]:#04x}); save the file as UTF-8"
        ) from None


def suggest_name(name: str, known: Iterable[str]) -> str | None:
    """The setting that was probably meant.

    >>> suggest_name("CORS_ORIGIN", ["CORS_ORIGINS", "PORT"]), suggest_name("DEBUG", ["PORT"])
    ('CORS_ORIGINS', 'LOG_LEVEL')
    """
    foreign = _FOREIGN_NAMES.get(name.upper())
    return foreign or next(iter(get_close_matches(name.upper(), list(known), n=1, cutoff=0.6)), None)
