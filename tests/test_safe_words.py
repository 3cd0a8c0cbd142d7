"""Fixed texts for visitors in need: one text, whatever part of the server sends it."""

from __future__ import annotations

import pytest

from openapi_server.models.prompt import Prompt
from openapi_server.models.turn import AgeGroup
from openapi_server.providers.offline.provider import OfflineProvider
from openapi_server.safe_words import load_safe_words
from tests.support.fakes import make_lion
from tests.support.rules import load_input_rules

RULES = load_input_rules()


@pytest.mark.parametrize("age_group", AgeGroup)
async def test_the_rules_and_the_offline_provider_have_the_same_words_for_a_lost_child(
    age_group: AgeGroup,
) -> None:
    """The provider says them where no rule matches, or where keepers have switched the rule off."""
    lion = make_lion()
    verdict = await RULES.check_message("I am lost", lion, age_group)
    provider = OfflineProvider(words_per_s=0, seed=1)
    pieces = [piece async for piece in provider.stream_reply(Prompt(lion, age_group, "I am lost"))]
    reply = "".join(piece for piece in pieces if isinstance(piece, str))

    assert verdict.safe_words == reply == load_safe_words()["lost"].get_text(age_group, lion)
