"""docs/children.md promises things to parents: what it names exists."""

from __future__ import annotations

import re
import shlex

import click
import pytest

from openapi_server.cli import main
from openapi_server.config import Settings
from openapi_server.models.user import Role
from openapi_server.spec import load_spec
from openapi_server.storage.retention import INTERVAL_S, MAX_VACUUM_BYTES
from tests.test_docs import ROOT, variables

TEXT = (ROOT / "docs/children.md").read_text(encoding="utf-8")
NAMED = dict(re.findall(r"`([A-Z][A-Z_]{5,})` \(([^)]+)\)", TEXT))
IN_WORDS = {"a day": "86400", "ten minutes": "600", "a year": "365"}


def test_the_settings_that_it_names_exist() -> None:
    """An operator looks for them."""
    named = set(re.findall(r"`([A-Z]+_[A-Z_]+)(?:=\w+)?`", TEXT))
    assert len(named) > 5
    assert named <= set(variables())


def test_the_defaults_that_it_tells_are_the_defaults() -> None:
    """In words, because it is for people."""
    assert len(NAMED) >= 4
    assert {name: IN_WORDS[words] for name, words in NAMED.items()} == {name: variables()[name] for name in NAMED}
    assert Settings.model_fields["retention_days"].default == 0
    assert (INTERVAL_S, MAX_VACUUM_BYTES) == (3600, 64 * 1024 * 1024)


def test_the_operations_that_it_names_exist() -> None:
    """With their methods."""
    named = re.findall(r"`(GET|POST|PATCH|DELETE) (/[a-z_/]+)`", TEXT)
    assert len(named) > 3
    paths = load_spec()["paths"]
    assert [name for name in named if name[0].lower() not in paths.get(name[1], {})] == []


@pytest.mark.parametrize("line", re.findall(r"^\$ \.venv/bin/zoochat (.+)$", TEXT, re.MULTILINE))
def test_the_commands_that_it_shows_can_be_typed(line: str) -> None:
    """Names, arguments and options, up to where they would be done."""
    words = shlex.split(line)
    command: click.Command = main
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]
    command.make_context(command.name, words)


def test_every_role_has_its_row() -> None:
    """Who sees what is asked first."""
    rows = set(re.findall(r"^\| (\w+) \|", TEXT, re.MULTILINE))
    assert {role.value for role in Role} | {"visitor", "operator"} <= rows
