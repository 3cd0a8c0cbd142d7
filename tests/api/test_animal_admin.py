"""How keepers change animals over HTTP, with a real store that two processes share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from openapi_server.clock import SystemClock
from openapi_server.config import Settings
from openapi_server.knowledge.animal_files import MAX_TOKENS
from openapi_server.knowledge.drafts import SMALL_TALK
from openapi_server.knowledge.service import KnowledgeService
from openapi_server.models.animal import Animal
from openapi_server.models.turn import AgeGroup
from openapi_server.models.versioned_document import PACKAGE, ChangeKind, Document, DocumentEdit
from openapi_server.protocols import Provider, Verdict
from openapi_server.providers.offline.provider import OfflineProvider
from openapi_server.spec import load_spec
from openapi_server.storage.sqlite.documents import SqliteAnimalDocuments
from openapi_server.storage.sqlite.sessions import SqliteStore
from tests.api.test_providers import OneWordModel
from tests.api.zoo_processes import OpensProcesses, ZooProcess
from tests.conftest import open_services_over
from tests.support.animal_documents import MOLE
from tests.support.examples import NOON
from tests.support.fakes import AllowsAll, Waits

LION = "/animal/lion_001"
FACTS = f"{LION}/facts"
SPEED = {
    "id": "top_speed",
    "topic": "speed",
    "level": "elementary",
    "text": "Our lion was clocked at 61 kilometres an hour.",
    "say": "My keepers say that I ran at 61 kilometres an hour!",
    "asks": ["how fast", "run", "speed"],
    "source": "keepers",
}
A_LION: Document = {
    **MOLE,
    "animal_id": "lion_001",
    "name": "Leo",
    "species": "African lion",
    "facts": [
        {**SPEED, "say": "I am as fast as a car!"},
        {**SPEED, "id": "mane", "topic": "body", "say": "My mane is golden!", "asks": ["mane", "hair"]},
    ],
}
SENT_MOLE = {
    **{name: value for name, value in MOLE.items() if name not in ("animal_id", "scientific_name", "voice")},
    "animalId": "mole_001",
    "scientificName": "Talpa europaea",
    "voice": {
        **{name: lines for name, lines in MOLE["voice"].items() if name not in ("how_are_you", "dont_know")},
        "howAreYou": ["Busy."],
        "dontKnow": ["I cannot see that."],
    },
}
SENT_LION = {**SENT_MOLE, "animalId": "lion_001"}


class Advises(AllowsAll):
    """A moderator that allows everything, and gives guidance."""

    async def check_message(self, message: str, animal: Animal, age_group: AgeGroup, original: str = "") -> Verdict:
        return Verdict(guidance=await self.list_guidance(animal, age_group, message))

    async def list_guidance(
        self, animal: Animal, age_group: AgeGroup, message: str = "", original: str = ""
    ) -> tuple[str, ...]:
        return (f"Speak softly to {age_group}.",)


class Process(ZooProcess):
    async def change(self, method: str, path: str, body: object = None, **params: str) -> httpx.Response:
        """As a keeper who has just looked."""
        seen = await self.keeper.get("/animal/lion_001/document")
        headers = {"If-Match": seen.headers["etag"]}
        return await self.keeper.request(method, path, json=body, params=params or None, headers=headers)


class Opens(OpensProcesses):
    async def __call__(self, provider: Provider | None = None, **settings: Any) -> Process:
        store = await SqliteStore.open(self.folder / "zoo.sqlite3", SystemClock())
        self.parts.push_async_callback(store.close)
        animals = SqliteAnimalDocuments(store.connections)
        await animals.seed(
            {"lion_001": A_LION, "tiger_001": {**A_LION, "animal_id": "tiger_001", "name": "Bulan"}}, PACKAGE, NOON
        )
        library = await KnowledgeService.open(animals)
        self.parts.callback(library.close)
        voice = provider or OfflineProvider(words_per_s=0, seed=0)
        own = Settings(validate_responses=True, **settings)
        opened = open_services_over(self.folder, voice, library, Advises(), own, SystemClock())
        return await Process.start(opened, self.parts)


@pytest.fixture
async def opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opens]:
    # No developer's .env.local may reach a test.
    monkeypatch.chdir(tmp_path)
    async with Opens(tmp_path) as opener:
        yield opener


@pytest.fixture
async def zoo(opens: Opens) -> Process:
    """One process over a store with two animals."""
    return await opens()


async def test_a_changed_fact_is_used_from_the_next_turn_on(opens: Opens) -> None:
    """In the process that changed it, and in another one; no restart, no waiting."""
    here, there = await opens(), await opens()
    assert "as fast as a car" in await there.ask("How fast can you run?")

    answer = await here.change("POST", FACTS, SPEED)

    assert answer.status_code == 200, answer.text
    assert "61 kilometres" in await here.ask("How fast can you run?")
    assert "61 kilometres" in await there.ask("How fast can you run?")
    assert "as fast as a car" in await there.ask("How fast can you run?", animalId="tiger_001")


async def test_a_turn_that_runs_ends_as_it_began(opens: Opens) -> None:
    """Its animal is the one that the visitor asked, whatever its keepers do meanwhile."""
    provider = Waits()
    zoo = await opens(provider)
    asked = asyncio.create_task(zoo.ask("How fast can you run?"))
    await provider.has_begun.wait()

    assert (await zoo.change("POST", FACTS, SPEED)).status_code == 200
    provider.go.set()
    await asked

    [prompt] = provider.prompts
    assert prompt.facts[0].say == "I am as fast as a car!"


async def test_a_created_animal_talks(zoo: Process) -> None:
    """201 with its address and version; visitors find it at once, in lists and by asking."""
    answer = await zoo.keeper.post("/animal", json=SENT_MOLE)

    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == "/animal/mole_001"
    assert answer.json() == SENT_MOLE
    assert "Manny" in (await zoo.visitor.get("/")).text
    details = await zoo.visitor.get(answer.headers["location"])
    assert details.json()["name"] == "Manny"
    assert details.headers["etag"] == answer.headers["etag"]
    assert "four metres an hour" in await zoo.ask("How fast do you dig?", animalId="mole_001")
    assert [each["animalId"] for each in (await zoo.visitor.get("/animal_list")).json()["animals"]] == [
        "lion_001",
        "mole_001",
        "tiger_001",
    ]


async def test_an_animal_may_be_called_anything(zoo: Process) -> None:
    """Also in a script in which names are not searched for: it talks, and so do all others."""
    answer = await zoo.keeper.post("/animal", json={**SENT_MOLE, "name": "モグ", "species": "モグラ"})

    assert answer.status_code == 201, answer.text
    assert "four metres an hour" in await zoo.ask("How fast do you dig?", animalId="mole_001")
    assert "as fast as a car" in await zoo.ask("How fast can you run?")
    device = {"X-Device-ID": "kiosk-7"}
    for wish in ("May I talk to Bulan?", "Hello!"):
        assert (await zoo.visitor.post("/chat/", json={"content": wish}, headers=device)).status_code == 200


async def test_an_id_is_given_once(zoo: Process) -> None:
    """409, and the animal that has it stays as it is."""
    answer = await zoo.keeper.post("/animal", json=SENT_LION)

    assert (answer.status_code, answer.json()["code"]) == (409, "animal_exists")
    assert (await zoo.visitor.get(LION)).json()["name"] == "Leo"


async def test_what_was_read_can_be_written_back(zoo: Process) -> None:
    """The document is whole; writing it unchanged changes nothing, not even the version."""
    read = await zoo.keeper.get(f"{LION}/document")
    headers = {"If-Match": read.headers["etag"]}

    same = await zoo.keeper.put(LION, json=read.json(), headers=headers)
    other = await zoo.keeper.put(LION, json={**read.json(), "name": "Leonard"}, headers=headers)

    assert (same.status_code, same.headers["etag"]) == (200, read.headers["etag"])
    assert other.status_code == 200
    assert other.headers["etag"] != read.headers["etag"]
    assert (await zoo.visitor.get(LION)).json()["name"] == "Leonard"


CHANGES: list[tuple[str, str, object]] = [
    ("PUT", LION, SENT_LION),
    ("PATCH", "/animal_config?animalId=lion_001", {"temperature": 1}),
    ("POST", FACTS, SPEED),
    ("DELETE", f"{FACTS}?factId=top_speed", None),
    ("POST", f"{LION}/draft", SENT_LION),
    ("POST", f"{LION}/draft/promote", None),
    ("DELETE", "/animal/tiger_001", None),
]


@pytest.mark.parametrize(("method", "path", "body"), CHANGES)
async def test_a_change_says_which_version_it_is_made_to(zoo: Process, method: str, path: str, body: object) -> None:
    """428 without If-Match; 412 with one that is old, weak or not ours; and nothing is changed."""
    before = (await zoo.services.animal_admin.store.list_changes(0)).version
    if path.endswith("promote"):
        await zoo.change("POST", f"{LION}/draft", SENT_LION)

    missing = await zoo.admin.request(method, path, json=body)
    assert (missing.status_code, missing.json()["code"]) == (428, "version_required")
    for wrong in ('"999"', f'W/"{before}"', '"not ours"', "rubbish", ""):
        stale = await zoo.admin.request(method, path, json=body, headers={"If-Match": wrong})
        assert (stale.status_code, stale.json()["code"]) == (412, "version_mismatch"), wrong
    assert (await zoo.services.animal_admin.store.list_changes(0)).version == before
    if not path.endswith("promote"):
        assert (await zoo.keeper.get(f"{LION}/draft")).status_code == 404

    anyhow = await zoo.admin.request(method, path, json=body, headers={"If-Match": '"999", *'[6:]})
    assert anyhow.status_code in (200, 201, 204), anyhow.text


async def test_of_two_keepers_who_change_at_once_one_is_refused(opens: Opens) -> None:
    """Both have read the same version, in two processes; no change is lost silently."""
    here, there = await opens(), await opens()
    etag = (await here.keeper.get(FACTS)).headers["etag"]

    answers = await asyncio.gather(
        here.keeper.post(FACTS, json=SPEED, headers={"If-Match": etag}),
        there.keeper.post(FACTS, json={**SPEED, "say": "I am quick!"}, headers={"If-Match": etag}),
    )

    assert sorted(answer.status_code for answer in answers) == [200, 412]


async def test_facts_are_added_replaced_and_deleted(zoo: Process) -> None:
    """A new one is 201, one in the place of another 200; the last one stays."""
    new = {**SPEED, "id": "new_fact", "asks": ["newest"]}

    assert (await zoo.change("POST", FACTS, new)).status_code == 201
    assert (await zoo.change("POST", FACTS, {**new, "say": "Newer!"})).status_code == 200
    listed = (await zoo.keeper.get(FACTS)).json()
    assert [fact["id"] for fact in listed["facts"]] == ["top_speed", "mane", "new_fact"]
    assert listed["facts"][2]["say"] == "Newer!"
    assert listed["sources"] == MOLE["sources"]

    gone = await zoo.change("DELETE", FACTS, factId="mane")
    assert (gone.status_code, gone.headers["etag"]) == (204, (await zoo.keeper.get(FACTS)).headers["etag"])
    assert (await zoo.change("DELETE", FACTS, factId="mane")).json()["code"] == "fact_not_found"
    assert (await zoo.change("DELETE", FACTS, factId="new_fact")).status_code == 204
    last = await zoo.change("DELETE", FACTS, factId="top_speed")
    assert (last.status_code, last.json()["errors"][0]["field"]) == (400, "facts")


WRONG: list[tuple[str, str, object, str]] = [
    ("POST", FACTS, {**SPEED, "topic": "gossip"}, "topic"),
    ("POST", FACTS, {**SPEED, "say": "  "}, "say"),
    ("POST", FACTS, {**SPEED, "asks": []}, "asks"),
    ("POST", FACTS, {**SPEED, "asks": ["run", 7]}, "asks.1"),
    ("POST", FACTS, {**SPEED, "id": "../etc"}, "id"),
    ("POST", FACTS, {**SPEED, "source": "nobody"}, "source"),
    ("POST", FACTS, {**SPEED, "level": "preschool"}, "little"),
    ("POST", FACTS, {**SPEED, "little": "Fast!"}, "little"),
    ("POST", FACTS, {**SPEED, "colour": "red"}, "colour"),
    ("POST", FACTS, {name: SPEED[name] for name in SPEED if name != "say"}, "say"),
    ("PATCH", "/animal_config?animalId=lion_001", {}, "body"),
    ("PATCH", "/animal_config?animalId=lion_001", {"status": "asleep"}, "status"),
    ("PATCH", "/animal_config?animalId=lion_001", {"temperature": 3}, "temperature"),
    ("PATCH", "/animal_config?animalId=lion_001", {"temperature": -0.1}, "temperature"),
    ("PATCH", "/animal_config?animalId=lion_001", {"temperature": "hot"}, "temperature"),
    ("PATCH", "/animal_config?animalId=lion_001", {"maxTokens": "many"}, "maxTokens"),
    ("PATCH", "/animal_config?animalId=lion_001", {"maxTokens": 0}, "maxTokens"),
    ("PATCH", "/animal_config?animalId=lion_001", {"maxTokens": 1.5}, "maxTokens"),
    ("PATCH", "/animal_config?animalId=lion_001", {"maxTokens": MAX_TOKENS + 1}, "maxTokens"),
    ("PATCH", "/animal_config?animalId=lion_001", {"model": " "}, "model"),
    ("PATCH", "/animal_config?animalId=lion_001", {"model": 7}, "model"),
    ("PATCH", "/animal_config?animalId=lion_001", {"model": "m\nb"}, "model"),
    ("PUT", LION, {**SENT_LION, "mind": {"maxTokens": 0}}, "mind.maxTokens"),
    ("PATCH", "/animal_config?animalId=lion_001", {"voice": {"jokes": []}}, "voice.jokes"),
    ("PATCH", "/animal_config?animalId=lion_001", {"individual": {"born": "last spring"}}, "individual.born"),
    ("PATCH", "/animal_config?animalId=lion_001", {"name": "Leonard"}, "name"),
    ("PUT", LION, SENT_MOLE, "animalId"),
    ("PUT", LION, {**SENT_LION, "facts": [{**SPEED, "source": "nobody"}]}, "facts.0.source"),
    ("PUT", LION, {**SENT_LION, "facts": [SPEED, SPEED]}, "facts.1.id"),
    ("POST", "/animal", {**SENT_MOLE, "voice": {}}, "voice.sound"),
    (
        "POST",
        "/animal",
        {**SENT_MOLE, "sources": {"a": {"type": "web", "title": "b", "url": "data:x"}}},
        "sources.a.url",
    ),
    ("POST", f"{LION}/draft", {**SENT_LION, "facts": [{**SPEED, "little": "x"}]}, "facts.0.little"),
    *(("POST", FACTS, {**SPEED, "say": f"I ran{sign} fast."}, "say") for sign in "\x85\u2028\u202e\ufffe\u200b"),
    *(("POST", FACTS, {**SPEED, "say": text}, "say") for text in ("Hello{0}!", "{{x}}", "{animal}", "{name}", "${x}")),
    ("POST", FACTS, {**SPEED, "say": "I ran.\u2029"}, "say"),
    ("POST", FACTS, {**SPEED, "text": "%(x)s"}, "text"),
    ("POST", FACTS, {**SPEED, "why": "<%= why %>"}, "why"),
    ("POST", FACTS, {**SPEED, "asks": ["how fast", "r\u200dun"]}, "asks.1"),
    ("PUT", LION, {**SENT_LION, "name": "L\u202eoe"}, "name"),
    ("PUT", LION, {**SENT_LION, "summary": "A \U000e0001lion."}, "summary"),
    ("PUT", LION, {**SENT_LION, "promptAdditions": ["Speak of {topic}."]}, "promptAdditions.0"),
    (
        "PUT",
        LION,
        {**SENT_LION, "sources": {"keepers": {"type": "document", "title": "\ufeffNotes"}}},
        "sources.keepers.title",
    ),
    ("PATCH", "/animal_config?animalId=lion_001", {"voice": {"jokes": ["Ha{0}!"]}}, "voice.jokes.0"),
    (
        "PATCH",
        "/animal_config?animalId=lion_001",
        {"individual": {"favourites": {"fo\xadod": "x"}}},
        "individual.favourites.fo\xadod",
    ),
    ("POST", f"{LION}/draft", {**SENT_LION, "facts": [{**SPEED, "text": "Fa\u2060st."}]}, "facts.0.text"),
    ("POST", "/animal", {**SENT_MOLE, "species": "Mole {n}"}, "species"),
    ("POST", "/animal", {**SENT_MOLE, "scientificName": "Talpa {n}"}, "scientificName"),
    ("PUT", LION, {**SENT_LION, "voice": {**SENT_LION["voice"], "howAreYou": ["{}"]}}, "voice.howAreYou.0"),
]


@pytest.mark.parametrize(("method", "path", "body", "field"), WRONG, ids=lambda part: str(part)[:60])
async def test_a_wrong_field_is_named(zoo: Process, method: str, path: str, body: object, field: str) -> None:
    """As it was sent; nothing is changed."""
    answer = await zoo.change(method, path, body)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert (await zoo.services.animal_admin.list_history("lion_001", 10, None)).items[0].by == PACKAGE


async def test_a_stored_animal_with_a_text_that_is_refused_now_still_talks(opens: Opens) -> None:
    """It was allowed when it was written. Its next change names the text."""
    process = await opens()
    stored = await process.services.animal_admin.get_document("lion_001")
    older = {**stored.document, "summary": "A lion.\x85{0}"}
    edit = DocumentEdit("lion_001", "keeper1")
    change = process.services.animal_admin.make_change(edit, ChangeKind.REPLACE)
    await process.services.animal_admin.store.put_document(change, stored.version, older)

    assert (await process.keeper.get(LION)).json()["summary"] == older["summary"]
    refused = await process.change("POST", FACTS, SPEED)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "summary")


async def test_the_settings_of_an_animal(zoo: Process) -> None:
    """Only what is named changes; null removes it; the system prompt has the prompt additions."""
    path = "/animal_config?animalId=lion_001"
    before = (await zoo.keeper.get(path)).json()
    assert (before["temperature"], before["promptAdditions"], before["status"]) == (None, None, "active")

    changed = await zoo.change(
        "PATCH",
        path,
        {"temperature": 0.3, "maxTokens": 99, "promptAdditions": ["Never hurry."], "voice": {"howAreYou": ["Sunny!"]}},
    )

    assert changed.status_code == 200, changed.text
    after = {**before, "temperature": 0.3, "maxTokens": 99, "promptAdditions": ["Never hurry."]}
    assert changed.json() == {**after, "voice": {**before["voice"], "howAreYou": ["Sunny!"]}}
    prompt = await zoo.keeper.get(f"{LION}/system-prompt")
    assert "- Never hurry." in prompt.json()["systemPrompt"]
    gone = await zoo.change("PATCH", path, {"temperature": None, "maxTokens": None, "promptAdditions": None})
    assert gone.json() == {**before, "voice": {**before["voice"], "howAreYou": ["Sunny!"]}}


async def test_a_chosen_model_speaks_from_the_next_turn_on(opens: Opens) -> None:
    """In every process; null brings the server's own back."""
    here, there = await opens(OneWordModel()), await opens(OneWordModel())

    async def model_of_next_turn() -> str:
        answer = await there.visitor.post("/convo_turn", json={"message": "Hello!", "animalId": "lion_001"})
        model: str = answer.json()["metadata"]["model"]
        return model

    models = []
    for chosen in ("lion-1", None):
        changed = await here.change("PATCH", "/animal_config?animalId=lion_001", {"model": chosen})
        assert changed.status_code == 200, changed.text
        models.append(await model_of_next_turn())

    assert models == ["lion-1", "model-1"]


