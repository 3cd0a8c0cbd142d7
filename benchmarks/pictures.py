"""The pictures of the results, drawn with Matplotlib, which only the extra `bench` has: so it is imported here late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.curves import Curve
from benchmarks.figures import OURS, Figure, format_value, list_columns

OUR_COLOUR, PEER_COLOUR, LINE_COLOUR, MET_COLOUR, MISSED_COLOUR = "#0969da", "#afb8c1", "#57606a", "#1a7f37", "#cf222e"
COLUMNS = 3
# How many times the bar of ours another bar may be before it is cut off: else ours could not be seen.
MOST_TIMES = 8
STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Text stays text: readable by programs, and small.
    "svg.fonttype": "none",
    # The same figures give the same file.
    "svg.hashsalt": "zoochat",
}


def draw_comparison(figures: Sequence[Figure], title: str, path: Path) -> None:
    """A panel of bars for each figure, with the line that ours is held against."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    drawn = [figure for figure in figures if figure.spec.is_drawn]
    columns = list_columns(figures)
    rows = -(-len(drawn) // COLUMNS)
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(15, 0.6 + 2.35 * rows), layout="constrained")
        canvas.suptitle(title, fontsize=13, ha="left", x=0.01)
        panels = canvas.subplots(rows, COLUMNS, squeeze=False).flatten()
        for panel, figure in zip(panels, drawn, strict=False):
            _draw_bars(panel, figure, columns)
        for panel in panels[len(drawn) :]:
            panel.set_axis_off()
        canvas.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def draw_curves(curves: Sequence[Curve], imports_ms: Mapping[str, float], title: str, path: Path) -> None:
    """A panel for each curve, with its line and where it bends; and the imports as bars."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Canvas

    count = len(curves) + bool(imports_ms)
    rows = max(1, -(-count // COLUMNS))
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(15, 0.6 + 2.9 * rows), layout="constrained")
        canvas.suptitle(title, fontsize=13, ha="left", x=0.01)
        panels = canvas.subplots(rows, COLUMNS, squeeze=False).flatten()
        for panel, curve in zip(panels, curves, strict=False):
            _draw_curve(panel, curve)
        if imports_ms:
            _draw_imports(panels[len(curves)], imports_ms)
        for panel in panels[count:]:
            panel.set_axis_off()
        canvas.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _draw_curve(panel: Any, curve: Curve) -> None:
    places, values = [at for at, _ in curve.points], [value for _, value in curve.points]
    panel.plot(places, values, color=OUR_COLOUR, marker="o", markersize=4)
    # Sizes that grow by multiples.
    if len(places) > 1 and places[0] > 0 and places[-1] >= 10 * places[0] and len(places) < 8:
        panel.set_xscale("log")
        panel.set_xticks(places, [f"{place:,.0f}" for place in places])
        panel.minorticks_off()
    else:
        panel.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        panel.xaxis.get_major_locator().set_params(integer=True, nbins=6)
    panel.set_ylim(0, max([*values, curve.line.limit if curve.line else 0.0, 1e-9]) * 1.2)
    panel.set_xlabel(curve.grows, fontsize=8.5)
    panel.yaxis.set_major_formatter(lambda value, _: format_value(value, curve.unit))
    panel.grid(axis="y", color="#eaeef2")
    panel.set_axisbelow(True)
    # Below it there is the sentence.
    panel.set_title(f"{curve.grows}: {curve.title}", loc="left", fontsize=9, fontweight="bold", pad=16)
    if curve.line is not None:
        panel.axhline(
            curve.line.limit, color=MET_COLOUR if curve.is_met else MISSED_COLOUR, linestyle="--", linewidth=1
        )
    if curve.bend is not None:
        panel.axvline(curve.bend, color=MISSED_COLOUR, linestyle=":", linewidth=1)
    colour = MISSED_COLOUR if curve.is_met is False or curve.bend is not None else MET_COLOUR
    panel.text(0, 1.0, curve.sentence, color=colour, fontsize=8, transform=panel.transAxes, va="bottom")


def _draw_imports(panel: Any, imports_ms: Mapping[str, float], most: int = 14) -> None:
    names = list(imports_ms)[:most]
    panel.barh(range(len(names)), [imports_ms[name] for name in names], color=PEER_COLOUR, height=0.72)
    for at, name in enumerate(names):
        panel.text(imports_ms[name], at, f" {imports_ms[name]:.0f} ms", va="center", fontsize=7.5)
    panel.set_yticks(range(len(names)), names, fontsize=7.5)
    panel.invert_yaxis()
    panel.set_xticks([])
    panel.spines["bottom"].set_visible(False)
    panel.set_title(f"imports: {sum(imports_ms.values()):,.0f} ms in all", loc="left", fontsize=9, fontweight="bold")


def _draw_bars(panel: Any, figure: Figure, columns: Sequence[str]) -> None:
    medians = figure.medians
    names = [column for column in columns if column in medians]
    line = figure.spec.line
    most = max(medians.values())
    shown = max(medians.get(OURS, most), line.limit if line else 0.0)
    right = min(most, shown * MOST_TIMES) if shown else most
    widths = [min(medians[name], right) for name in names]
    colours = [OUR_COLOUR if name == OURS else PEER_COLOUR for name in names]
    panel.barh(range(len(names)), widths, color=colours, height=0.72)
    for at, (name, width) in enumerate(zip(names, widths, strict=True)):
        cut = " (cut off)" if medians[name] > right else ""
        weight = "bold" if name == OURS else "normal"
        text = f" {format_value(medians[name], figure.spec.unit)}{cut}"
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        panel.text(width, at, text, va="center", fontsize=8, fontweight=weight, bbox=box, zorder=3)
    panel.set_yticks(range(len(names)), names)
    # As many places in each panel, so that all bars are equally thick.
    panel.set_ylim(len(columns) - 0.5, -0.5)
    panel.set_xlim(0, max(right, line.limit if line else 0.0) * 1.28 or 1.0)
    panel.set_xticks([])
    panel.spines["bottom"].set_visible(False)
    panel.tick_params(axis="y", length=0)
    panel.set_title(figure.spec.title, loc="left", fontsize=9, fontweight="bold", wrap=True)
    if line is None:
        return
    verdict = {True: "met", False: "missed", None: "not measured"}[figure.is_met]
    colour = {True: MET_COLOUR, False: MISSED_COLOUR, None: LINE_COLOUR}[figure.is_met]
    panel.axvline(line.limit, color=colour, linestyle="--", linewidth=1)
    text = f"line {line.format(figure.spec.unit)}: {verdict}"
    panel.text(1, -0.02, text, color=colour, fontsize=8.5, transform=panel.transAxes, ha="right", va="top")
