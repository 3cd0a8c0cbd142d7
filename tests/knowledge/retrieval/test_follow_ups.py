"""Follow-ups: what refers to the last reply."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openapi_server.knowledge.retrieval import follow_ups
from openapi_server.knowledge.retrieval.follow_ups import FollowUp, detect_follow_up
from openapi_server.knowledge.retrieval.query import tokenize
from tests.moderation.datasets import asked_elsewhere

WORDS = "why how come but and say that again repeat tell me more surprise something else yes please ok sure no".split()


def find_first(message: str) -> FollowUp | None:
    """All patterns, one after the other."""
    text = " ".join(tokenize(message))
    return next((kind for kind, pattern in follow_ups._PATTERNS if pattern.search(text)), None)


@given(st.lists(st.sampled_from(WORDS), max_size=5).map(" ".join) | st.sampled_from(asked_elsewhere()))
def test_one_look_for_all_patterns_misses_none(message: str) -> None:
    """And where there is one, the first that matches counts."""
    assert detect_follow_up(message) is find_first(message)


def test_every_kind_is_found() -> None:
    """By its plainest words."""
    said = ("why?", "Say that again!", "tell me more", "surprise me", "yes, please")

    assert [detect_follow_up(message) for message in said] == [
        FollowUp.WHY, FollowUp.REPEAT, FollowUp.MORE, FollowUp.SURPRISE, FollowUp.ACCEPT_OFFER,
    ]  # fmt: skip
