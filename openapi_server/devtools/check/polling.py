"""States that are polled: they only go forwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from openapi_server.devtools.check.findings import require

PolledState = dict[str, Any]

# Seconds between two looks; the first ones come quicker, to see the states that do not last.
POLL_INTERVALS_S = (0.02, 0.05, 0.1)


def check_forward(
    states: Sequence[PolledState], order: Sequence[str], progress_of: Callable[[PolledState], int]
) -> str:
    """The states of one job as they were seen; the last name in `order` is how it has to end."""
    seen = [state["status"] for state in states]
    strange = [name for name in seen if name not in order]
    require(not strange, f"status {strange[:1]} is none of {', '.join(order)}")
    require(seen == sorted(seen, key=order.index), f"the status goes back: {' '.join(seen)}")
    require(seen[-1] == order[-1], f"the last status is {seen[-1]}, not {order[-1]}")
    progress = [progress_of(state) for state in states]
    require(progress == sorted(progress), f"the progress goes back: {progress}")
    return f"{' > '.join(dict.fromkeys(seen))}, progress {' '.join(map(str, dict.fromkeys(progress)))}"
