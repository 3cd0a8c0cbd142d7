"""`zoochat animals`, as a keeper at a terminal uses it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from openapi_server.cli import main
from openapi_server.clock import SystemClock
from openapi_server.knowledge.animal_files import PACKAGED_ANIMALS, list_animal_files
from openapi_server.models.versioned_document import COMMAND_LINE, Change, VersionedDocument
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.support.animal_documents import MOLE, change_member, write_animal

PACKAGED = [file.stem for file in list_animal_files(PACKAGED_ANIMALS)]


@pytest.fixture(autouse=True)
def _zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store of its own for each test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SQLITE_PATH", "zoo.sqlite3")


def zoochat(*words: str) -> Result:
    return CliRunner().invoke(main, ["animals", *words])


async def _load(animal_id: str) -> tuple[Mapping[str, VersionedDocument | None], tuple[Change, ...]]:
    store = await SqliteStore.open(Path("zoo.sqlite3"), SystemClock())
    try:
        animals = SqliteAnimalDocuments(store.connections)
        return (await animals.list_changes(0)).documents, (await animals.list_history(animal_id, 10)).items
    finally:
        await store.close()


def load() -> Mapping[str, VersionedDocument | None]:
    return asyncio.run(_load("lion_001"))[0]


def history(animal_id: str) -> tuple[Change, ...]:
    return asyncio.run(_load(animal_id))[1]


def test_export_then_import_changes_nothing() -> None:
    """No animal, no version, no history; and a second export is the same to the byte."""
    assert zoochat("export", "out").output == f"Wrote {len(PACKAGED)} animals to out\n"
    before, files = load(), {file.name: file.read_bytes() for file in Path("out").iterdir()}

    imported = zoochat("import", "out")

    assert imported.exit_code == 0
    assert imported.output.splitlines() == [f"{animal_id}: unchanged" for animal_id in PACKAGED]
    assert load() == before
    assert zoochat("export", "out").exit_code == 0
    assert {file.name: file.read_bytes() for file in Path("out").iterdir()} == files


def test_an_export_is_what_the_packaged_files_say() -> None:
    """All of them, as documents: what the keepers wrote came into the store and out again without loss."""
    zoochat("export", "out")

    for file in list_animal_files(PACKAGED_ANIMALS):
        exported = (Path("out") / file.name).read_text(encoding="utf-8")
        assert yaml.safe_load(exported) == yaml.safe_load(file.read_text(encoding="utf-8"))


def test_a_file_is_imported_beside_the_animals_that_are_there(tmp_path: Path) -> None:
    """Also into an empty store: its animal comes to those that the server brings."""
    assert zoochat("import", str(write_animal(tmp_path, MOLE))).output == "mole_001: added\n"

    assert sorted(load()) == sorted([*PACKAGED, "mole_001"])
    [entry] = history("mole_001")
    assert (entry.by, entry.operation.value) == (COMMAND_LINE, "import")


def test_an_import_says_what_it_changed(tmp_path: Path) -> None:
    """By fields, and so does the history."""
    zoochat("import", str(write_animal(tmp_path, MOLE)))

    changed = zoochat("import", str(write_animal(tmp_path, change_member("facts.0.say", "I dig!"))))

    assert changed.output == "mole_001: changed: facts.top_speed.say\n"
    assert history("mole_001")[0].fields == ("facts.top_speed.say",)


def test_nothing_is_imported_from_a_folder_with_a_wrong_file(tmp_path: Path) -> None:
    """Exit code 1, and each error names file, fact and field."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_animal(folder, MOLE)
    write_animal(folder, {**change_member("facts.0.topic", "gossip"), "animal_id": "wasp_001"}, "wasp_001.yaml")

    refused = zoochat("import", "files")

    assert refused.exit_code == 1
    assert "files/wasp_001.yaml: fact top_speed: topic: 'gossip' is not one of" in refused.output
    assert not Path("zoo.sqlite3").exists()


def test_nothing_is_imported_beside_words_that_no_animal_may_say(tmp_path: Path) -> None:
    """One sentence names the file, the field and the rule."""
    folder = tmp_path / "files"
    folder.mkdir()
    write_animal(folder, MOLE)
    write_animal(folder, {**change_member("facts.0.say", "I dig, shit!"), "animal_id": "wasp_001"}, "wasp_001.yaml")

    refused = zoochat("import", "files")

    assert refused.exit_code == 1
    assert refused.output == (
        "Error: files/wasp_001.yaml: facts.0.say: breaks the rule 'profanity-in-replies': no animal may say it\n"
    )
    assert "mole_001" not in load()