async def test_a_favourite_is_set_beside_the_others(zoo: Process) -> None:
    """What is not named stays as it was, at any depth."""
    path = "/animal_config?animalId=lion_001"
    before = (await zoo.keeper.get(path)).json()["individual"]

    changed = await zoo.change("PATCH", path, {"individual": {"favourites": {"game": "hide and seek"}}})

    assert changed.status_code == 200, changed.text
    favourites = {**before["favourites"], "game": "hide and seek"}
    assert changed.json()["individual"] == {**before, "favourites": favourites}


async def test_a_retired_animal_is_kept_and_does_not_talk(zoo: Process) -> None:
    """Such as one that has moved to another zoo; it can be made active again."""
    tiger = {"params": {"animalId": "tiger_001"}, "headers": {"If-Match": "*"}}

    answer = await zoo.keeper.patch("/animal_config", json={"status": "retired"}, **tiger)  # type: ignore[arg-type]

    assert answer.status_code == 200
    asked = {"message": "Hello!", "animalId": "tiger_001"}
    assert (await zoo.visitor.post("/convo_turn", json=asked)).status_code == 404
    assert "Bulan has retired" in (await zoo.visitor.post("/convo_turn", json=asked)).json()["detail"]
    assert (await zoo.visitor.get("/animal/tiger_001")).json()["status"] == "retired"
    await zoo.keeper.patch("/animal_config", json={"status": "active"}, **tiger)  # type: ignore[arg-type]
    assert (await zoo.visitor.post("/convo_turn", json=asked)).status_code == 200


