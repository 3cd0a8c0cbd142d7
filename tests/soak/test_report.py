"""What a soak's figures are held against, and its picture."""

from __future__ import annotations

import random
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.soak.report import Series, Verdict, draw, fit_slope

HOUR_S = 3600.0


@given(st.floats(-50, 50), st.floats(0, 500))
def test_the_slope_of_a_line_is_found(per_hour: float, start: float) -> None:
    """In units an hour, with next to no error."""
    slope = fit_slope([(t, start + per_hour * t / HOUR_S) for t in range(0, 7200, 60)])
    assert slope.per_hour == pytest.approx(per_hour, abs=1e-6)
    assert slope.error == pytest.approx(0, abs=1e-6)


def make_memory(per_hour: float, length_s: int, noise: float = 0.5) -> Series:
    """Memory that grows by so many MB an hour, and by garbage between two collections."""
    chance = random.Random(1)  # noqa: S311  # no secret
    series = Series("memory", "MB", most_per_hour=1.0)
    for t in range(0, length_s, 5):
        series.add(t, 100 + per_hour * t / HOUR_S + abs(chance.gauss(0, noise)))
    return series


@pytest.mark.parametrize(
    ("per_hour", "length_s", "passed"),
    [
        (0.0, 7200, True),
        (0.8, 7200, True),
        (1.3, 7200, False),
        (5.0, 7200, False),
        (30.0, 600, True),
        (180.0, 600, False),
        (600.0, 600, False),
    ],
)
def test_memory_is_judged_by_its_slope(per_hour: float, length_s: int, passed: bool) -> None:
    """Two hours tell 0.8 MB an hour from 1.3; ten minutes only whether it grows by a tenth, and say so."""
    verdict = make_memory(per_hour, length_s).judge(warm_up_s=0)
    assert verdict.passed is passed
    assert ("too short" in verdict.limit) is (length_s < HOUR_S)


def test_a_table_may_fill_up_but_not_grow() -> None:
    """The second half is held against the first; the warm-up counts for nothing."""
    steady, growing = Series("steady", slack=10), Series("growing", slack=10)
    for t in range(0, 600, 5):
        steady.add(t, min(t, 100))
        growing.add(t, t)

    assert steady.judge(warm_up_s=120).passed is True
    assert growing.judge(warm_up_s=120).passed is False


def test_what_was_never_measured_is_missed() -> None:
    """A soak that sampled nothing is no success."""
    assert Series("lost").judge(warm_up_s=0).passed is False
    assert Series("dropped", most=0, points=[(10, 1)]).judge(warm_up_s=0).passed is False


def test_the_picture_is_valid_xml_and_shows_every_series() -> None:
    """Also with names that would be markup, one point, or none."""
    series = [Series("a <b> & c", points=[(0, 1), (60, 2)]), Series("one", points=[(5, 7)]), Series("none")]
    verdicts = [
        Verdict(one.name, "1 < 2", "at most 3", passed) for one, passed in zip(series, (True, False, None), strict=True)
    ]
    picture = draw("A <title>", series, verdicts, [(30, "kill_nine")])

    texts = [element.text for element in ElementTree.fromstring(picture).iter() if element.text]  # noqa: S314  # our own
    assert {one.name for one in series} <= set(texts)
    assert "1 < 2 (at most 3)" in texts
