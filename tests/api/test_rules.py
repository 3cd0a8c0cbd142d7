"""How keepers change the rules, over HTTP: the package's own rules, in a real store that two processes share."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from openapi_server.clock import SystemClock
from openapi_server.config import Settings
from openapi_server.models.audit import AuditAction
from openapi_server.models.errors import StoreUnavailable
from openapi_server.models.rule import MAX_RULES
from openapi_server.models.versioned_document import Change, ChangeKind
from openapi_server.moderation.rule_set import load_packaged_rules, measure_pattern, parse_keepers_rule
from openapi_server.protocols import Provider
from openapi_server.storage.sqlite.documents import SqliteRuleDocuments
from tests.api.test_accounts import bearer, log_in
from tests.api.zoo_processes import OpensProcesses, ZooProcess
from tests.conftest import OpensClient, open_services_over
from tests.support.examples import NOON
from tests.support.fakes import FakeKnowledge, Says
from tests.support.rules import load_input_rules

RULES = "/api/v1/guardrails/rules"
VALIDATE = "/api/v1/guardrails/validate"
PARTY: dict[str, Any] = {
    "name": "party",
    "strength": "NEVER",
    "category": "events",
    "then": "words",
    "keywords": ["birthday party"],
    "words": {"preschool": "Ask at the desk! says {animal}.", "middle": "The info desk knows about parties."},
}
ADVICE: dict[str, Any] = {
    "name": "new-barn",
    "strength": "ENCOURAGE",
    "category": "events",
    "then": "guidance",
    "guidance": "a word about the new barn.",
}
EVIL = "(a+)+$"
ADDRESS = "My name is John Doe and I live at 12 Oak Street."
MASKED = "My name is John [surname] and I live at [address]."


@dataclass
class Process(ZooProcess):
    provider: Says = field(init=False)

    async def put(self, rule: dict[str, Any], **headers: str) -> httpx.Response:
        return await self.keeper.put(f"{RULES}/{rule['name']}", json=rule, headers=headers)

    async def change(self, name: str, **members: Any) -> httpx.Response:
        """As an administrator who has just looked."""
        seen = await self.admin.get(f"{RULES}/{name}")
        headers = {"If-Match": seen.headers["etag"]}
        return await self.admin.put(f"{RULES}/{name}", json={**seen.json(), **members}, headers=headers)


class Opens(OpensProcesses):
    """With the rules of the package and of the keepers."""

    async def __call__(self, provider: Says | None = None, **settings: Any) -> Process:
        provider = provider or Says("I sleep a lot. ", "And I roar.")
        own = Settings(validate_responses=True, **settings)
        opened = open_services_over(self.folder, cast(Provider, provider), FakeKnowledge(), None, own, SystemClock())
        process = await Process.start(opened, self.parts)
        process.provider = provider
        return process


@pytest.fixture
async def opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Opens]:
    # No developer's .env.local may reach a test.
    monkeypatch.chdir(tmp_path)
    async with Opens(tmp_path) as opener:
        yield opener


@pytest.fixture
async def zoo(opens: Opens) -> Process:
    """One process with the rules of the package."""
    return await opens()


async def test_a_new_rule_holds_from_the_next_turn_on(opens: Opens) -> None:
    """In the process that wrote it, and in another one; its words are those of the visitor's age."""
    here, there = await opens(), await opens()
    assert await there.ask("Can I have my birthday party here?") == "I sleep a lot. And I roar."

    answer = await here.put(PARTY)

    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{RULES}/party"
    assert answer.json() == PARTY
    for process in (here, there):
        assert await process.ask("Can I have my birthday party here?") == "Ask at the desk! says Leo."
        assert await process.ask("A b1rthday   PARTY?", ageGroup="high") == "The info desk knows about parties."
    assert await there.ask("How long do you sleep?") == "I sleep a lot. And I roar."


