"""Files that keepers cannot mean: each ends in one sentence that says where, in little time and memory."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from openapi_server.cli import main
from openapi_server.knowledge.animal_files import MAX_FACTS
from openapi_server.models.rule import MAX_RULES
from openapi_server.yaml_files import MAX_DEPTH
from tests.support.timing import is_within

LAUGHS = "a0: &a0 [ha, ha, ha, ha, ha, ha, ha, ha, ha]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 12)
)
LONG_TEXTS = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 1_000)}]\n"
RULE = (
    "  - {name: rule-NUMBER, then: words, strength: NEVER, category: c, keywords: [party], words: {preschool: Hi.}}\n"
)
FACT = "  - {id: fact_NUMBER, topic: diet, level: adult, text: It eats., say: I eat., asks: [eat], source: zoo}\n"
BEFORE_FACTS = "animal_id: mole_001\nfacts:\n"


def number(line: str, count: int) -> str:
    return "".join(line.replace("NUMBER", str(at)) for at in range(count))


# What the file holds, and a part of the sentence.
CONTENTS: dict[str, tuple[bytes | str, str]] = {
    "laughs": (LAUGHS, "line 6: is more than the 100000 values"),
    "long laughs": (LONG_TEXTS, "more aliases"),
    "merged laughs": ("a: &a {b: c}\nd: {<<: [*a, *a]}\n", ""),
    "an alias within itself": ("rules: &a [*a]\n", "line 1: the alias *a names nothing above it"),
    "lists in lists": ("[" * 200_000, f"line 1: is nested deeper than {MAX_DEPTH} levels"),
    "closed lists in lists": ("a: " + "[" * 50_000 + "]" * 50_000, f"deeper than {MAX_DEPTH} levels"),
    "mappings in mappings": ("{a: " * 50_000, f"deeper than {MAX_DEPTH} levels"),
    "blocks in blocks": ("- " * 50_000, f"deeper than {MAX_DEPTH} levels"),
    "aliases of deep lists": (
        f"a: &a {'[' * 20}{']' * 20}\nb: {'[' * 20}*a{']' * 20}\n",
        f"line 2: is nested deeper than {MAX_DEPTH} levels",
    ),
    "many values": ("rules: [" + "1, " * 100_000 + "1]\n", "more than the 100000 values"),
    "a huge number": (f"rules:\n  - {'9' * 100_000}\n", "line 2: a number must have at most 4000 digits"),
    "a large number": (f"rules:\n  - {'9' * 3_000}\n", ""),
    "a huge float": ("rules: 1.0e+400\n", ""),
    "a huge fraction": (f"rules: 1.{'0' * 100_000}\n", "at most 4000 digits"),
    "a number to the base of 60": (f"rules: 1{':59' * 100_000}\n", ""),
    "a day": ("rules: 2016-06-14\n", ""),
    "no day": ("rules: 2016-13-45\n", ""),
    "a time": ("rules: 2016-06-14 25:61:61\n", ""),
    "a day as key": ("2016-06-14: x\n", ""),
    "not a number": ("rules: .nan\n", ""),
    "a Python object": ("rules: !!python/object/apply:os.system [ls]\n", "line 1: tags"),
    "an unknown tag": ("rules: !lion {}\n", "line 1: tags"),
    "binary": ("rules: !!binary aGVsbG8=\n", "line 1: tags"),
    "a set": ("rules: !!set {a, b}\n", "line 1: tags"),
    "a wrong number": ("rules: !!int lion\n", "line 1: tags"),
    "a key twice": ("rules: []\n\nrules: []\n", "line 3: 'rules' is there twice"),
    "a key in two spellings": ("1: a\n0x1: b\n", "line 2: '1' is there twice"),
    "a merge key": ("rules:\n  - <<: {name: a}\n", ""),
    "a list as key": ("? [a]\n: b\n", "line 1: a list or a mapping cannot be a key"),
    "a tab": ("rules:\n\t- name: a\n", "line 2: "),
    "a bracket": ("rules: [\n", "line 2: "),
    "NUL": ("rules:\n  - a\0b\n", "line 2: YAML does not allow the character U+0000"),
    "escape": ("rules: a\x1b[31m\n", "line 1: YAML does not allow the character U+001B"),
    "no UTF-8": (b"rules:\n  - \xff\n", "line 2: is not UTF-8"),
    "UTF-16": ("rules: []\n".encode("utf-16"), "line 1: is not UTF-8"),
    "UTF-16 without mark": ("rules: []\n".encode("utf-16-le"), "line 1: YAML does not allow the character U+0000"),
    "two documents": ("a: 1\n---\nb: 2\n", "line 2: "),
    "nothing": ("", "must be a mapping"),
    "a text": ("lion\n", "must be a mapping"),
    "=": ("=\n", "must be a mapping"),
    "a key as long as the file": (f"{'x' * 900}: 1\n", ""),
    "a text as long as the file": (f"rules: {'x' * 1_000_000}\n", ""),
    "20,000 rules": ("rules:\n" + number(RULE, 20_000), "more than the 100000 values"),
    "too many rules": ("rules:\n" + number(RULE, MAX_RULES + 1), ""),
    "20,000 facts": (BEFORE_FACTS + number(FACT, 20_000), "more than the 100000 values"),
    "too many facts": (BEFORE_FACTS + number(FACT, MAX_FACTS + 1), ""),
}
COMMANDS = [("rules", "import"), ("rules", "lint"), ("animals", "import"), ("animals", "lint")]


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQLITE_PATH", "zoo.sqlite3")


def require_one_sentence(command: tuple[str, str], path: str = "mole_001.yaml") -> str:
    started_s = time.monotonic()
    result: Result = CliRunner().invoke(main, [*command, path])
    assert is_within(time.monotonic() - started_s, 4)
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert len(result.output.splitlines()) == 1
    assert len(result.output) < 1_000
    assert path in result.output
    return result.output


# One command for each format: the others read files in the same way.
@pytest.mark.parametrize("command", [COMMANDS[0], COMMANDS[-1]], ids=" ".join)
@pytest.mark.parametrize("name", CONTENTS)
def test_a_hostile_file_is_refused_in_one_sentence(name: str, command: tuple[str, str]) -> None:
    content, complaint = CONTENTS[name]
    Path("mole_001.yaml").write_bytes(content.encode() if isinstance(content, str) else content)

    assert complaint in require_one_sentence(command)


def make_pipe(path: Path) -> None:
    os.mkfifo(path)


def make_sparse_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


def link_to_zeros(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize(
    ("make", "complaint"),
    [
        (make_pipe, "is not a regular file"),
        (make_sparse_file, "is larger than 8 MiB"),
        (link_to_zeros, "is not a regular file"),
    ],
)
def test_what_has_no_end_is_not_read(make: Callable[[Path], None], complaint: str, command: tuple[str, str]) -> None:
    """Nothing waits for a pipe that nobody writes to."""
    make(Path("mole_001.yaml"))

    assert complaint in require_one_sentence(command)


def test_a_folder_named_like_a_file_is_refused() -> None:
    """Where files are listed from a folder; a folder in place of a rules file is a wrong argument."""
    Path("zoo/mole_001.yaml").mkdir(parents=True)

    assert "is not a regular file" in require_one_sentence(("animals", "import"), "zoo")
    assert CliRunner().invoke(main, ["rules", "import", "zoo"]).exit_code == 2
