"""A check as a person sees it in a terminal: how far it is, then what was found."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from openapi_server.devtools.check.checker import CheckOptions, run_checks
from openapi_server.devtools.check.findings import Finding
from openapi_server.devtools.check.report import print_table


async def run_with_progress(order: CheckOptions, *, is_quiet: bool = False) -> list[Finding]:
    """Check, with a bar of progress on a terminal, and print the table; nothing at all when quiet."""
    console = Console(quiet=is_quiet)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"checking {order.url}", total=None)

        def plan(count: int) -> None:
            progress.update(task, total=count)

        def tell(finding: Finding) -> None:
            progress.update(task, advance=1, description=f"{finding.contract}: {finding.check}")

        findings = await run_checks(order, plan, tell)
    print_table(console, order.url, findings)
    return findings
