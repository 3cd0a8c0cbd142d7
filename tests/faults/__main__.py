"""`python -m tests.faults [--only F3,F10] [--quick]`: inject the faults and print each figure with its limit."""

from __future__ import annotations

import sys
import time

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.figures import Figure
from tests.faults.trials import TRIALS, Trial

MARKS = {True: "[green]met[/]", False: "[bold red]MISSED[/]", None: "[dim]elsewhere[/]"}


@click.command()
@click.option("--only", default="", metavar="F3,F10", help="Ids of the trials to run; default: all.")
@click.option("--quick", is_flag=True, help="Use the small sizes of the test suite.")
def main(only: str, quick: bool) -> None:
    """Inject faults into a real server process. Exits with 1 when a limit was missed."""
    console = Console()
    figures = _run(_chosen(only), console, is_quick=quick)
    console.print(_table(figures))
    missed = sum(figure.passed is False for figure in figures)
    console.print(f"{missed} of {len(figures)} limits missed")
    sys.exit(1 if missed else 0)


def _chosen(only: str) -> list[Trial]:
    ids = {part.strip().upper() for part in only.split(",") if part.strip()}
    unknown = ids - {trial.id for trial in TRIALS}
    if unknown:
        raise click.BadParameter(f"no trial {', '.join(sorted(unknown))}", param_hint="--only")
    return [trial for trial in TRIALS if not ids or trial.id in ids]


def _run(trials: list[Trial], console: Console, *, is_quick: bool) -> list[Figure]:
    figures: list[Figure] = []
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(trials))
        for trial in trials:
            progress.update(task, description=f"{trial.id}  {trial.name}")
            started_s = time.monotonic()
            measured = trial.run(is_quick=is_quick)
            missed = sum(figure.passed is False for figure in measured)
            result = f"[bold red]{missed} limits missed[/]" if missed else "[green]within its limits[/]"
            # Not only in the bar, which is shown on a terminal alone.
            console.print(f"{trial.id:<4} {trial.name}: {result} ({time.monotonic() - started_s:.0f} s)")
            figures += measured
            progress.advance(task)
    return figures


def _table(figures: list[Figure]) -> Table:
    table = Table("", "trial", "measured", "limit", "")
    for figure in figures:
        table.add_row(figure.id, figure.what, figure.measured, figure.limit, MARKS[figure.passed])
    return table


if __name__ == "__main__":
    main()