async def test_a_deleted_animal_is_gone_and_its_history_is_not(zoo: Process) -> None:
    """Only an administrator deletes."""
    any_version = {"If-Match": "*"}
    assert (await zoo.keeper.delete("/animal/tiger_001", headers=any_version)).status_code == 403

    assert (await zoo.admin.delete("/animal/tiger_001", headers=any_version)).status_code == 204

    assert (await zoo.visitor.get("/animal/tiger_001")).status_code == 404
    assert (await zoo.visitor.post("/convo_turn", json={"message": "Hi", "animalId": "tiger_001"})).status_code == 404
    assert (await zoo.admin.delete("/animal/tiger_001", headers=any_version)).status_code == 404
    history = (await zoo.keeper.get("/animal/tiger_001/history")).json()["changes"]
    assert [(each["operation"], each["by"]) for each in history] == [("delete", "admin"), ("seed", PACKAGE)]
    assert (await zoo.keeper.get("/animal/unicorn_001/history")).status_code == 404


async def test_the_default_animal_is_neither_deleted_nor_retired(zoo: Process) -> None:
    """Without it the server could not start again."""
    retired = await zoo.change("PATCH", "/animal_config?animalId=lion_001", {"status": "retired"})
    deleted = await zoo.admin.delete(LION, headers={"If-Match": "*"})

    assert [(answer.status_code, answer.json()["code"]) for answer in (retired, deleted)] == [
        (409, "animal_needed"),
        (409, "animal_needed"),
    ]


