"""Scripts: how the animal of a trial speaks. The visitor's message carries it, so each turn chooses for itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Script:
    """`pieces` of at least `size` characters, `per_s` a second (0: all at once). `mark` tells scripts apart.

    `hang_after` that many pieces it is silent for ever; `die_after` that many, or `die` "before begin_turn",
    "after settle_turn" and the like, the server kills itself, once a mark. `tells_tasks`: it says how many asyncio
    tasks there are.

    >>> Script(pieces=2, mark="hello").message
    '{"pieces": 2, "mark": "hello"}'
    >>> Script.of('{"pieces": 2}').said
    'Tick 1. Tick 2. '
    """

    pieces: int = 3
    per_s: float = 0
    size: int = 0
    mark: str = ""
    hang_after: int | None = None
    die_after: int | None = None
    die: str | None = None
    reports_tasks: bool = False

    @classmethod
    def parse(cls, message: str) -> Script:
        """What the message asks for; the defaults when it is no script."""
        try:
            return cls(**json.loads(message))
        except (ValueError, TypeError):
            return cls()

    @property
    def message(self) -> str:
        defaults = asdict(Script())
        return json.dumps({name: value for name, value in asdict(self).items() if value != defaults[name]})

    @property
    def texts(self) -> Iterator[str]:
        """Each piece is a sentence: safety may hold text back until its sentence is whole."""
        return (f"{f'Tick {number}'.ljust(self.size, '!')}. " for number in range(1, self.pieces + 1))

    @property
    def reply(self) -> str:
        return "".join(self.texts)
