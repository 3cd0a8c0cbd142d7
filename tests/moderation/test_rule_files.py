"""Rules as data: what is wrong in a file stops the start, and names the rule and the field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from openapi_server.models.turn import AgeGroup
from openapi_server.moderation.input_rules import GUIDANCE_FILE, INPUT_RULES_FILE
from openapi_server.moderation.output_rules import OUTPUT_RULES_FILE
from openapi_server.moderation.rule_files import KeepersRule, RuleFileError, read_rules
from openapi_server.moderation.rules import Action
from openapi_server.spec import load_spec
from tests.support.fakes import make_lion
from tests.support.json_schemas import normalize_model, normalize_schema

GOOD = {"name": "a", "strength": "NEVER", "category": "c", "then": "words", "words": "w", "keywords": ["k"]}
WORDINGS = {"w": {"preschool": "No, {animal} says."}}


def written(path: Path, rule: object, **top: object) -> Path:
    file = path / "some.yaml"
    file.write_text(yaml.safe_dump({"wordings": WORDINGS, "rules": [rule], **top}), encoding="utf-8")
    return file


WRONG: list[tuple[str, dict[str, object], str]] = [
    ("an unknown action", {"then": "warn"}, "then"),
    ("no action", {"then": None}, "then"),
    ("an unknown strength", {"strength": "SOMETIMES"}, "strength"),
    ("advice that would end a reply", {"strength": "DISCOURAGE"}, "then"),
    ("keywords that are no list", {"keywords": "k"}, "keywords"),
    ("an empty keyword", {"keywords": [" "]}, "keywords"),
    ("a pattern that is none", {"patterns": ["(a"]}, "patterns"),
    ("two patterns that are one together", {"patterns": ["(a", "b)"]}, "patterns"),
    ("a term that is not there", {"patterns": ["<who>"]}, "patterns"),
    ("a term that needs itself", {"patterns": ["<loop>"]}, "patterns"),
    ("nothing to look for", {"keywords": []}, "patterns"),
    ("words that are not there", {"words": "x"}, "words"),
    ("no words", {"words": None}, "words"),
    ("a priority in words", {"priority": "high"}, "priority"),
    ("a truth for a priority", {"priority": True}, "priority"),
    ("an unknown age", {"from_age": "toddler"}, "from_age"),
    ("ages the wrong way round", {"from_age": "adult", "to_age": "middle"}, "from_age"),
    ("a key nobody knows", {"keyword": ["k"]}, "keyword"),
    ("a blank category", {"category": " "}, "category"),
    ("guidance without a text", {"then": "guidance"}, "guidance"),
    ("a mask without its replacement", {"then": "mask"}, "replacement"),
]


def test_the_format_is_the_one_of_the_contract() -> None:
    """Files and requests have the same members, required or not, with the same limits and choices.

    Requests are stricter in four places: a name that cannot exist does no harm in a file, and a blank
    replacement is refused there by the rule's action.
    """
    spec = load_spec()
    contract = normalize_schema(spec["components"]["schemas"]["GuardrailRule"], spec)
    texts = contract["properties"]["groups"]
    assert contract["properties"]["animals"].pop("items").keys() == {"type", "pattern", "maxLength"}
    assert contract["properties"]["words"]["oneOf"][0].pop("pattern")
    assert contract["properties"]["words"]["oneOf"][0].pop("maxLength")
    assert contract["properties"]["replacement"].pop("maxLength")
    assert contract["properties"]["replacement"].pop("pattern")
    contract["properties"]["animals"]["items"] = texts["items"]

    assert normalize_model(KeepersRule) == contract


@pytest.mark.parametrize(("change", "field"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_named_with_its_rule_and_field(tmp_path: Path, change: dict[str, object], field: str) -> None:
    """The alternative is a rule that looks at nothing, or at everything, and nobody hears of it."""
    file = written(tmp_path, GOOD | change, terms={"loop": "a <loop>"})

    with pytest.raises(RuleFileError, match=r"^some\.yaml: rule 'a': ") as error:
        read_rules(file)

    assert error.value.field == field


@pytest.mark.parametrize(
    ("rule", "top", "complaint"),
    [
        ({"strength": "NEVER"}, {}, "rule 1: then"),
        ("a text", {}, "rule 1: .all of it.: must be a mapping"),
        (GOOD, {"rules": []}, "rules: must be a list that is not empty"),
        (GOOD, {"rules": [GOOD, GOOD]}, "two of them have the name 'a'"),
        (GOOD, {"ruels": []}, "ruels: is not a key"),
        (GOOD, {"wordings": {"w": {"adult": "No."}}}, "wordings 'w': preschool: is missing"),
        (GOOD, {"wordings": {"w": {"preschool": "No, {name}."}}}, "wordings 'w': preschool: the only placeholder"),
        (GOOD, {"wordings": {"w": {"preschool": "No.", "baby": "No."}}}, "wordings 'w': baby: is not a key"),
    ],
)
def test_what_belongs_to_no_rule_is_named_too(
    tmp_path: Path, rule: object, top: dict[str, object], complaint: str
) -> None:
    """A rule without a name goes by its place; wordings and the file as a whole by what they are."""
    with pytest.raises(RuleFileError, match=complaint):
        read_rules(written(tmp_path, rule, **top))


@pytest.mark.parametrize("content", [b"rules: [", b"\xff\xfe", b"[]"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    """Broken YAML, no UTF-8, no mapping."""
    file = tmp_path / "some.yaml"
    file.write_bytes(content)

    with pytest.raises(RuleFileError, match="the whole file"):
        read_rules(file)


def test_the_most_urgent_rule_comes_first(tmp_path: Path) -> None:
    """By priority; of equals the stronger, then the one that stands first in the file."""
    advice = {"category": "c", "then": "guidance", "guidance": "g"}
    rules = [
        {"name": "taste", "strength": "ENCOURAGE", "priority": 5, **advice},
        {"name": "order", "strength": "NEVER", "priority": 5, **advice},
        {"name": "second order", "strength": "NEVER", "priority": 5, **advice},
        {"name": "urgent", "strength": "DISCOURAGE", "priority": 9, **advice},
    ]

    book = read_rules(written(tmp_path, None, rules=rules))

    assert [rule.name for rule in book.rules] == ["urgent", "order", "second order", "taste"]


@pytest.mark.parametrize(
    ("file", "actions"),
    [
        (INPUT_RULES_FILE, {Action.WORDS, Action.FLAG, Action.MASK}),
        (GUIDANCE_FILE, {Action.GUIDANCE}),
        (OUTPUT_RULES_FILE, {Action.WITHHOLD}),
    ],
)
def test_the_zoos_own_files_hold_what_they_are_for(file: Path, actions: set[Action]) -> None:
    """A rule in the wrong file would be read and never be asked."""
    assert {rule.action for rule in read_rules(file).rules} <= actions


@pytest.mark.parametrize("file", [INPUT_RULES_FILE, OUTPUT_RULES_FILE])
@pytest.mark.parametrize("age_group", AgeGroup)
def test_every_fixed_text_can_be_said_to_every_age(file: Path, age_group: AgeGroup) -> None:
    """One line, no gap, and short enough to be read on a small screen."""
    for name, wording in read_rules(file).wordings.items():
        text = wording.get_text(age_group, make_lion())
        assert "{" not in text, name
        assert "\n" not in text, name
        assert len(text) < 500, name
