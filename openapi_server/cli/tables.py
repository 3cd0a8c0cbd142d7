"""Tables for a person at a terminal, and for the next command of a pipe: no name and no id is ever cut short."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

# Without a terminal rich would take 80 columns for granted, and a row would be several lines.
PIPED_WIDTH = 240


def print_table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(*names)
    for column in table.columns:
        column.overflow = "fold"
    for row in rows:
        table.add_row(*map(Text, row))
    console = Console()
    console = console if console.is_terminal else Console(width=PIPED_WIDTH)
    console.print(table)