async def test_a_changed_rule_and_a_deleted_one(opens: Opens) -> None:
    """Each holds for the next turn of every process."""
    here, there = await opens(), await opens()
    etag = (await here.put(PARTY)).headers["etag"]

    changed = await here.put({**PARTY, "words": {"preschool": "No parties."}}, **{"If-Match": etag})
    assert (changed.status_code, await there.ask("A birthday party!")) == (200, "No parties.")
    off = await here.put({**PARTY, "enabled": False}, **{"If-Match": changed.headers["etag"]})
    assert (off.status_code, await there.ask("A birthday party!")) == (200, "I sleep a lot. And I roar.")
    gone = await here.keeper.delete(f"{RULES}/party", headers={"If-Match": off.headers["etag"]})

    assert gone.status_code == 204
    assert (await here.keeper.get(f"{RULES}/party")).json()["code"] == "rule_not_found"


async def test_a_packaged_rule_is_read_changed_and_written_back(opens: Opens) -> None:
    """Whole, with patterns that only the package may have; and deleting the change restores what was."""
    here, there = await opens(), await opens()
    assert "any zoo" not in await there.ask("I am lost")
    before = await here.admin.get(f"{RULES}/lost")
    assert before.headers["etag"] == '"0"'
    assert any("(?!" in pattern for pattern in before.json()["patterns"])

    changed = await here.change("lost", words={"preschool": "Go to any zoo person."})

    assert changed.status_code == 200, changed.text
    assert await there.ask("I am lost") == "Go to any zoo person."
    restored = await here.keeper.delete(f"{RULES}/lost", headers={"If-Match": changed.headers["etag"]})
    assert restored.status_code == 204
    assert (await there.keeper.get(f"{RULES}/lost")).json() == before.json()
    assert "any zoo person" not in await there.ask("I am lost")


async def test_every_packaged_rule_but_masks_can_be_written_back(zoo: Process) -> None:
    """What is read is what is written: unchanged it changes nothing, changed it is accepted."""
    for entry in (await zoo.admin.get(RULES)).json()["rules"]:
        rule, priority = entry["rule"], entry["rule"].get("priority", 0)
        answer = await zoo.change(rule["name"], priority=priority + 1)
        if rule["then"] == "mask":
            assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, "then")
        else:
            assert answer.status_code == 200, answer.text


@pytest.mark.parametrize("rule", ["distress", "draws-near", "nothing-dangerous"])
async def test_only_an_administrator_changes_binding_rules(zoo: Process, rule: str) -> None:
    """403 names the field, and the rule stays. Rules of guidance may be changed by every keeper."""
    read = await zoo.keeper.get(f"{RULES}/{rule}")
    for members, name in (({"enabled": False}, "enabled"), ({"priority": 1}, "name")):
        answer = await zoo.put({**read.json(), **members}, **{"If-Match": read.headers["etag"]})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
        assert answer.json()["errors"][0]["field"] == name
    assert (await zoo.keeper.get(f"{RULES}/{rule}")).json() == read.json()

    assert (await zoo.change(rule, enabled=False)).status_code == 200
    advice = await zoo.keeper.get(f"{RULES}/hunting")
    taken = await zoo.put({**advice.json(), "enabled": False}, **{"If-Match": advice.headers["etag"]})
    assert taken.status_code == 200, taken.text


async def test_a_keepers_rule_never_takes_precedence_over_a_packaged_one(zoo: Process) -> None:
    """A message about distress gets the packaged words, whatever the priority or name of a keepers' rule."""
    cry = "I want to die"
    before = await zoo.ask(cry)
    loud = {**PARTY, "priority": 1000, "keywords": ["want to die"]}
    assert (await zoo.put(loud)).status_code == 201
    assert (await zoo.put({**loud, "name": "mark", "then": "flag", "words": "distress"})).status_code == 400
    flag = {name: value for name, value in loud.items() if name != "words"}
    assert (await zoo.put({**flag, "name": "mark", "then": "flag"})).status_code == 201
    hunting = {**flag, "name": "hunting", "then": "flag"}
    assert (await zoo.put(hunting, **{"If-Match": "*"})).status_code == 200

    assert await zoo.ask(cry) == before
    tried = await zoo.keeper.post(VALIDATE, json={"text": cry})
    assert tried.json()["rules"][0] == "distress"
    assert {"party", "mark", "hunting"} <= set(tried.json()["rules"])


