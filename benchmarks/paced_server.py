"""A server whose provider streams at a fixed pace, so that the server is measured and not a model.

`python -m benchmarks.paced_server PIECES PER_SECOND` starts it; all but the provider is real. 0 a second: no pauses.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Sequence

from openapi_server.config import load_settings
from openapi_server.models.animal import Animal
from openapi_server.models.prompt import Prompt
from openapi_server.protocols import Model, ProviderState, ReplyEnd, WholeReply
from openapi_server.server import run


class PacedProvider:
    """Streams `pieces` short texts, `per_s` a second; with 0 all at once."""

    model = "paced"

    def __init__(self, pieces: int, per_s: float) -> None:
        self._pieces = pieces
        self._per_s = per_s

    def list_models(self) -> Sequence[Model]:
        return (Model(self.model, "Metronome", "Speaks at a fixed pace."),)

    def get_model(self, animal: Animal) -> Model:
        return self.list_models()[0]

    def get_state(self) -> ProviderState:
        return ProviderState()

    async def stream_reply(self, prompt: Prompt) -> AsyncGenerator[str | WholeReply | ReplyEnd, None]:
        # Checked once, whole: what is measured is not how long a sentence is held back.
        yield WholeReply("".join(f"tick {number} " for number in range(1, self._pieces + 1)))
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        for number in range(1, self._pieces + 1):
            if self._per_s:
                await asyncio.sleep(max(0.0, began_s + number / self._per_s - loop.time()))
            yield f"tick {number} "
        yield ReplyEnd()


if __name__ == "__main__":
    run(load_settings(), PacedProvider(int(sys.argv[1]), float(sys.argv[2])))
