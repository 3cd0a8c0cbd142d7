"""What was measured, beside the lines that it is held against: medians, ratios, tables and JSON. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from rich.table import Table

# The columns, in their order. The first four are what a user would pick instead.
RAW_ASGI, FASTAPI, FASTAPI_SSE, SSE_STARLETTE = "raw ASGI", "FastAPI", "FastAPI SSE", "sse-starlette"
GEVENT, CONNEXION, BRIDGE, OURS = "Flask, gevent", "Connexion", "our bridge alone", "ours, whole"
# No server of use: it answers from a prepared buffer, and shows how fast the load generator is.
PREPARED = "prepared buffer"


@dataclass(frozen=True, slots=True)
class Line:
    """What the figure of ours must reach: at least or at most so much.

    >>> Line(at_least=0.6).is_met(0.7), Line(at_most=110).is_met(162)
    (True, False)
    """

    at_least: float | None = None
    at_most: float | None = None

    @property
    def limit(self) -> float:
        limit = self.at_most if self.at_least is None else self.at_least
        assert limit is not None
        return limit

    def is_met(self, value: float) -> bool:
        return value <= self.limit if self.at_least is None else value >= self.limit

    def format(self, unit: str) -> str:
        return f"{'≤' if self.at_least is None else '≥'} {format_value(self.limit, unit)}"


@dataclass(frozen=True, slots=True)
class FigureSpec:
    """A row of the table, and unless not `is_drawn` a panel of the picture.

    `base`: the figure is that of `of`, round for round, as a ratio to that column.
    """

    key: str
    title: str
    unit: str
    line: Line | None = None
    of: str | None = None
    base: str | None = None
    is_drawn: bool = True


FRAMES = "frames_per_s"
SPECS = (
    FigureSpec(FRAMES, "200 streams of 200 frames, flat out", "frames/s"),
    FigureSpec("to_raw_asgi", "flat out, ratio to raw ASGI", "x", Line(at_least=0.6), FRAMES, RAW_ASGI),
    FigureSpec("to_sse_starlette", "flat out, ratio to sse-starlette", "x", Line(at_least=1.3), FRAMES, SSE_STARLETTE),
    FigureSpec("flat_memory_mb", "flat out, peak memory", "MB", Line(at_most=110)),
    FigureSpec("flat_load_cpu", "flat out, CPU of the load generator", "%", is_drawn=False),
    FigureSpec("turns_per_s", "whole turns, 32 connections (peers: one frame)", "/s", Line(at_least=700)),
    FigureSpec("turns_p50_ms", "whole turns, 32 connections, p50", "ms"),
    FigureSpec("turns_p99_ms", "whole turns, 32 connections, p99", "ms"),
    FigureSpec("turns_load_cpu", "whole turns, CPU of the load generator", "%", is_drawn=False),
    FigureSpec("alone_p50_ms", "one turn after another, p50", "ms", Line(at_most=2)),
    FigureSpec("alone_p99_ms", "one turn after another, p99", "ms", Line(at_most=5)),
    FigureSpec("burst_first_p50_ms", "1,000 posts at once, first event, p50", "ms", Line(at_most=700)),
    FigureSpec("burst_first_p95_ms", "1,000 posts at once, first event, p95", "ms", Line(at_most=1500)),
    FigureSpec("burst_gap_p99_ms", "1,000 posts at once, chunk gap at 10/s, p99", "ms", Line(at_most=150)),
    FigureSpec("burst_health_p99_ms", "1,000 posts at once, GET /health, p99", "ms", Line(at_most=50)),
    FigureSpec("burst_complete", "1,000 posts at once, complete streams", "%", Line(at_least=1), is_drawn=False),
    FigureSpec("animals_per_s", "GET /animal_list, 16 connections", "/s", Line(at_least=3000)),
    FigureSpec("health_per_s", "GET /health, 16 connections", "/s"),
    FigureSpec("start_memory_mb", "memory at start", "MB", Line(at_most=90)),
    FigureSpec("turns_memory_mb", "memory after 5,000 turns", "MB"),
    FigureSpec("memory_growth", "memory growth of 5,000 turns beyond replay", "%", Line(at_most=0.05)),
    FigureSpec("cold_start_s", "cold start to /ready", "s", Line(at_most=1)),
)


@dataclass(slots=True)
class Samples:
    """What each round has measured: figure, column, number of the round, value."""

    by_key: dict[str, dict[str, dict[int, float]]] = field(default_factory=dict)
    # Sentences: what did not end as it should have, which makes the figures worthless.
    failures: list[str] = field(default_factory=list)
    round_number: int = 1

    def add(self, key: str, column: str, value: float) -> None:
        """Of the present round."""
        self.by_key.setdefault(key, {}).setdefault(column, {})[self.round_number] = value

    def get_median(self, key: str, column: str) -> float | None:
        values = self.by_key.get(key, {}).get(column)
        return median(values.values()) if values else None


@dataclass(frozen=True, slots=True)
class Figure:
    """A row: the rounds and the median of each column, and whether ours reaches the line (None: there is none)."""

    spec: FigureSpec
    rounds: Mapping[str, Sequence[float]]

    @property
    def medians(self) -> dict[str, float]:
        return {column: median(values) for column, values in self.rounds.items()}

    @property
    def is_met(self) -> bool | None:
        value = self.medians.get(OURS)
        return None if self.spec.line is None or value is None else self.spec.line.is_met(value)


def make_figures(samples: Samples) -> list[Figure]:
    """The rows that were measured, with the ratios. A ratio compares what was measured in the same round."""
    figures = []
    for spec in SPECS:
        rounds = samples.by_key.get(spec.of or spec.key, {})
        if spec.base is not None:
            rounds = _divide(rounds, rounds.get(spec.base, {}))
        if rounds:
            figures.append(Figure(spec, {column: list(values.values()) for column, values in rounds.items()}))
    return figures


def _divide(rounds: Mapping[str, Mapping[int, float]], base: Mapping[int, float]) -> dict[str, dict[int, float]]:
    """The ratios of the rounds that both have; none for the prepared buffer, which is no server of use."""
    ratios = {
        column: {number: value / base[number] for number, value in values.items() if number in base}
        for column, values in rounds.items()
        if column != PREPARED
    }
    return {column: values for column, values in ratios.items() if values}


def list_columns(figures: Iterable[Figure]) -> list[str]:
    """The columns that were measured; that of the prepared buffer stands apart."""
    measured = {column for figure in figures for column in figure.rounds}
    order = (RAW_ASGI, FASTAPI, FASTAPI_SSE, SSE_STARLETTE, GEVENT, CONNEXION, BRIDGE, OURS)
    return [column for column in order if column in measured]


def format_value(value: float, unit: str) -> str:
    """A figure with its unit, short enough for a column.

    >>> [format_value(16_812, "frames/s"), format_value(0.231, "x"), format_value(2.04, "ms"), format_value(0.5, "%")]
    ['16,812/s', '0.23', '2.0 ms', '50 %']
    """
    match unit:
        case "frames/s" | "/s":
            return f"{value:,.0f}/s"
        case "x":
            return f"{value:.2f}"
        case "%":
            return f"{value * 100:.0f} %"
        case _ if value == 0:
            return f"0 {unit}"
        case "ms" if value < 0.995:
            return f"{value:.2f} ms"
        case "ms" if value < 9.95:
            return f"{value:.1f} ms"
        case "s" if value < 9.95:
            return f"{value:.2f} s"
        case _:
            return f"{value:,.0f} {unit}"


VERDICTS = {True: "met", False: "missed", None: ""}


def list_rows(figures: Sequence[Figure]) -> list[list[str]]:
    """The table as text: a head, and a row for each figure."""
    columns = list_columns(figures)
    rows = [["figure", *columns, "line", ""]]
    for figure in figures:
        spec, medians = figure.spec, figure.medians
        cells = [format_value(medians[column], spec.unit) if column in medians else "" for column in columns]
        line = spec.line.format(spec.unit) if spec.line else ""
        rows.append([spec.title, *cells, line, VERDICTS[figure.is_met]])
    return rows


def make_table(figures: Sequence[Figure], title: str) -> Table:
    """The table for a terminal."""
    head, *rows = list_rows(figures)
    table = Table(title=title, row_styles=["", "on grey7"])
    for name in head:
        is_text = name in ("figure", "")
        table.add_column(name, justify="left" if is_text else "right", style="bold" if name == OURS else None)
    colours = {"met": "[green]met", "missed": "[red]missed"}
    for row in rows:
        table.add_row(*row[:-1], colours.get(row[-1], row[-1]))
    return table


def make_markdown(rows: Sequence[Sequence[str]]) -> str:
    """The rows as a table in Markdown, whose first row is the head.

    >>> print(make_markdown([["a", "b"], ["1", ""]]))
    | a | b |
    |---|---|
    | 1 |  |
    """
    head, *rest = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([head, "|" + "---|" * len(rows[0]), *rest])


def encode_figure(figure: Figure) -> dict[str, object]:
    """The figure for JSON."""
    spec = figure.spec
    return {
        "figure": spec.key,
        "title": spec.title,
        "unit": spec.unit,
        "line": spec.line.format(spec.unit) if spec.line else None,
        "met": figure.is_met,
        "medians": {column: float(f"{value:.6g}") for column, value in figure.medians.items()},
        "rounds": {column: [float(f"{value:.6g}") for value in values] for column, values in figure.rounds.items()},
    }


def describe_load_generator(samples: Samples) -> str | None:
    """How far the load generator is from being what was measured; None where it was not measured."""
    prepared = samples.get_median(FRAMES, PREPARED)
    frames = {column: median(values.values()) for column, values in samples.by_key.get(FRAMES, {}).items()}
    frames.pop(PREPARED, None)
    if prepared is None or not frames:
        return None
    column, most = max(frames.items(), key=lambda each: each[1])
    return (
        f"The load generator takes {prepared:,.0f} frames a second from a prepared buffer: {prepared / most:.1f} times "
        f"what the fastest server sends ({column})."
    )
