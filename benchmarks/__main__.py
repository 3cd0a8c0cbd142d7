"""`python -m benchmarks short`, `peers` and `curves`: `make bench`, `make bench-peers` and `make bench-curves`."""

from __future__ import annotations

import sys
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks import curves as curve_sizes
from benchmarks.compare import CEILING, FULL, PEERS, SHORT, SMOKE, WHOLE, compare
from benchmarks.curves import CURVES, list_curve_rows, measure_curves
from benchmarks.figures import make_figures, make_table
from benchmarks.report import RESULTS, describe_run, list_sentences, summarize_run, write_comparison, write_curves

folder_option = click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), default=RESULTS, help="Where the results are written."
)
smoke_option = click.option("--quick", is_flag=True, help="The smallest sizes: whether it works, not how fast it is.")


def make_console() -> Console:
    """As wide as the terminal; wide enough for the table where there is none."""
    return Console(width=None if sys.stdout.isatty() else 200)


@click.group()
def main() -> None:
    """Measure this server. Figures of a shared machine are noisy: compare within one run."""


@main.command()
@smoke_option
def short(quick: bool) -> None:
    """The main figures of this server alone, beside their lines. Writes nothing."""
    console = make_console()
    run = describe_run(is_quick=quick)
    samples = compare([WHOLE], SMOKE if quick else SHORT, console)
    figures = make_figures(samples)
    console.print(make_table(figures, "This server"), *list_sentences(samples, figures), summarize_run(run), sep="\n")
    sys.exit(1 if samples.failures else 0)


@main.command()
@folder_option
@smoke_option
def peers(folder: Path, quick: bool) -> None:
    """This server beside raw ASGI, FastAPI, sse-starlette, gevent and Connexion: a table, JSON and a picture."""
    console = make_console()
    run = describe_run(is_quick=quick)
    samples = compare([CEILING, *PEERS, WHOLE], SMOKE if quick else FULL, console)
    figures = make_figures(samples)
    table = make_table(figures, "This server beside bare streams")
    console.print(table, *list_sentences(samples, figures), summarize_run(run), sep="\n")
    for path in write_comparison(samples, run, folder):
        console.print(f"Written: {path}", soft_wrap=True)
    sys.exit(1 if samples.failures else 0)


@main.command()
@click.option("--only", multiple=True, type=click.Choice(list(CURVES)), help="Only these; may be given several times.")
@folder_option
@smoke_option
def curves(only: tuple[str, ...], folder: Path, quick: bool) -> None:
    """How the figures change as streams, sessions, animals, histories, readers and turns grow."""
    console = make_console()
    run = describe_run(is_quick=quick)
    measured = measure_curves(only or list(CURVES), curve_sizes.SMOKE if quick else curve_sizes.FULL, console)
    head, *rows = list_curve_rows(measured.curves)
    table = Table(*head, title="This server as things grow")
    for row in rows:
        table.add_row(*row)
    console.print(table, *measured.failures, summarize_run(run), sep="\n")
    for path in write_curves(measured, run, folder):
        console.print(f"Written: {path}", soft_wrap=True)
    sys.exit(1 if measured.failures else 0)


if __name__ == "__main__":
    main()
