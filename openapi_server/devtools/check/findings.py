"""What a check finds out: it returns what it saw, or raises what is wrong, or why it cannot be done here."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Violation(Exception):
    """The contract is broken. The message is the evidence: one line, what was seen and where."""


class Skipped(Exception):
    """The check cannot be done here; the message says why. Never a pass."""


class Result(StrEnum):
    """How a check ended."""

    PASS = "pass"  # noqa: S105  # a word, not a secret
    FAIL = "fail"
    SKIP = "skip"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check of one contract. `evidence` is one line; `took_s` is in seconds."""

    contract: str
    check: str
    verdict: Result
    evidence: str
    duration_s: float = 0.0


def require(claim: object, evidence: str) -> None:
    """Raise `Violation` with the evidence unless the claim holds."""
    if not claim:
        raise Violation(evidence)
