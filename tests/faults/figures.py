"""Figures: what a trial measured, and the limit that it must keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tests.support.timing import is_within


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `passed` is None for a figure that is only reported or measured elsewhere."""

    id: str
    what: str
    measured: str
    limit: str
    passed: bool | None


def expect_none(id_: str, what: str, count: int, total: int) -> Figure:
    """A count that must be 0, shown as `0 of N`; with N = 0 nothing was shown, so it fails.

    >>> expect_none("F1", "messages lost", 0, 20)
    Figure(id='F1', what='messages lost', measured='0 of 20', limit='0', passed=True)
    """
    return Figure(id_, what, f"{count} of {total}", "0", count == 0 < total)


def expect_all(id_: str, what: str, count: int, total: int) -> Figure:
    return Figure(id_, what, f"{count} of {total}", "all", count == total > 0)


def expect_at_most(id_: str, what: str, value: float, most: float, unit: str) -> Figure:
    """A measure with an upper limit; infinite for what did not happen during the trial.

    The limit of a time is that of an idle machine; on a busy one it is as much longer as the machine is slower.
    """
    passed = is_within(value, most) if unit in ("s", "ms") else value <= most
    return Figure(id_, what, _format_value(value, unit), f"at most {_format_value(most, unit)}", passed)


def _format_value(value: float, unit: str) -> str:
    return "never, while watched" if math.isinf(value) else f"{value:.3g} {unit}"