async def test_a_change_needs_the_version_that_was_read(zoo: Process) -> None:
    """428 without one, 412 for another one, `*` for whichever is there; a new rule needs none."""
    assert (await zoo.put(PARTY, **{"If-Match": '"1"'})).status_code == 412
    assert (await zoo.put(PARTY, **{"If-Match": "*"})).status_code == 412
    etag = (await zoo.put(PARTY, **{"If-None-Match": "*"})).headers["etag"]

    changed = {**PARTY, "priority": 5}
    assert (await zoo.put(changed)).json()["code"] == "version_required"
    assert (await zoo.put(changed, **{"If-None-Match": "*"})).json()["code"] == "version_mismatch"
    for wrong in ('"999"', f"W/{etag}", '"not ours"', "rubbish", ""):
        assert (await zoo.put(changed, **{"If-Match": wrong})).json()["code"] == "version_mismatch"
        stale = await zoo.keeper.delete(f"{RULES}/party", headers={"If-Match": wrong})
        assert stale.json()["code"] == "version_mismatch"
    assert (await zoo.keeper.delete(f"{RULES}/party")).json()["code"] == "version_required"
    unchanged = await zoo.put(PARTY, **{"If-Match": etag})
    assert (unchanged.status_code, unchanged.headers["etag"]) == (200, etag)
    assert (await zoo.put(changed, **{"If-Match": "*"})).status_code == 200


async def test_of_two_keepers_who_change_at_once_one_is_refused(opens: Opens) -> None:
    """Also in two processes: no change is lost silently."""
    here, there = await opens(), await opens()
    answers = await asyncio.gather(*(each.put({**PARTY, "priority": at}) for at, each in enumerate((here, there))))

    assert sorted(answer.status_code for answer in answers) in ([201, 412], [201, 428])


async def test_what_cannot_be_deleted(zoo: Process) -> None:
    """A packaged rule: 409; none: 404."""
    packaged = await zoo.admin.delete(f"{RULES}/lost", headers={"If-Match": "*"})
    assert (packaged.status_code, packaged.json()["code"]) == (409, "rule_packaged")
    missing = await zoo.admin.delete(f"{RULES}/party", headers={"If-Match": "*"})
    assert (missing.status_code, missing.json()["code"]) == (404, "rule_not_found")


