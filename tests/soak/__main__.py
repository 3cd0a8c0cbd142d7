"""`python -m tests.soak [--minutes 120]`: two servers under mixed load, a fault a minute, and a picture."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import click
import httpx
from rich.console import Console
from rich.table import Table

from tests.soak.faults import FAULTS, Stage, run_model
from tests.soak.report import Series, Verdict, draw
from tests.soak.servers import SoakServer, count_rows, measure_store_mb
from tests.soak.visitors import Ledger, Visitor, allocate_credits
from tests.support.processes import make_command, make_environment, open_store

SAMPLE_EVERY_S, CHECK_EVERY_S, FAULT_EVERY_S, PURGE_EVERY_S = 5.0, 20.0, 60.0, 60.0
# Short enough for a steady state within minutes.
SETTINGS: dict[str, object] = {
    "PROVIDER": "openai",
    "OPENAI_API_KEY": "sk-soak",
    "OPENAI_MODEL": "soak-1",
    "FIRST_TOKEN_TIMEOUT": 2,
    "PROVIDER_RETRIES": 1,
    "BREAKER_PAUSE": 3,
    "SESSION_TTL": 60,
    "IDEMPOTENCY_TTL": 60,
    "REFRESH_TOKEN_TTL": 60,
    "REPLAY_WINDOW": 60,
    "ORPHAN_GRACE": 3,
    "SEND_TIMEOUT": 5,
    "LEASE": 5,
    "DRAIN_TIMEOUT": 3,
}
# Rows that stay for as long as the operator says, or for ever: shown, not judged.
KEPT_TABLES = frozenset({"audit", "credit_ledger", "credit_lots", "animal_changes", "rule_changes", "users"})
METRICS = {
    "event log: turns": ("zoochat_event_log_turns", "", 300.0),
    "asyncio tasks": ("zoochat_asyncio_tasks", "", 120.0),
    "readers": ("zoochat_readers", "", 60.0),
    "store queue": ('zoochat_queue_length{queue="store_writes"}', "", 60.0),
}
MARKS = {True: "[green]met[/]", False: "[bold red]MISSED[/]", None: "[dim]shown[/]"}


class Soak:
    """One run. `warm_up_s`: not judged."""

    def __init__(self, folder: Path, minutes: float, visitors: int, console: Console) -> None:
        self._folder = folder
        self._length_s = minutes * 60
        self._visitors = visitors
        self._console = console
        self.warm_up_s = min(1800.0, self._length_s * 0.3)
        self.ledger = Ledger()
        self.faults: list[tuple[float, str]] = []
        self._started_s = time.monotonic()
        self.series: dict[str, Series] = {
            "memory": Series("memory of the steady server", "MB", most_per_hour=1.0),
            "threads": Series("threads of the steady server", slack=4),
            "files": Series("open files of the steady server", slack=40),
            "store": Series("database and write-ahead log", "MB", slack=8),
            "log": Series("log of the steady server", "MB"),
            "dropped": Series("log lines dropped by the steady server"),
            "lag": Series("largest loop lag of the steady server", "s"),
            "replies": Series("replies complete"),
        }
        for name, (_, unit, slack) in METRICS.items():
            self.series[name] = Series(name, unit, slack=slack)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self._started_s

    async def run(self) -> None:
        async with AsyncExitStack() as parts:
            model = await parts.enter_async_context(run_model())
            settings = {**SETTINGS, "OPENAI_BASE_URL": f"{model.url}/v1"}
            steady, victim = (SoakServer(name, self._folder, **settings) for name in ("steady", "victim"))
            for server in (steady, victim):
                parts.callback(server.kill)
                await server.start()
            await allocate_credits(steady.url)
            stage = Stage(steady, victim, model, self._folder, self._purge)
            self._started_s = time.monotonic()
            jobs = [
                self._visit(server.url, number)
                for number in range(self._visitors)
                for server in ((steady, victim)[number % 2],)
            ]
            jobs += [self._inject(stage), self._sample(steady), self._check_forever(), self._purge_forever()]
            running = [asyncio.create_task(job) for job in jobs]
            done, _ = await asyncio.wait(running, timeout=self._length_s, return_when=asyncio.FIRST_EXCEPTION)
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for task in done:
                # Only what broke has ended before its time.
                task.result()
            await asyncio.sleep(5)
            async with open_store(self._folder) as store:
                await self.ledger.check(store)
            for server in (steady, victim):
                await server.stop()

    async def _visit(self, url: str, seed: int) -> None:
        await Visitor(url, self.ledger, seed).run_forever()

    async def _inject(self, stage: Stage) -> None:
        number = 0
        while True:
            await asyncio.sleep(max(0.0, (number + 1) * FAULT_EVERY_S - self.elapsed_s))
            fault = FAULTS[number % len(FAULTS)]
            self.faults.append((self.elapsed_s, fault.__name__))
            self._console.print(f"{self.elapsed_s / 60:6.1f} min  {fault.__name__:<18} {self._format_progress()}")
            await fault(stage)
            number += 1

    def _format_progress(self) -> str:
        ledger = self.ledger
        memory = self.series["memory"].points
        unexpected = sum(ledger.unexpected.values())
        counts = f"{ledger.replies} replies, {ledger.replies_lost} lost, {unexpected} unexpected answers"
        return f"{counts}, {memory[-1][1] if memory else 0:.0f} MB"

    async def _sample(self, steady: SoakServer) -> None:
        while True:
            now_s = self.elapsed_s
            for name, value in steady.read_footprint().items():
                self.series[name].add(now_s, value)
            with suppress(httpx.TransportError):
                metrics = await steady.read_metrics()
                for name, (metric, _, _) in METRICS.items():
                    self.series[name].add(now_s, metrics[metric])
                self.series["dropped"].add(now_s, metrics["zoochat_log_lines_dropped_total"])
                self.series["lag"].add(now_s, metrics["zoochat_event_loop_lag_max_seconds"])
            path = self._folder / "zoo.sqlite3"
            self.series["store"].add(now_s, measure_store_mb(path))
            self.series["log"].add(now_s, steady.log_bytes / 1024 / 1024)
            self.series["replies"].add(now_s, self.ledger.replies)
            for table, rows in (await asyncio.to_thread(count_rows, path)).items():
                slack = None if table in KEPT_TABLES else 50.0
                self.series.setdefault(f"table {table}", Series(f"table {table}", "rows", slack=slack)).add(now_s, rows)
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def _check_forever(self) -> None:
        async with open_store(self._folder) as store:
            while True:
                await asyncio.sleep(CHECK_EVERY_S)
                await self.ledger.check(store)

    async def _purge_forever(self) -> None:
        while True:
            await asyncio.sleep(PURGE_EVERY_S)
            await self._purge()

    async def _purge(self) -> None:
        """`zoochat sessions purge`, as an operator's cron does."""
        environment = make_environment(SQLITE_PATH=self._folder / "zoo.sqlite3")
        with (self._folder / "purge.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *make_command("sessions", "purge"), cwd=self._folder, env=environment, stdout=log, stderr=log
            )
            await process.wait()

    def judge(self) -> list[Verdict]:
        ledger = self.ledger
        unexpected = sum(ledger.unexpected.values())
        answers = sum(ledger.answers.values())
        counts = [
            ("replies lost", ledger.replies_lost, ledger.replies),
            ("accepted messages lost", ledger.messages_lost, ledger.accepted),
            ("replies whose chunks are not the reply", ledger.garbled, ledger.replies),
            ("unexpected answers", unexpected, answers),
        ]
        return [series.judge(self.warm_up_s) for series in self.series.values()] + [
            Verdict(name, f"{count} of {total}", "0", count == 0 < total) for name, count, total in counts
        ]


