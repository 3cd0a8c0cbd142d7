"""Speech: what every language model is told beside the prompt, and what it has read and said when it does not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from openapi_server.animals import Animal
from openapi_server.interfaces import Model
from openapi_server.prompting import HISTORY_TOKENS, ChatMessage, estimated_tokens
from openapi_server.turn import Usage

# A turn also costs what the model reads: the talk so far, and about as much again for the system text and the message.
PROMPT_TOKENS = 2 * HISTORY_TOKENS
# No connection waits longer than the longest turn may take; who calls is less patient.
LONGEST_SILENCE_S = 300


@dataclass(frozen=True, slots=True)
class Speech:
    """How a model speaks where the animal's own `mind` does not say otherwise.

    `temperature` None: as the model's maker chose. `max_tokens`: of one reply.
    """

    model: str
    temperature: float | None = None
    max_tokens: int = 512

    def of(self, animal: Animal) -> Speech:
        mind = animal.mind
        return Speech(
            mind.model or self.model,
            self.temperature if mind.temperature is None else mind.temperature,
            mind.max_tokens or self.max_tokens,
        )

    def models(self) -> Sequence[Model]:
        """The one model that clients are offered; its `max_tokens` are what a turn may cost."""
        described = "A language model that speaks from the keepers' notes."
        return (Model(self.model, self.model, described, max_tokens=self.max_tokens + PROMPT_TOKENS),)


def text_of(value: object) -> str:
    """A piece of text as a server sent it, "" for none. The libraries hand through whatever stands in its place."""
    if value is not None and not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value or ""


def count_of(value: object) -> int:
    """A count as a server sent it; 0 for what is none."""
    return max(0, value) if isinstance(value, int) else 0


def estimated_usage(system: str, read: Sequence[ChatMessage], pieces: int) -> Usage:
    """For servers that do not count: what they read by its length, and a token for each piece that they sent."""
    return Usage(estimated_tokens(system) + sum(estimated_tokens(message.text) for message in read), pieces)