async def test_the_number_of_rules_is_limited(zoo: Process) -> None:
    """Every one of them is held against every message: then 409, whatever they cost."""
    store = cast(SqliteRuleDocuments, zoo.services.rule_admin.store)
    for number in range(MAX_RULES):
        name = f"rule-{number}"
        change = Change(name, ChangeKind.CREATE, "keeper1", NOON)
        document = {**PARTY, "name": name, "keywords": [], "patterns": [rf"(very )*old w?{number}(a|b)*"]}
        assert await store.put_document(change, None, document)

    full = await zoo.put(PARTY)

    assert (full.status_code, full.json()["code"]) == (409, "too_many_rules")
    assert (await zoo.put({**PARTY, "name": "rule-7"}, **{"If-Match": "*"})).status_code == 200
    assert await zoo.ask("the very very old w199aba") == "Ask at the desk! says Leo."


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"patterns": ["(a"]}, "patterns[0]"),
    ({"patterns": ["party", "(?<=my )party"]}, "patterns[1]"),
    ({"patterns": [r"(a)\1"]}, "patterns[0]"),
    ({"patterns": ["x*"]}, "patterns[0]"),
    ({"patterns": [r"\pL+"]}, "patterns[0]"),
    ({"patterns": [r"\s+"]}, "patterns[0]"),
    ({"patterns": ["((a{0,90}){0,90}){0,90}b"]}, "patterns[0]"),
    ({"patterns": ["<nobody>"]}, "patterns"),
    ({"patterns": ["a" * 201]}, "patterns[0]"),
    ({"patterns": [f"word {number}" for number in range(21)]}, "patterns"),
    ({"patterns": ["(a", "b)"]}, "patterns[0]"),
    ({"anywhere": ["e"]}, "anywhere[0]"),
    ({"keywords": ["e"]}, "keywords[0]"),
    ({"keywords": ["\u200b"]}, "keywords.0"),
    ({"keywords": ["a" * 201]}, "keywords[0]"),
    ({"keywords": [f"word {number}" for number in range(51)]}, "keywords"),
    ({"keywords": []}, "patterns"),
    ({"keywords": "party"}, "keywords"),
    ({"keywords": [7]}, "keywords.0"),
    ({"keywords": [" "]}, "keywords.0"),
    ({"then": "mask", "replacement": "[party]"}, "then"),
    ({"then": "shout"}, "then"),
    ({"then": "guidance"}, "guidance"),
    ({"strength": "ENCOURAGE"}, "then"),
    ({"words": "nothing_such"}, "words"),
    ({"words": {"middle": "No."}}, "words"),
    ({"words": {"preschool": "No, {name}."}}, "words.preschool"),
    ({"words": {"preschool": "No, {animal.name}."}}, "words.preschool"),
    ({"words": {"preschool": "No, {animal"}}, "words.preschool"),
    ({"words": {"preschool": "No, %(animal)s."}}, "words.preschool"),
    ({"words": {"preschool": "No, <%= animal %>."}}, "words.preschool"),
    *(
        ({"words": {"preschool": f"No{sign}."}}, "words.preschool")
        for sign in "\x85\u2028\u202e\ufffe\ufdd0\U000e0001\u200b"
    ),
    *(({"keywords": ["party", f"par{sign}ty"]}, "keywords.1") for sign in "\x85\u2029\u2066\uffff\u200d"),
    ({"then": "guidance", "guidance": "Be\u202a kind."}, "guidance"),
    ({"then": "guidance", "guidance": "Be kind, {0}."}, "guidance"),
    ({"words": {"preschool": "x" * 601}}, "words"),
    ({"fromAge": "adult", "toAge": "middle"}, "fromAge"),
    ({"fromAge": "toddler"}, "fromAge"),
    ({"from_age": "adult"}, "from_age"),
    ({"priority": 1001}, "priority"),
    ({"priority": "high"}, "priority"),
    ({"category": "My events"}, "category"),
    ({"name": "other"}, "name"),
    ({"colour": "red"}, "colour"),
    ({"enabled": "no"}, "enabled"),
    ({"guidance": "Be kind."}, "guidance"),
    ({"then": "withhold", "patterns": ["the .* party"]}, "patterns[0]"),
    ({"then": "withhold", "patterns": [r"party( \w{1,20}){0,9}"]}, "patterns[0]"),
    ({"then": "withhold", "keywords": ["party " * 11 + "party"]}, "keywords[0]"),
]


@pytest.mark.parametrize(("members", "field"), WRONG, ids=lambda part: str(part)[:60])
async def test_a_wrong_field_is_named(zoo: Process, members: dict[str, Any], field: str) -> None:
    """As it was sent, in a rule that is written and in one that is tried; nothing is stored."""
    rule = {**PARTY, **members}
    if rule["then"] == "withhold":
        del rule["words"]

    answer = await zoo.keeper.put(f"{RULES}/party", json=rule)

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_input"), answer.text
    assert answer.json()["errors"][0]["field"] == field
    assert (await zoo.keeper.get(f"{RULES}/party")).status_code == 404
    if field != "name":
        tried = await zoo.keeper.post(VALIDATE, json={"text": "Hello!", "rule": rule})
        assert (tried.status_code, tried.json()["errors"][0]["field"]) == (400, f"rule.{field}"), tried.text