async def test_the_history_says_who_changed_what(zoo: Process) -> None:
    """Latest first, in pages, with the names that the wire has."""
    await zoo.change("POST", FACTS, SPEED)
    await zoo.change("PATCH", "/animal_config?animalId=lion_001", {"voice": {"howAreYou": ["Sunny!"]}, "model": "m-1"})

    page = (await zoo.keeper.get(f"{LION}/history", params={"limit": 2})).json()

    assert [(each["operation"], each["by"], each["fields"]) for each in page["changes"]] == [
        ("configure", "keeper1", ["voice.howAreYou", "mind"]),
        ("put_fact", "keeper1", ["facts.top_speed.say"]),
    ]
    version = page["changes"][0]["version"]
    assert (await zoo.visitor.get(LION)).headers["etag"] == f'"{version}"'
    rest = await zoo.keeper.get(f"{LION}/history", params={"limit": 2, "cursor": page["nextCursor"]})
    assert [each["operation"] for each in rest.json()["changes"]] == ["seed"]


async def test_the_system_prompt_is_what_a_turn_would_read(zoo: Process) -> None:
    """For an age, with the facts that a question finds, and the rules that hold for both."""
    answer = await zoo.keeper.get(
        f"{LION}/system-prompt", params={"ageGroup": "preschool", "message": "How fast can you run?"}
    )

    assert answer.status_code == 200
    assert answer.json()["factIds"][0] == "top_speed"
    assert "three to five years old" in answer.json()["systemPrompt"]
    assert "[lion_001/top_speed]" in answer.json()["systemPrompt"]
    assert "- Speak softly to preschool." in answer.json()["systemPrompt"]
    assert (await zoo.keeper.get("/animal/unicorn_001/system-prompt")).status_code == 404


