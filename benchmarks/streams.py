"""Many streams at once against a real server process: `make bench`, or `make bench ARGS="--streams 300"`."""

from __future__ import annotations

import asyncio
import sys

import click
from rich.console import Console
from rich.table import Table

from benchmarks.load import LoadResult, percentile, run_load
from benchmarks.servers import run_paced_server


def measure_load(streams: int, pieces: int, per_s: float, console: Console) -> LoadResult:
    """One run: every stream has `pieces` chunks at `per_s` a second."""
    with console.status("Starting the server") as status, run_paced_server(pieces, per_s) as server:

        def show_progress(load: LoadResult) -> None:
            status.update(
                f"{load.chunks:,} of {streams * pieces:,} chunks, {load.completed:,} of {streams:,} streams complete, "
                f"{load.took_s:.0f} s"
            )

        return asyncio.run(run_load(server.port, streams, show_progress=show_progress))


@click.command()
@click.option("--streams", default=1000, show_default=True)
@click.option("--seconds", default=10.0, show_default=True, help="How long each stream speaks.")
@click.option("--per-s", default=10.0, show_default=True, help="Chunks a second in each stream.")
def main(streams: int, seconds: float, per_s: float) -> None:
    """Measure many streams at once. Figures of a shared machine are noisy: compare within one run."""
    pieces = round(seconds * per_s)
    console = Console()
    load = measure_load(streams, pieces, per_s, console)
    table = Table("figure", "p50", "p95", "p99", title=f"{load.completed} of {streams} streams complete")
    for name, values in (
        ("first event, ms", load.first_events_s),
        ("gap between chunks, ms", load.gaps_s),
        ("GET /health meanwhile, ms", load.health_s),
    ):
        table.add_row(name, *(f"{percentile(values, share) * 1000:.0f}" for share in (50, 95, 99)))
    console.print(table, f"{load.chunks} of {streams * pieces} chunks in {load.took_s:.1f} s", sep="\n")
    sys.exit(0 if load.completed == streams and load.chunks == streams * pieces else 1)


if __name__ == "__main__":
    main()