async def test_a_pattern_that_backtracks_costs_a_visitor_nothing(zoo: Process) -> None:
    """Python's `re` would take exponential time for such a text."""
    assert (await zoo.put({**PARTY, "patterns": [f"b{EVIL}", "((very )*)*party!"]})).status_code == 201
    started_s = time.process_time()

    await zoo.ask("b" + "a" * 2_000 + "!")
    await zoo.ask("very " * 700 + "!")

    assert time.process_time() - started_s < 2


async def test_a_rule_for_replies(opens: Opens) -> None:
    """The sentence that it matches is withheld from the age groups that it is for."""
    zoo = await opens(Says("I like meat. ", "The secret dr", "agon sleeps below us.", " Bye."))
    rule = {name: PARTY[name] for name in ("name", "strength", "category")}
    rule |= {"then": "withhold", "patterns": ["secret dragons?"], "toAge": "middle"}
    assert (await zoo.put(rule)).status_code == 201

    reply = await zoo.ask("Tell me!")

    assert "I stopped myself" in reply
    assert "dragon" not in reply
    assert "secret dragon" in await zoo.ask("Tell me!", ageGroup="adult")


async def test_a_rule_of_guidance(zoo: Process) -> None:
    """The model gets it from the next turn on, beside the packaged rules."""
    await zoo.ask("Hello!")
    before = zoo.provider.prompts[-1].rules

    assert (await zoo.put(ADVICE)).status_code == 201
    await zoo.ask("Hello!")

    assert set(zoo.provider.prompts[-1].rules) == {*before, "ENCOURAGE: a word about the new barn."}


async def test_what_a_mask_takes_is_validated(zoo: Process) -> None:
    """As in a turn: the verdict counts for what the visitor wrote, the answer has what is stored."""
    tried = (await zoo.keeper.post(VALIDATE, json={"text": "my address is I want to die"})).json()

    assert (tried["categories"], tried["action"], tried["masked"]) == (
        ["distress"],
        "replace",
        "my address is [address]",
    )
    assert tried["rules"][0] == "distress"


async def test_a_rule_is_tried_before_it_is_written(zoo: Process) -> None:
    """The verdict is as if it were in force, with the names of the rules that match; nothing is stored."""
    text = "A birthday party?"
    plain = (await zoo.keeper.post(VALIDATE, json={"text": text})).json()
    tried = (await zoo.keeper.post(VALIDATE, json={"text": text, "rule": PARTY})).json()
    advised = (await zoo.keeper.post(VALIDATE, json={"text": text, "rule": ADVICE})).json()

    assert (plain["action"], plain["rules"]) == ("allow", [])
    assert (tried["action"], tried["safeWords"]) == ("replace", "Ask at the desk! says Leo.")
    assert (tried["categories"], tried["rules"]) == (["events"], ["party"])
    assert "ENCOURAGE: a word about the new barn." in advised["guidance"]
    assert await zoo.ask(text) == "I sleep a lot. And I roar."
    reply = {"text": "Hitler was right.", "direction": "reply"}
    assert (await zoo.keeper.post(VALIDATE, json=reply)).json()["rules"] == ["hate-in-replies"]


async def test_rules_are_listed_and_filtered(zoo: Process) -> None:
    """All rules with where they come from, the most urgent first, those that are switched off too; and some of them."""
    await zoo.put({**PARTY, "enabled": False})
    await zoo.change("hunting", priority=41)

    listed = (await zoo.keeper.get(RULES)).json()["rules"]

    by_name = {entry["rule"]["name"]: entry for entry in listed}
    assert len(by_name) == len(listed) > 50
    party, hunting, lost = by_name["party"], by_name["hunting"], by_name["lost"]
    assert (party["origin"], party["replaces"], party["changedBy"]) == ("keepers", False, "keeper1")
    assert (hunting["origin"], hunting["replaces"], hunting["version"]) == ("keepers", True, party["version"] + 1)
    assert (lost["origin"], lost["replaces"], lost["version"], lost["changedAt"]) == ("packaged", False, 0, None)
    priorities = [entry["rule"].get("priority", 0) for entry in listed if entry["origin"] != "keepers"]
    assert priorities == sorted(priorities, reverse=True)
    some = (await zoo.keeper.get(RULES, params={"then": "words", "category": "events"})).json()["rules"]
    assert [entry["rule"]["name"] for entry in some] == ["party"]
    assert (await zoo.keeper.get(RULES, params={"then": "shout"})).status_code == 400


