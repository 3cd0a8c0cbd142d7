"""What a client sends along as an object: masked as a message is, and the rest of it untouched."""

from __future__ import annotations

import json

import pytest

from openapi_server.moderation.input_rules import InputRules
from openapi_server.moderation.pii.mask import mask_json

MASK = InputRules.load().mask_pii

PERSONAL = [
    ({"note": "call 555-123-4567"}, {"note": "call [phone number]"}),
    ({"phone": "5551234"}, {"phone": "[phone number]"}),
    ({"phoneNumber": 491512345678}, {"phoneNumber": "[phone number]"}),
    ({"lastName": "Doe"}, {"lastName": "[surname]"}),
    ({"child_surname": "Doe"}, {"child_surname": "[surname]"}),
    ({"name": "Mia Smith"}, {"name": "Mia [surname]"}),
    ({"school": "Oakwood Primary"}, {"school": "[school]"}),
    ({"visitor": {"address": ["12 Oak Street"]}}, {"visitor": {"address": ["[address]"]}}),
    ({"mia@example.com": True}, {"[e-mail address]": True}),
]


@pytest.mark.parametrize(("sent", "kept"), PERSONAL)
def test_personal_data_in_an_object_is_masked(sent: object, kept: object) -> None:
    """In values, in names of members, at any depth; a member's name says what its value is."""
    assert json.loads(mask_json(json.dumps(sent), MASK)) == kept


def test_what_is_not_personal_in_an_object_stays() -> None:
    """To the byte: times, versions, places of kiosks."""
    text = (
        '{"kiosk":"north-gate","at":1732170000,"atMs":1732170000000,"lat":52.520008,"lang":"en-GB","ok":true,"no":null,'
        '"time":"2026-11-21T07:10:03.123456Z","version":"1.2.3","screen":"1920x1080","löwe":["🦁",-1,0]}'
    )

    assert mask_json(text, MASK) == text
