"""Values of a turn: statuses, age groups, usage."""

from __future__ import annotations

import pytest

from openapi_server.models.turn import AgeGroup, TurnStatus, Usage


@pytest.mark.parametrize("status", TurnStatus)
def test_only_a_queued_or_running_turn_can_still_change(status: TurnStatus) -> None:
    """A client stops polling when the status is final."""
    assert status.is_final == (status not in {"queued", "running"})


def test_age_groups_are_ranked_from_the_youngest() -> None:
    """A fact for one age group is suitable for every older one."""
    assert [group.rank for group in AgeGroup] == [0, 1, 2, 3, 4]
    assert AgeGroup.PRESCHOOL.rank < AgeGroup.ELEMENTARY.rank < AgeGroup.ADULT.rank


def test_usage_adds_up() -> None:
    """The total is what is charged."""
    assert Usage(3, 5).total == 8