def keepers_operations() -> list[tuple[str, str, str]]:
    """Every operation that has a role of keepers, with an address and that role."""
    return [
        (
            method.upper(),
            path.replace("{animalId}", "tiger_001").replace("{ruleName}", "hunting"),
            operation["x-minimum-role"],
        )
        for path, operations in load_spec()["paths"].items()
        for method, operation in operations.items()
        if "keepers" in operation.get("tags", [])
    ]


@pytest.mark.parametrize(("method", "path", "role"), keepers_operations())
async def test_nobody_but_keepers(zoo: Process, method: str, path: str, role: str) -> None:
    """401 for visitors, 403 for users, and for keepers where an administrator is asked for."""
    params = {"animalId": "tiger_001", "factId": "mane"}
    for caller, may in (("visitor", ""), ("user", "user"), ("keeper", "zookeeper"), ("admin", "administrator")):
        client: httpx.AsyncClient = getattr(zoo, caller)
        answer = await client.request(method, path, params=params, json={})
        if caller == "visitor":
            assert (answer.status_code, answer.json()["code"]) == (401, "login_required")
        elif may == "user" or (role == "administrator" and may == "zookeeper"):
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        else:
            assert answer.status_code not in (401, 403, 500), answer.text
    assert role in ("zookeeper", "administrator")


