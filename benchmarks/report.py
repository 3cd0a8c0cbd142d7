"""What a run leaves behind: a table for people, JSON for programs, and a picture, in `benchmarks/results/`."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.curves import Curves, list_curve_rows
from benchmarks.figures import (
    OURS,
    PREPARED,
    Figure,
    Samples,
    describe_load_generator,
    encode_figure,
    list_rows,
    make_figures,
    make_markdown,
)
from benchmarks.pictures import draw_comparison, draw_curves
from benchmarks.servers import ROOT

RESULTS = Path(__file__).parent / "results"
PACKAGES = (
    "zoochat uvicorn uvloop httptools starlette connexion flask a2wsgi fastapi sse-starlette gunicorn gevent".split()
)


def describe_run(*, is_quick: bool = False) -> dict[str, object]:
    """When, on what machine and with which versions: figures of two runs are compared with care."""
    return {
        "quick": is_quick,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _run_git("rev-parse", "--short", "HEAD"),
        "changed": bool(_run_git("status", "--porcelain", "--untracked-files=no")),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _read_processor(),
        "cpus": len(os.sched_getaffinity(0)),
        "load_average": round(os.getloadavg()[0], 2),
        "versions": {name: found for name in PACKAGES if (found := _find_version(name))},
    }


def _run_git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S607
    except OSError:
        return ""
    return done.stdout.strip()


def _read_processor() -> str:
    names = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    )
    return next(names, platform.machine())


def _find_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def summarize_run(run: Mapping[str, object]) -> str:
    """The run in one sentence."""
    changed = ", changed" if run["changed"] else ""
    quick = "Quick sizes, which show whether it works and not how fast it is. " if run["quick"] else ""
    return (
        f"{quick}{run['date']}, commit {run['commit'] or 'unknown'}{changed}, Python {run['python']}, "
        f"{run['cpus']} CPUs ({run['processor']}), load average {run['load_average']} at the start."
    )


def list_sentences(samples: Samples, figures: Sequence[Figure]) -> list[str]:
    """What a reader needs beside the table."""
    lines = [figure.is_met for figure in figures if figure.spec.line]
    missed = ", ".join(figure.spec.title for figure in figures if figure.is_met is False)
    sentences = [f"{lines.count(True)} of {len(lines)} lines are met{f'; missed: {missed}' if missed else ''}."]
    generator = describe_load_generator(samples)
    if generator:
        sentences.append(generator)
    return sentences + [f"Not as it should be: {failure}." for failure in samples.failures]


def write_curves(measured: Curves, run: Mapping[str, object], folder: Path) -> list[Path]:
    """As `write_comparison`, of the curves."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "run": run,
        "curves": [
            {
                "grows": curve.grows,
                "title": curve.title,
                "unit": curve.unit,
                "line": curve.line.format(curve.unit) if curve.line else None,
                "met": curve.is_met,
                "bends_at": curve.bend,
                "points": [[at, float(f"{value:.6g}")] for at, value in curve.points],
            }
            for curve in measured.curves
        ],
        "imports_ms": measured.imports_ms,
        "failures": measured.failures,
    }
    imports = "Imports, in milliseconds: " + ", ".join(
        f"{name} {ms:.0f}" for name, ms in list(measured.imports_ms.items())[:25]
    )
    text = [
        "# This server as things grow",
        "`make bench-curves` writes this page. A curve bends at the first size from which on its figure is twice as "
        "bad as at the smallest.",
        "![All curves](curves.svg)",
        make_markdown(list_curve_rows(measured.curves)),
        *([f"{imports} (measured by the interpreter, which slows them)."] if measured.imports_ms else []),
        *([f"Not as it should be: {'; '.join(measured.failures)}."] if measured.failures else []),
        *_describe_surroundings(run),
    ]
    paths = [folder / name for name in ("curves.md", "curves.json", "curves.svg")]
    paths[0].write_text("\n\n".join(text) + "\n", encoding="utf-8")
    paths[1].write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_curves(measured.curves, measured.imports_ms, f"This server as things grow ({run['date']})", paths[2])
    return paths


def _describe_surroundings(run: Mapping[str, object]) -> list[str]:
    versions = run["versions"]
    assert isinstance(versions, dict)
    return [
        f"Run: {summarize_run(run)}",
        "Versions: " + ", ".join(f"{name} {number}" for name, number in versions.items()) + ".",
    ]


def write_comparison(samples: Samples, run: Mapping[str, object], folder: Path) -> list[Path]:
    """The table, the JSON and the picture of a comparison; the paths that were written."""
    figures = make_figures(samples)
    folder.mkdir(parents=True, exist_ok=True)
    prepared = {key: list(columns[PREPARED].values()) for key, columns in samples.by_key.items() if PREPARED in columns}
    content = {
        "run": run,
        "figures": [encode_figure(figure) for figure in figures],
        "prepared_buffer": prepared,
        "failures": samples.failures,
    }
    text = [
        "# This server beside bare streams",
        "`make bench-peers` writes this page. The ratios count, not the absolute figures: the load generator shares "
        f"the machine. The column `{OURS}` keeps, checks and resumes; the others do not.",
        "![All figures as bars](peers.svg)",
        make_markdown(list_rows(figures)),
        "\n".join(f"- {sentence}" for sentence in list_sentences(samples, figures)),
        *_describe_surroundings(run),
    ]
    paths = [folder / name for name in ("peers.md", "peers.json", "peers.svg")]
    paths[0].write_text("\n\n".join(text) + "\n", encoding="utf-8")
    paths[1].write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_comparison(figures, f"This server beside bare streams ({run['date']})", paths[2])
    return paths