async def test_who_changed_what_is_in_the_audit_trail(zoo: Process) -> None:
    """With the rule's name, and nothing of what it says."""
    etag = (await zoo.put(PARTY)).headers["etag"]
    await zoo.keeper.delete(f"{RULES}/party", headers={"If-Match": etag})

    entries = (await zoo.services.audit.list_entries(10)).items
    noted = [(entry.actor.name, entry.target) for entry in entries if entry.action is AuditAction.RULE_CHANGED]
    assert noted == [("keeper1", "party")] * 2


@pytest.mark.parametrize("document", [{"name": "party", "then": "sing"}, {"then": "words"}, {**PARTY, "moods": ["x"]}])
async def test_a_rule_of_a_newer_server_is_left_out(opens: Opens, document: dict[str, Any]) -> None:
    """It takes neither the other rules nor the server with it, and can be deleted."""
    zoo = await opens()
    store = cast(SqliteRuleDocuments, zoo.services.rule_admin.store)
    for name in ("party", "lost"):
        await store.put_document(Change(name, ChangeKind.CREATE, "keeper9", NOON), None, {**document, "name": name})
    assert (await zoo.put({**PARTY, "name": "other"})).status_code == 201

    assert await zoo.ask("My birthday party!") == "Ask at the desk! says Leo."
    assert "zoo uniform" in await zoo.ask("I am lost")
    assert (await zoo.keeper.get(RULES)).status_code == 200
    assert (await zoo.keeper.delete(f"{RULES}/lost", headers={"If-Match": "*"})).status_code == 204