async def test_what_is_not_there_is_404(zoo: Process) -> None:
    """For every operation on an animal."""
    sent = {**SENT_MOLE, "animalId": "unicorn_001"}
    bodies = {"PUT": sent, "PATCH": {"status": "active"}, "facts": SPEED, "draft": sent, "compare": {}}
    for method, path, _ in keepers_operations():
        if path == "/animal" or path.startswith("/api/v1/guardrails/"):
            continue
        body = bodies.get(path.rpartition("/")[2], bodies.get(method))
        # Parameters that an operation does not know are refused.
        params = {} if "tiger_001" in path else {"animalId": "unicorn_001"}
        params |= {"factId": "mane"} if (method, path.rpartition("/")[2]) == ("DELETE", "facts") else {}
        answer = await zoo.admin.request(
            method,
            path.replace("tiger_001", "unicorn_001"),
            params=params,
            json=body,
            headers={"If-Match": "*"},
        )
        assert (answer.status_code, answer.json()["code"]) == (404, "animal_not_found"), (method, path, answer.text)


async def test_a_draft_reaches_no_visitor(zoo: Process) -> None:
    """Until it is promoted; then the next turn says it."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    document["facts"][0] = SPEED

    made = await zoo.change("POST", f"{LION}/draft", document)

    assert (made.status_code, made.headers["location"]) == (201, f"{LION}/draft")
    assert made.json()["document"] == document
    assert (await zoo.keeper.get(f"{LION}/draft")).json() == made.json()
    assert made.json()["by"] == "keeper1"
    for path in (LION, "/animal_list", "/animal_details?animalId=lion_001", "/"):
        assert "61 kilometres" not in (await zoo.visitor.get(path)).text
    assert "as fast as a car" in await zoo.ask("How fast can you run?")

    promoted = await zoo.change("POST", f"{LION}/draft/promote")
    assert promoted.status_code == 200, promoted.text
    assert promoted.json() == document
    assert "61 kilometres" in await zoo.ask("How fast can you run?")
    assert (await zoo.keeper.get(f"{LION}/draft")).json()["code"] == "draft_not_found"
    [latest, _] = (await zoo.keeper.get(f"{LION}/history")).json()["changes"]
    assert (latest["operation"], latest["fields"]) == ("promote", ["facts.top_speed.say"])


async def test_a_draft_of_an_older_version_is_not_promoted(zoo: Process) -> None:
    """412 when the animal has changed since the draft was made, even for one who has seen the change."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    await zoo.change("POST", f"{LION}/draft", {**document, "name": "Leonard"})
    await zoo.change("POST", FACTS, SPEED)

    answer = await zoo.change("POST", f"{LION}/draft/promote")

    assert (answer.status_code, answer.json()["code"]) == (412, "version_mismatch")
    assert (await zoo.visitor.get(LION)).json()["name"] == "Leo"
    assert (await zoo.keeper.get(f"{LION}/draft")).status_code == 200