def test_the_default_animal_cannot_be_retired(tmp_path: Path) -> None:
    """Exit code 1, with the reason in one line."""
    zoochat("export", "out")
    file = Path("out/lion_001.yaml")
    file.write_text(file.read_text(encoding="utf-8").replace("status: active", "status: retired"), encoding="utf-8")

    refused = zoochat("import", str(file))

    assert refused.exit_code == 1
    assert "DEFAULT_ANIMAL" in refused.output
    assert len(history("lion_001")) == 1


def test_nothing_is_imported_beside_an_animal_that_may_not_retire() -> None:
    """Not even what comes before it in the folder."""
    zoochat("export", "out")
    for name, old, new in (("ant_001", "group: invertebrate", "group: bird"), ("lion_001", "active", "retired")):
        file = Path("out", f"{name}.yaml")
        file.write_text(file.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")

    assert zoochat("import", "out").exit_code == 1
    assert [len(history(name)) for name in ("ant_001", "lion_001")] == [1, 1]


def test_lint_finds_nothing_in_what_is_shipped() -> None:
    """Without a path it looks at the server's own files."""
    assert zoochat("lint").output == f"{len(PACKAGED)} animals, no errors\n"


def test_lint_says_file_fact_and_field(tmp_path: Path) -> None:
    """Exit code 1 for a wrong file, 2 for one that is not there."""
    file = write_animal(tmp_path, change_member("facts.0.level", "toddler"))

    found = zoochat("lint", str(file))

    assert found.exit_code == 1
    assert found.output.startswith(f"{file}: fact top_speed: level: 'toddler' is not one of")
    assert zoochat("lint", "nowhere.yaml").exit_code == 2
    Path("empty").mkdir()
    empty = zoochat("lint", "empty")
    assert (empty.exit_code, "holds no animal files" in empty.output) == (1, True)


def test_a_folder_that_cannot_be_written_is_said() -> None:
    """In one line, with exit code 1."""
    Path("taken").write_text("", encoding="utf-8")

    assert zoochat("export", "taken").exit_code == 2
    refused = zoochat("export", "taken/out")
    assert (refused.exit_code, "cannot be written" in refused.output) == (1, True)


@pytest.mark.parametrize(
    ("path", "text", "complaint"),
    [
        ("facts.0.say", "I dig, shit!", "facts.0.say: breaks the rule 'profanity-in-replies': no animal may say it"),
        ("summary", "Call 0151 23456789.", "summary: breaks the rule 'personal-data': no animal may say it"),
        ("voice.jokes", ["Ha!", "Kill yourself."], "voice.jokes.1: breaks the rule 'encourages-harm'"),
        ("facts.0.say", "I dig\u202e!", "fact top_speed: say: must not hold characters that nobody sees, holds U+202E"),
        ("facts.0.little", "I dig, {animal}!", "fact top_speed: little: nothing is filled in here: must not hold {"),
        ("voice.greetings", ["Hello {0}!"], "voice.greetings[0]: the only placeholder is {name}: must not hold {"),
        ("name", "Leo\r\nevent: x", "name: must be one line without tabs, holds U+000D"),
        ("summary", "A\tmole.", "summary: must be one line without tabs, holds U+0009"),
        ("facts.0.say", "I dig.\n\ndata: x", "fact top_speed: say: must be one line without tabs, holds U+000A"),
        ("voice.jokes", ["Ha!\nHa!"], "voice.jokes[0]: must be one line without tabs, holds U+000A"),
        ("name", "Man\u200bny", "name: must not hold characters that nobody sees, holds U+200B ZERO WIDTH SPACE"),
    ],
)
@pytest.mark.parametrize("command", ["lint", "import"])
def test_what_no_animal_may_say_is_in_no_file(
    tmp_path: Path, command: str, path: str, text: object, complaint: str
) -> None:
    """Checking a file and importing it find the same."""
    refused = zoochat(command, str(write_animal(tmp_path, change_member(path, text))))

    assert refused.exit_code == 1
    assert complaint in refused.output
    assert "mole_001" not in (load() if Path("zoo.sqlite3").exists() else {})


def test_lint_takes_names_and_scripts_as_they_are(tmp_path: Path) -> None:
    """Placeholders for the visitor's name, Persian, emoji, and the line break with which YAML ends a folded text."""
    document = change_member("voice.greetings", ["Hello{name}!", "می\u200cبینم 👩\u200d🔬", "Hello!\n"])

    assert zoochat("lint", str(write_animal(tmp_path, document))).output == "1 animals, no errors\n"
