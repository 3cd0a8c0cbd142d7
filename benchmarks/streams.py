"""Many streams at once against a real server process: `make bench`, or `make bench ARGS="--streams 300"`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from benchmarks.load import LoadResult, percentile, run_load

ROOT = Path(__file__).parent.parent


@contextmanager
def run_paced_server(pieces: int, per_s: float) -> Iterator[int]:
    """A server whose provider streams `pieces` texts at `per_s`, on a free port; yields the port."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "server.log").open("wb") as log:
        environment = {**os.environ, "PORT": "0", "SQLITE_PATH": f"{folder}/zoo.sqlite3", "LOG_LEVEL": "WARNING"}
        environment.setdefault("SEMANTIC", "off")  # else the bench measures the vectors of a new database
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.paced_server", str(pieces), str(per_s)],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert process.stdout is not None
            yield next(int(found[1]) for line in process.stdout if (found := re.search(r"localhost:(\d+)/", line)))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            if process.stdout is not None:
                process.stdout.close()


def measure_load(streams: int, pieces: int, per_s: float, console: Console) -> LoadResult:
    """One run: every stream has `pieces` chunks at `per_s` a second."""
    with console.status("Starting the server") as status, run_paced_server(pieces, per_s) as port:

        def show_progress(load: LoadResult) -> None:
            chunks = sum(stream.chunks for stream in load.streams)
            status.update(
                f"{chunks:,} of {streams * pieces:,} chunks, {load.completed:,} of {streams:,} streams complete, "
                f"{load.took_s:.0f} s"
            )

        return asyncio.run(run_load(port, streams, show_progress=show_progress))


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
    chunks = sum(stream.chunks for stream in load.streams)
    console.print(table, f"{chunks} of {streams * pieces} chunks in {load.took_s:.1f} s", sep="\n")
    sys.exit(0 if load.completed == streams and chunks == streams * pieces else 1)


if __name__ == "__main__":
    main()
