"""Figures: what a trial measured, beside the line that it must meet."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure. `passed` None: not measured here, and `measured` says where it is."""

    id: str
    what: str
    measured: str
    limit: str
    passed: bool | None


def expect_none(id_: str, what: str, count: int, total: int) -> Figure:
    """A count that must be 0, told as `0 of N`; of nothing, nothing was shown.

    >>> none_of("F1", "messages lost", 0, 20)
    Figure(id='F1', what='messages lost', measured='0 of 20', line='0', passed=True)
    """
    return Figure(id_, what, f"{count} of {total}", "0", count == 0 < total)


def expect_all(id_: str, what: str, count: int, total: int) -> Figure:
    return Figure(id_, what, f"{count} of {total}", "all", count == total > 0)


def expect_at_most(id_: str, what: str, value: float, most: float, unit: str) -> Figure:
    """A measure with an upper line; infinite is what did not happen while the trial watched."""
    return Figure(id_, what, _format_value(value, unit), f"at most {_format_value(most, unit)}", value <= most)


def _format_value(value: float, unit: str) -> str:
    return "never, while watched" if math.isinf(value) else f"{value:.3g} {unit}"