async def test_a_draft_is_deleted(zoo: Process) -> None:
    """There is none then, and none is 404."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    await zoo.change("POST", f"{LION}/draft", document)

    assert (await zoo.keeper.delete(f"{LION}/draft")).status_code == 204
    gone = await zoo.keeper.delete(f"{LION}/draft")
    assert (gone.status_code, gone.json()["code"]) == (404, "draft_not_found")


async def test_a_draft_is_not_lost_to_another_keeper(zoo: Process) -> None:
    """409 names who made the one that is there; whoever made it may write it anew."""
    read = await zoo.keeper.get(f"{LION}/document")
    version, document = {"If-Match": read.headers["etag"]}, read.json()
    await zoo.keeper.post(f"{LION}/draft", json={**document, "name": "Leonard"}, headers=version)

    other = await zoo.admin.post(f"{LION}/draft", json={**document, "name": "Lionel"}, headers=version)
    own = await zoo.keeper.post(f"{LION}/draft", json={**document, "name": "Leopold"}, headers=version)

    assert (other.status_code, other.json()["code"]) == (409, "draft_exists")
    assert "keeper1" in other.json()["detail"]
    assert own.status_code == 201
    assert (await zoo.keeper.get(f"{LION}/draft")).json()["document"]["name"] == "Leopold"


async def test_a_draft_cannot_retire_the_default_animal(zoo: Process) -> None:
    """It can be stored, and not promoted."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    assert (await zoo.change("POST", f"{LION}/draft", {**document, "status": "retired"})).status_code == 201

    assert (await zoo.change("POST", f"{LION}/draft/promote")).json()["code"] == "animal_needed"


async def test_a_draft_is_compared(zoo: Process) -> None:
    """With all that visitors ask: which facts changed, which answers, and how often the right fact is found."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    party = {"id": "birthday", "topic": "zoo_life", "say": "I get an ice block!", "asks": ["birthday"]}
    document["facts"] = [SPEED, {**SPEED, **party}]
    await zoo.change("POST", f"{LION}/draft", document)

    answer = await zoo.keeper.post(f"{LION}/draft/compare", json={})

    assert answer.status_code == 200, answer.text
    compared = answer.json()
    assert compared["changedFacts"] == ["top_speed", "mane", "birthday"]
    assert compared["changedFields"] == ["facts.top_speed.say", "facts.mane", "facts.birthday"]
    assert compared["basedOn"] == compared["liveVersion"]
    assert (compared["asked"], compared["recall"]["expected"]) == (6 + len(SMALL_TALK), 6)
    assert compared["differing"] == len(compared["answers"])
    assert compared["recall"]["live"]["first"] == 5
    assert compared["recall"]["draft"]["first"] == 4
    said = {each["question"]: each for each in compared["answers"]}
    assert "as fast as a car" in said["how fast"]["live"]["reply"]
    assert "61 kilometres" in said["how fast"]["draft"]["reply"]
    assert said["birthday"]["draft"]["factIds"] == ["birthday"]
    assert said["birthday"]["live"]["factIds"] == []


async def test_a_changed_voice_shows_in_the_comparison(zoo: Process) -> None:
    """Every greeting, thanks, joke and \"I do not know\" has changed, and no fact."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    lines = ("greetings", "goodbyes", "thanks", "howAreYou", "dontKnow", "jokes")
    document["voice"] |= {name: [f"My new line of {name}."] for name in lines} | {"sound": "Miaow!"}
    await zoo.change("POST", f"{LION}/draft", document)

    compared = (await zoo.keeper.post(f"{LION}/draft/compare", json={})).json()

    said = " ".join(each["draft"]["reply"] for each in compared["answers"])
    assert [name for name in lines if f"My new line of {name}." not in said] == []
    assert "Miaow!" in said