@click.command()
@click.option("--minutes", default=120.0, show_default=True)
@click.option("--visitors", default=16, show_default=True, help="Clients at the same time.")
@click.option("--output", default="soak", show_default=True, help="A folder for the picture, the figures and the logs.")
def main(minutes: float, visitors: int, output: str) -> None:
    """Load two servers for hours, with a fault each minute. Exits with 1 when a limit was missed."""
    console = Console()
    folder = Path(output).resolve() / datetime.now().astimezone().strftime("%Y-%m-%d-%H%M%S")
    folder.mkdir(parents=True)
    console.print(f"{minutes:g} minutes, {visitors} visitors; everything is in {folder}")
    soak = Soak(folder, minutes, visitors, console)
    asyncio.run(soak.run())
    verdicts = soak.judge()
    _write(soak, verdicts, folder, f"{minutes:g} minutes, {visitors} visitors, a fault each minute")
    console.print(_make_table(verdicts))
    for what, count in soak.ledger.unexpected.most_common():
        console.print(f"unexpected: {count} times {what}")
    answers = dict(sorted(soak.ledger.answers.items()))
    console.print(f"{soak.ledger.cut} requests cut off, or to a server that was down; answers: {answers}")
    missed = sum(verdict.passed is False for verdict in verdicts)
    console.print(f"{missed} of {len(verdicts)} limits missed; the picture is {folder / 'soak.svg'}")
    sys.exit(1 if missed else 0)


def _write(soak: Soak, verdicts: list[Verdict], folder: Path, title: str) -> None:
    series = list(soak.series.values())
    (folder / "soak.svg").write_text(draw(title, series, verdicts, soak.faults), encoding="utf-8")
    figures = {
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "faults": soak.faults,
        "series": {one.name: one.points for one in series},
        "actions": soak.ledger.actions,
        "answers": soak.ledger.answers,
        "unexpected": soak.ledger.unexpected,
    }
    (folder / "soak.json").write_text(json.dumps(figures), encoding="utf-8")


def _make_table(verdicts: list[Verdict]) -> Table:
    table = Table("measure", "measured", "limit", "")
    for verdict in verdicts:
        table.add_row(verdict.name, verdict.measured, verdict.limit, MARKS[verdict.passed])
    return table


if __name__ == "__main__":
    main()
