"""Whole turns: the real server, its offline provider without pauses, SQLite and moderation.

`python -m benchmarks.turns` measures them on 32 connections, and one after another. `--profile FILE` samples the server
meanwhile (needs `py-spy`) and tells where the thread that holds the interpreter spends its time.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
from rich.console import Console
from rich.table import Table

from benchmarks.load import COMPLETE_MARK, TURN_PATH, LoadProcess, RequestsResult, make_request, percentile
from benchmarks.servers import Server, run_server

# Sixteen questions: facts, small talk, another animal, and what no keeper wrote.
QUESTIONS = (
    ("lion_001", "How fast can you run?"),
    ("octopus_001", "What do you eat?"),
    ("elephant_001", "Tell me about your trunk, please"),
    ("penguin_001", "Hello! My name is Mia"),
    ("giraffe_001", "How long is your neck?"),
    ("tiger_001", "Where do you live in the wild?"),
    ("gorilla_001", "Do you have a family?"),
    ("ant_001", "How much can you carry?"),
    ("crocodile_001", "Are you dangerous?"),
    ("flamingo_001", "Why are you pink?"),
    ("frog_001", "Can you sing?"),
    ("seahorse_001", "Tell me a story about yourself"),
    ("tortoise_001", "How old are you?"),
    ("cougar_001", "What is the capital of France?"),
    ("lion_001", "Thank you, that was great!"),
    ("octopus_001", "Are you clever?"),
)
TURNS = tuple(make_request(TURN_PATH, {"message": message, "animalId": animal}) for animal, message in QUESTIONS)
CONNECTIONS = 32


def measure_turns(load: LoadProcess, server: Server, connections: int, count: int, seconds: float) -> RequestsResult:
    """At most `count` turns, each in a session of its own, for at most so long."""
    return load.run_requests(server.port, TURNS, connections, count=count, seconds=seconds, expected=COMPLETE_MARK)


@contextmanager
def profile(pid: int, path: Path, rate: int = 200) -> Iterator[None]:
    """Sample the stack of the thread that holds the interpreter; writes a line for each stack, with its count."""
    program = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:/usr/bin:/usr/local/bin")
    if program is None:
        raise click.ClickException("py-spy is not installed: pip install py-spy (the extra `bench` has it)")
    command = [program, "record", "--gil", "--rate", str(rate), "--format", "raw", "--output", str(path)]
    command += ["--pid", str(pid), "--duration", "3600"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        # The interrupt ends the recording.
        process.send_signal(2)
        _, problems = process.communicate(timeout=60)
    if not path.exists():
        raise click.ClickException(f"py-spy wrote nothing: {problems}")


def count_shares(stacks: Iterable[str], name: Callable[[str], str], *, is_whole: bool) -> dict[str, float]:
    """The share of each function in the samples, largest first: with all it calls (`is_whole`), or itself.

    `name` makes a frame such as `run (openapi_server/server.py:12)` into what is counted.

    >>> count_shares(["a (x.py:1);b (y.py:2) 3", "a (x.py:9) 1"], name_function, is_whole=True)
    {'a (x.py)': 1.0, 'b (y.py)': 0.75}
    >>> count_shares(["a (x.py:1);b (y.py:2) 3", "a (x.py:9) 1"], name_function, is_whole=False)
    {'b (y.py)': 0.75, 'a (x.py)': 0.25}
    """
    counts: Counter[str] = Counter()
    total = 0
    for line in stacks:
        stack, _, count = line.strip().rpartition(" ")
        frames = stack.split(";")
        counts.update(dict.fromkeys(map(name, frames if is_whole else frames[-1:]), int(count)))
        total += int(count)
    return {name: count / total for name, count in counts.most_common()}


def name_function(frame: str) -> str:
    """The frame without its line.

    >>> name_function("run (openapi_server/server.py:12)")
    'run (openapi_server/server.py)'
    """
    return f"{frame.rpartition(':')[0]})" if ":" in frame else frame


def name_part(frame: str) -> str:
    """The package of the frame; of ours its part.

    >>> name_part("run (openapi_server/engine/pipeline.py:12)"), name_part("run (uvicorn/server.py:3)")
    ('openapi_server/engine', 'uvicorn')
    """
    folders = frame.rpartition("(")[2].split("/")
    return "/".join(folders[: 2 if folders[0] == "openapi_server" else 1]).partition(":")[0]


def print_profile(path: Path, rows: int, console: Console) -> None:
    """What the samples in the file say, without what runs everything."""
    stacks = path.read_text(encoding="utf-8").splitlines()
    for title, name, is_whole in (
        ("parts, with all they call", name_part, True),
        ("parts, themselves", name_part, False),
        ("functions, with all they call", name_function, True),
        ("functions, themselves", name_function, False),
    ):
        shares = {each: share for each, share in count_shares(stacks, name, is_whole=is_whole).items() if share < 0.9}
        table = Table(title, "share", title=f"Share of the interpreter's time ({path})")
        for each, share in list(shares.items())[:rows]:
            table.add_row(each, f"{share:.1%}")
        console.print(table)


def _describe(name: str, results: Sequence[RequestsResult], server_cpu_s: float, elapsed_s: float) -> tuple[str, ...]:
    times_s = [seconds for result in results for seconds in result.times_s]
    milliseconds = (f"{percentile(times_s, share) * 1000:.1f}" for share in (50, 99))
    rate = median(result.per_s for result in results)
    failed = sum(result.failed for result in results)
    load_cpu = median(result.cpu_share for result in results)
    per_turn_ms = server_cpu_s / len(times_s) * 1000
    shares = (f"{server_cpu_s / elapsed_s:.0%}", f"{load_cpu:.0%}")
    return (name, f"{rate:,.0f}", *milliseconds, str(failed), f"{per_turn_ms:.2f}", *shares)


@click.command()
@click.option("--connections", default=CONNECTIONS, show_default=True)
@click.option("--seconds", default=5.0, show_default=True, help="How long each round takes.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--profile", "profile_path", type=click.Path(path_type=Path), help="Write sampled stacks to this file.")
@click.option("--rows", default=40, show_default=True, help="How many functions of the profile to print.")
def main(connections: int, seconds: float, rounds: int, profile_path: Path | None, rows: int) -> None:
    """Whole turns a second, and the time of one turn. Figures of a shared machine are noisy: compare within one run."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    # On a busy machine the processor's time tells more than the clock's.
    columns = ("a second", "p50, ms", "p99, ms", "failed", "CPU ms a turn", "CPU server", "CPU load generator")
    table = Table("whole turns", *columns)
    with run_server() as server, LoadProcess() as load, console.status("Warming up") as status:
        measure_turns(load, server, connections, 200, 30)
        for count, name in ((connections, f"{connections} connections"), (1, "one after another")):
            results: list[RequestsResult] = []
            began_s, began_cpu_s = time.perf_counter(), server.cpu_s
            for number in range(1, rounds + 1):
                status.update(f"{name}, round {number} of {rounds}")
                results.append(measure_turns(load, server, count, 1_000_000, seconds))
            elapsed_s = time.perf_counter() - began_s
            table.add_row(*_describe(name, results, server.cpu_s - began_cpu_s, elapsed_s))
        if profile_path is not None:
            status.update(f"Sampling {connections} connections")
            with profile(server.pid, profile_path):
                measure_turns(load, server, connections, 1_000_000, max(seconds, 10))
        memory = (
            f"memory {server.memory_mb:.0f} MB, peak {server.peak_mb:.0f} MB, start to /ready {server.start_s:.2f} s"
        )
    console.print(table, memory, sep="\n")
    if profile_path is not None:
        print_profile(profile_path, rows, console)


if __name__ == "__main__":
    main()
