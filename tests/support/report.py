"""Figures that are printed at the end of the test run, whichever worker process measured them."""

from __future__ import annotations

from collections.abc import Callable

Report = Callable[[str], None]

# Lines of this process, in the order in which they were reported.
LINES: list[str] = []

# Which of the broken servers `zoochat check` saw through.
MUTANTS_CAUGHT: dict[str, bool] = {}
