"""What was sampled: slopes, verdicts, and a picture (SVG). Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

HOUR_S = 3600.0
# The largest value of the second half, as a share of that of the first.
GROWTH = 1.25
# From how many judged seconds on a slope is judged; and how much a shorter run may grow, as a share: caches fill.
SHORTEST_SLOPE_S, SHORT_GROWTH = HOUR_S, 1.1


@dataclass(frozen=True, slots=True)
class Slope:
    """A line through points by least squares. `per_hour` and its standard error, in units an hour."""

    per_hour: float
    error: float
    start: float

    @property
    def text(self) -> str:
        return f"{self.per_hour:+.2f} ± {self.error:.2f}"


def fit_slope(points: Sequence[tuple[float, float]]) -> Slope:
    """The line through (seconds, value).

    >>> slope = fit_slope([(0, 5), (1800, 6), (3600, 7)])
    >>> round(slope.per_hour, 6), round(slope.error, 6), round(slope.start, 6)
    (2.0, 0.0, 5.0)
    """
    count = len(points)
    if count < 2:
        return Slope(0.0, math.inf, points[0][1] if points else 0.0)
    mean_t, mean_v = (sum(point[axis] for point in points) / count for axis in (0, 1))
    spread = sum((t - mean_t) ** 2 for t, _ in points)
    rise = sum((t - mean_t) * (v - mean_v) for t, v in points) / spread if spread else 0.0
    start = mean_v - rise * mean_t
    left = sum((v - start - rise * t) ** 2 for t, v in points)
    error = math.sqrt(left / (count - 2) / spread) if count > 2 and spread else math.inf
    return Slope(rise * HOUR_S, error * HOUR_S, start)


def take_minima(points: Sequence[tuple[float, float]], interval_s: float = 60) -> list[tuple[float, float]]:
    """The smallest value of each interval: memory between collections says nothing of what is kept.

    >>> take_minima([(0, 5), (30, 3), (61, 4)])
    [(30, 3), (61, 4)]
    """
    lowest: dict[int, tuple[float, float]] = {}
    for t, v in points:
        place = int(t // interval_s)
        if place not in lowest or v < lowest[place][1]:
            lowest[place] = (t, v)
    return list(lowest.values())


@dataclass(frozen=True, slots=True)
class Verdict:
    """`passed` None: reported, not judged."""

    name: str
    measured: str
    limit: str
    passed: bool | None


@dataclass(slots=True)
class Series:
    """One measure over time: (seconds since the start, value).

    Judged by `most_per_hour` (its slope), by `slack` (the largest value of the second half may exceed that of the first
    by so much, and by a quarter), or by `most` (no value above); else only shown. The warm-up is not judged.
    """

    name: str
    unit: str = ""
    most_per_hour: float | None = None
    slack: float | None = None
    most: float | None = None
    points: list[tuple[float, float]] = field(default_factory=list)

    def add(self, t: float, value: float) -> None:
        self.points.append((t, value))

    def take_judged(self, warm_up_s: float) -> list[tuple[float, float]]:
        return [point for point in self.points if point[0] >= warm_up_s]

    def judge(self, warm_up_s: float) -> Verdict:
        points = self.take_judged(warm_up_s)
        if not points:
            return Verdict(self.name, "never measured", "to be measured", passed=False)
        if self.most_per_hour is not None:
            return self._judge_slope(points, self.most_per_hour)
        if self.slack is not None:
            return self._judge_growth(points, self.slack)
        largest = max(value for _, value in points)
        if self.most is not None:
            return Verdict(self.name, f"{largest:g} {self.unit}", f"at most {self.most:g}", largest <= self.most)
        return Verdict(self.name, f"{points[0][1]:g} to {points[-1][1]:g} {self.unit}", "", None)

    def _judge_slope(self, points: Sequence[tuple[float, float]], most: float) -> Verdict:
        """Missed when the slope is above the limit beyond doubt, by two errors.

        Caches and the allocator's reserves fill in the first hour. So a shorter run is judged by its growth, and tells
        the slope of its second half, which has to become flat in a longer one.
        """
        minima = take_minima(points)
        slope = fit_slope(minima)
        if points[-1][0] - points[0][0] < SHORTEST_SLOPE_S:
            growth = self._judge_growth(minima, 0.0, SHORT_GROWTH)
            late = fit_slope(minima[len(minima) // 2 :])
            measured = f"{growth.measured} ({slope.text} {self.unit}/h, second half {late.text})"
            return Verdict(self.name, measured, f"{growth.limit}; too short for the slope", growth.passed)
        is_above = slope.per_hour - 2 * slope.error > most
        return Verdict(self.name, f"{slope.text} {self.unit}/h", f"below {most:g} {self.unit}/h", not is_above)

    def _judge_growth(self, points: Sequence[tuple[float, float]], slack: float, growth: float = GROWTH) -> Verdict:
        middle = (points[0][0] + points[-1][0]) / 2
        before = max((value for t, value in points if t <= middle), default=0.0)
        after = max((value for t, value in points if t > middle), default=0.0)
        most = before * growth + slack
        return Verdict(self.name, f"{before:g}, then {after:g} {self.unit}", f"then at most {most:g}", after <= most)


WIDTH, HEIGHT, COLUMNS, LEFT, TOP = 460, 190, 3, 62, 34
COLOURS = {True: "#1a7f37", False: "#cf222e", None: "#57606a"}


def draw(title: str, series: Sequence[Series], verdicts: Sequence[Verdict], faults: Sequence[tuple[float, str]]) -> str:
    """The series as panels of one SVG picture, each with its line, the verdict, and a mark for each fault."""
    rows = -(-len(series) // COLUMNS)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * COLUMNS}" height="{HEIGHT * rows + TOP}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="20" font-size="15">{escape(title)}</text>',
    ]
    by_name = {verdict.name: verdict for verdict in verdicts}
    for number, one in enumerate(series):
        x, y = number % COLUMNS * WIDTH, number // COLUMNS * HEIGHT + TOP
        parts.append(f'<g transform="translate({x},{y})">{_draw_panel(one, by_name[one.name], faults)}</g>')
    return "\n".join([*parts, "</svg>", ""])


def _draw_panel(series: Series, verdict: Verdict, faults: Sequence[tuple[float, str]]) -> str:
    points = series.points or [(0.0, 0.0)]
    end_s = max(points[-1][0], 1.0)
    low, high = min(value for _, value in points), max(value for _, value in points)
    low, high = (min(low, 0.0), high or 1.0) if low < high / 2 or low == high else (low, high)
    right, bottom, top = WIDTH - 14, HEIGHT - 26, 34

    def place(t: float, value: float) -> str:
        return f"{LEFT + (right - LEFT) * t / end_s:.1f},{bottom - (bottom - top) * (value - low) / (high - low):.1f}"

    marks = "".join(
        f'<line x1="{LEFT + (right - LEFT) * t / end_s:.1f}" x2="{LEFT + (right - LEFT) * t / end_s:.1f}" y1="{top}" '
        f'y2="{bottom}" stroke="#eaeef2"><title>{escape(name)}</title></line>'
        for t, name in faults
        if t <= end_s
    )
    line = " ".join(place(t, value) for t, value in points)
    colour = COLOURS[verdict.passed]
    measured = f"{verdict.measured} ({verdict.limit})" if verdict.limit else verdict.measured
    return (
        f'<text x="{LEFT}" y="12" font-weight="bold">{escape(series.name)}</text>'
        f'<text x="{LEFT}" y="26" fill="{colour}">{escape(measured)}</text>{marks}'
        f'<polyline points="{line}" fill="none" stroke="#0969da" stroke-width="1.2"/>'
        f'<text x="{LEFT - 6}" y="{top + 8}" text-anchor="end">{high:.4g}</text>'
        f'<text x="{LEFT - 6}" y="{bottom}" text-anchor="end">{low:.4g}</text>'
        f'<text x="{LEFT}" y="{HEIGHT - 10}" fill="#57606a">0</text>'
        f'<text x="{right}" y="{HEIGHT - 10}" text-anchor="end" fill="#57606a">{end_s / 60:.0f} min</text>'
    )