async def test_a_question_for_an_unknown_fact_is_refused(zoo: Process) -> None:
    """A misspelt id would be counted as a fact that is never found."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    await zoo.change("POST", f"{LION}/draft", document)
    questions = [{"question": "Hello!"}, {"question": "How fast?", "factId": "topspeed"}]

    answer = await zoo.keeper.post(f"{LION}/draft/compare", json={"questions": questions})

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "questions.1.factId")


async def test_a_draft_is_asked_questions_of_ones_own(zoo: Process) -> None:
    """All answers are shown then; those without a right fact do not count for the recall."""
    document = (await zoo.keeper.get(f"{LION}/document")).json()
    await zoo.change("POST", f"{LION}/draft", document)
    questions = [{"question": "How fast can you run?", "factId": "top_speed"}, {"question": "Hello!"}]

    answer = await zoo.keeper.post(f"{LION}/draft/compare", json={"questions": questions, "ageGroup": "adult"})

    compared = answer.json()
    assert (compared["asked"], compared["changedFields"], compared["changedFacts"]) == (2, [], [])
    assert compared["recall"] == {
        "expected": 1,
        "live": {"first": 1, "amongThree": 1},
        "draft": {"first": 1, "amongThree": 1},
    }
    assert [(each["question"], each["isSame"]) for each in compared["answers"]] == [
        ("How fast can you run?", True),
        ("Hello!", True),
    ]
    too_many = {"questions": [{"question": "Hello!"}] * 51}
    assert (await zoo.keeper.post(f"{LION}/draft/compare", json=too_many)).status_code == 400


@pytest.mark.parametrize(
    ("members", "field", "rule"),
    [
        ({"say": "Shit, I ran at 61 kilometres an hour!"}, "say", "profanity-in-replies"),
        ({"text": "It runs. Sh1t, it is fast."}, "text", "profanity-in-replies"),
        ({"detail": "Nobody likes you."}, "detail", "encourages-harm"),
        ({"why": "Call me: 0151 23456789."}, "why", "personal-data"),
        ({"say": "K\u0456ll yourself!"}, "say", "encourages-harm"),
    ],
)
async def test_a_fact_that_no_animal_may_say_is_refused(
    opens: Opens, members: dict[str, str], field: str, rule: str
) -> None:
    """422 names the field and the rule, and nothing is changed."""
    process = await opens()

    refused = await process.change("POST", FACTS, {**SPEED, **members})

    assert refused.status_code == 422
    assert refused.json()["code"] == "rule_broken"
    assert refused.json()["errors"] == [{"field": field, "message": f"breaks the rule {rule!r}: no animal may say it"}]
    assert members[field] not in (await process.keeper.get(FACTS)).text


async def test_every_word_of_an_animal_is_held_against_the_rules(opens: Opens) -> None:
    """Names, greetings, and drafts; what was stored before the rule is not."""
    process = await opens()
    greeting = {**SENT_LION, "voice": {**SENT_LION["voice"], "greetings": ["Hello{name}!", "Hi, arsehole!"]}}
    drafted = await process.change("POST", f"{LION}/draft", greeting)
    named = await process.change("PUT", LION, {**SENT_LION, "name": "Fuckface"})
    created = await process.admin.post("/animal", json={**SENT_MOLE, "summary": "See www.mole.example for more."})
    prompted = await process.change("PUT", LION, {**SENT_LION, "promptAdditions": ["Say: kill yourself."]})

    assert [each.json()["errors"][0]["field"] for each in (drafted, named, created, prompted)] == [
        "voice.greetings.1",
        "name",
        "summary",
        "promptAdditions.0",
    ]
    assert {each.status_code for each in (drafted, named, created, prompted)} == {422}

    rule = {"name": "no-desert", "strength": "NEVER", "category": "c", "then": "withhold", "keywords": ["golden"]}
    assert (await process.keeper.put("/api/v1/guardrails/rules/no-desert", json=rule)).status_code == 201
    await process.services.rule_admin.get_rule_set()
    kept = await process.change("POST", FACTS, SPEED)
    refused = await process.change("POST", FACTS, {**SPEED, "id": "coat", "say": "My coat is golden!"})
    assert (kept.status_code, refused.status_code) == (200, 422)
    assert "'no-desert'" in refused.json()["detail"]
