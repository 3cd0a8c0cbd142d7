"""`zoochat rules`, as a keeper at a terminal uses it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from openapi_server.cli import main
from openapi_server.clock import SystemClock
from openapi_server.models.rule import MAX_RULES
from openapi_server.models.versioned_document import COMMAND_LINE, DocumentChanges
from openapi_server.moderation.rule_set import load_packaged_rules
from openapi_server.storage.sqlite.documents import SqliteRuleDocuments
from openapi_server.storage.sqlite.sessions import SqliteStore

PARTY: dict[str, Any] = {
    "name": "party",
    "strength": "NEVER",
    "category": "events",
    "then": "words",
    "keywords": ["birthday party"],
    "words": {"preschool": "Ask at the desk, says {animal}."},
}


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQLITE_PATH", "zoo.sqlite3")


def zoochat(*words: str) -> Result:
    return CliRunner().invoke(main, ["rules", *words])


def written(*rules: object) -> str:
    Path("mine.yaml").write_text(yaml.safe_dump({"rules": list(rules)}, sort_keys=False), encoding="utf-8")
    return "mine.yaml"


async def _load() -> DocumentChanges:
    store = await SqliteStore.open(Path("zoo.sqlite3"), SystemClock())
    try:
        return await SqliteRuleDocuments(store.connections).list_changes(0)
    finally:
        await store.close()


def load() -> DocumentChanges:
    return asyncio.run(_load())


def test_an_import_says_what_it_did() -> None:
    """Added, changed or unchanged; the store knows who, and the audit trail that."""
    assert zoochat("import", written(PARTY)).output == "party: added\n"
    assert zoochat("import", written(PARTY)).output == "party: unchanged\n"
    changed = zoochat("import", written({**PARTY, "priority": 3}, {**PARTY, "name": "other"}))

    assert changed.output == "party: changed\nother: added\n"
    assert [(rule.document_id, rule.by) for rule in load().existing] == [
        ("other", COMMAND_LINE),
        ("party", COMMAND_LINE),
    ]
    assert CliRunner().invoke(main, ["audit"]).output.count("rule_changed") == 3


def test_export_then_import_changes_nothing() -> None:
    """Neither to a file nor to the screen."""
    zoochat("import", written(PARTY, {**PARTY, "name": "lost", "enabled": False}))
    before = load()

    assert zoochat("export", "out.yaml").output == "Wrote 2 rules to out.yaml\n"
    assert zoochat("export").output == Path("out.yaml").read_text(encoding="utf-8")
    assert zoochat("import", "out.yaml").output == "lost: unchanged\nparty: unchanged\n"
    assert load() == before


def test_the_export_of_no_rules_is_a_file_like_any_other() -> None:
    """A new zoo has none of its own; and who has some keeps them."""
    assert zoochat("export", "none.yaml").output == "Wrote 0 rules to none.yaml\n"

    assert zoochat("lint", "none.yaml").output == "0 rules, no errors\n"
    for _ in range(2):
        imported = zoochat("import", "none.yaml")
        assert (imported.exit_code, imported.output) == (0, "0 rules, nothing to import\n")
        zoochat("import", written(PARTY))
    assert [rule.document_id for rule in load().existing] == ["party"]


def test_a_packaged_rule_can_be_imported_with_a_change() -> None:
    """One format: what stands in the package's file stands in a keepers' one."""
    document = dict(load_packaged_rules().documents["lost"])

    assert zoochat("import", written({**document, "priority": 99})).output == "lost: added\n"


@pytest.mark.parametrize(
    ("rules", "complaint"),
    [
        ([PARTY, {**PARTY, "name": "bad", "patterns": ["(a"]}], "mine.yaml:10: rule 'bad': patterns[0]: is no regular"),
        ([PARTY, PARTY], "rule 'party': name: is there twice"),
        ([PARTY, "party"], "mine.yaml:10: rule: (all of it): must be a mapping"),
        ([{**PARTY, "words": {"preschool": "x" * 601}}], "mine.yaml:2: rule 'party': words.preschool: must be at most"),
        ([{**PARTY, "then": "mask"}], "mine.yaml:2: rule 'party': then: masks come with the server"),
    ],
)
def test_a_wrong_file_is_refused_whole(rules: list[object], complaint: str) -> None:
    """Line, rule and field; exit code 1; and no store is touched."""
    for command in ("import", "lint"):
        refused = zoochat(command, written(*rules))
        assert refused.exit_code == 1
        assert complaint in refused.output
    assert not Path("zoo.sqlite3").exists()


@pytest.mark.parametrize(
    "content", ["rules: [", "[]", "{}", "rules:\n", "rules: {}", "rules: a", "rules: [{name: a}]\nother: 1\n"]
)
def test_what_is_no_list_of_rules_is_refused(content: str) -> None:
    """In one line, never with a traceback."""
    Path("mine.yaml").write_text(content, encoding="utf-8")

    refused = zoochat("lint", "mine.yaml")

    assert (refused.exit_code, refused.exception.__class__) == (1, SystemExit)
    assert "mine.yaml: (the whole file)" in refused.output


def test_too_many_rules_are_refused_whole() -> None:
    """As in the operations; and nothing of them is kept."""
    refused = zoochat("import", written(*({**PARTY, "name": f"rule-{number}"} for number in range(MAX_RULES + 1))))

    assert refused.exit_code == 1
    assert f"{MAX_RULES} rules" in refused.output
    assert load().documents == {}


def test_words_that_no_animal_may_say_are_refused() -> None:
    """One sentence names the rule and the field."""
    refused = zoochat("import", written(PARTY, {**PARTY, "name": "rude", "words": {"preschool": "Shit!"}}))

    assert refused.exit_code == 1
    assert refused.output.startswith("Error: rule 'rude': words.preschool: breaks the rule 'profanity-in-replies'")
    assert load().documents == {}


def test_the_list_says_who_wrote_what() -> None:
    """The packaged ones, those over them, and those that are switched off."""
    zoochat("import", written(PARTY, {**dict(load_packaged_rules().documents["lost"]), "enabled": False}))

    lines = zoochat("list").output.splitlines()

    assert lines[0] == "distress: ALWAYS words (distress, 100), packaged"
    assert "lost: ALWAYS words (lost_child, 90), keepers (over a packaged one), switched off" in lines
    assert lines[-1] == "party: NEVER words (events, 0), keepers"


def test_lint_finds_nothing_in_what_is_shipped() -> None:
    """Without a path it looks at the server's own files."""
    assert zoochat("lint").output == f"{len(load_packaged_rules().rules)} rules, no errors\n"
    assert zoochat("export").output == "rules: []\n"


@pytest.mark.parametrize("command", ["lint", "import"])
def test_rules_that_cost_too_much_together_are_refused(command: str) -> None:
    """200 rules with 20 wide patterns each took 6.5 s of the first turn. The sentence names the rule."""
    costly = [
        {**PARTY, "name": f"costly-{number}", "patterns": [rf"party {number} {at} \w{{1,60}}" for at in range(20)]}
        for number in range(MAX_RULES)
    ]
    refused = zoochat(command, written(*costly))

    assert refused.exit_code == 1
    assert "patterns: makes the patterns of all rules together too large" in refused.output
    assert refused.output.count("\n") == 1
    assert not Path("zoo.sqlite3").exists() or not load().existing