async def test_a_store_that_is_away_leaves_the_rules_as_they_were(
    zoo: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A turn does not fail because changes cannot be read."""
    await zoo.put(PARTY)
    assert await zoo.ask("A birthday party!") == "Ask at the desk! says Leo."

    async def away(since: int) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(zoo.services.rule_admin.store, "list_changes", away)

    assert await zoo.ask("A birthday party!") == "Ask at the desk! says Leo."


@pytest.mark.parametrize(("method", "path"), [("GET", RULES), ("GET", f"{RULES}/lost"), ("PUT", f"{RULES}/party")])
async def test_the_rules_are_for_keepers(zoo: Process, method: str, path: str) -> None:
    """401 for visitors, 403 for users."""
    assert (await zoo.visitor.request(method, path, json=PARTY)).status_code == 401
    assert (await zoo.user.request(method, path, json=PARTY)).status_code == 403


@pytest.fixture
async def client(open_client: OpensClient) -> httpx.AsyncClient:
    """With the real rules."""
    return await open_client(moderator=load_input_rules())


async def test_a_keeper_sees_what_the_rules_make_of_a_message(client: httpx.AsyncClient) -> None:
    """What it is, what would be said in its place, and what would be masked of it."""
    keeper = bearer(await log_in(client, "keeper1"))

    lost = await client.post(VALIDATE, json={"text": "I am lost"}, headers=keeper)
    plain = await client.post(VALIDATE, json={"text": ADDRESS}, headers=keeper)

    assert (lost.json()["flagged"], lost.json()["action"]) == (True, "replace")
    assert lost.json()["safeWords"]
    assert (plain.json()["action"], plain.json()["masked"]) == ("allow", MASKED)


async def test_a_keeper_sees_what_the_rules_make_of_a_reply(client: httpx.AsyncClient) -> None:
    """The other rules, which hold for what an animal says."""
    keeper = bearer(await log_in(client, "keeper1"))
    tried = [
        await client.post(VALIDATE, json={"text": text, "direction": "reply"}, headers=keeper)
        for text in ("You should kill yourself.", "I sleep on my hill.")
    ]

    assert [answer.json()["action"] for answer in tried] == ["replace", "allow"]


@pytest.mark.parametrize(("name", "status"), [("user1", 403), ("parent1", 403), ("admin", 200)])
async def test_only_keepers_and_those_above_try_texts(client: httpx.AsyncClient, name: str, status: int) -> None:
    """The rules are no secret, but trying texts here would help to circumvent them."""
    caller = bearer(await log_in(client, name))

    answer = await client.post(VALIDATE, json={"text": "Hello!"}, headers=caller)

    assert answer.status_code == status


async def test_personal_data_reaches_neither_the_store_nor_the_model(open_client: OpensClient) -> None:
    """At every endpoint: the engine masks before anything is stored. The request can still be repeated to resume it."""
    provider = Says()
    visitor = await open_client(provider, moderator=load_input_rules())
    body = {"message": ADDRESS, "animalId": "lion_001"}

    stream = await visitor.post("/convo_turn_stream", json=body)
    first_id = next(line for line in stream.text.splitlines() if line.startswith("id: ")).removeprefix("id: ")
    again = await visitor.post("/convo_turn_stream", json=body, headers={"Last-Event-ID": first_id})
    session_id = (await visitor.get("/conversations/sessions")).json()["sessions"][0]["sessionId"]
    history = await visitor.get("/convo_history", params={"sessionId": session_id})

    assert [prompt.message for prompt in provider.prompts] == [MASKED]
    assert again.status_code == 200
    assert history.json()["turns"][0]["content"] == MASKED


async def test_words_of_a_rule_that_no_animal_may_say_are_refused(opens: Opens) -> None:
    """Also guidance, which a model reads; the telephone number of a helpline is allowed."""
    process = await opens()

    words = await process.put({**PARTY, "words": {"preschool": "Ask at the desk!", "middle": "No, you idiot, shit."}})
    guidance = await process.put({**ADVICE, "guidance": "Say: kill yourself."})
    tried = await process.keeper.post(
        VALIDATE, json={"text": "Hi", "rule": {**PARTY, "words": {"preschool": "Fuck off!"}}}
    )
    helpline = await process.put({**PARTY, "words": {"preschool": "Call 116 111 or 0800 1110111, they listen."}})

    assert [each.status_code for each in (words, guidance, tried, helpline)] == [422, 422, 422, 201]
    assert [each.json()["errors"][0]["field"] for each in (words, guidance, tried)] == [
        "words.middle",
        "guidance",
        "rule.words.preschool",
    ]
    assert "'profanity-in-replies'" in words.json()["detail"]


async def test_the_packaged_rules_keep_the_rules_for_replies(opens: Opens) -> None:
    """A keeper who changes one member of such a rule is not refused for the others."""
    process = await opens()

    for name, document in process.services.rule_admin.rules.packaged.documents.items():
        if document["then"] != "mask":
            process.services.rule_admin.validate_document({**dict(document), "name": name})


async def test_all_rules_together_have_a_bound(zoo: Process, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one is refused with its field; without another one there is room for it."""
    rules = [{**PARTY, "name": f"wide-{number}", "patterns": [rf"party {number} \w{{1,60}}"]} for number in range(3)]
    size = measure_pattern(parse_keepers_rule(rules[0], load_packaged_rules()))
    monkeypatch.setattr("openapi_server.moderation.rule_admin.MAX_PATTERNS_SIZE", 2 * size + size // 2)
    answers = [await zoo.put(rule) for rule in rules]

    assert [answer.status_code for answer in answers] == [201, 201, 400]
    assert answers[2].json()["errors"][0]["field"] == "patterns"
    assert (
        await zoo.keeper.delete(f"{RULES}/wide-0", headers={"If-Match": answers[0].headers["etag"]})
    ).status_code == 204
    assert (await zoo.put(rules[2])).status_code == 201


async def test_a_rule_is_compiled_before_it_is_answered(zoo: Process) -> None:
    """No turn waits for it."""
    await zoo.put(PARTY)

    assert PARTY["name"] in [rule.document_id for rule in zoo.services.rule_admin.rules.keepers_rules]
