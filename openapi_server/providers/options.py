"""Speech: what every language model is told beside the prompt, and what it has read and said when it does not say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from openapi_server.models.animal import Animal
from openapi_server.models.turn import FinishReason, Usage
from openapi_server.protocols import Model
from openapi_server.providers.prompt import HISTORY_TOKENS, ChatMessage, estimate_tokens

# A turn also costs what the model reads: the talk so far, and about as much again for the system text and the message.
MAX_PROMPT_TOKENS = 2 * HISTORY_TOKENS
# No connection waits longer than the longest turn may take; who calls is less patient.
READ_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class ModelOptions:
    """How a model speaks where the animal's own `mind` does not say otherwise.

    `temperature` None: as the model's maker chose. `max_tokens`: of one reply.
    """

    model: str
    temperature: float | None = None
    max_tokens: int = 512

    def for_animal(self, animal: Animal) -> ModelOptions:
        mind = animal.model_settings
        return ModelOptions(
            mind.model or self.model,
            self.temperature if mind.temperature is None else mind.temperature,
            mind.max_tokens or self.max_tokens,
        )

    def to_model(self) -> Model:
        """The model as clients are offered it."""
        described = "A language model that speaks from the keepers' notes."
        return Model(self.model, self.model, described, max_tokens=self.max_tokens, max_prompt_tokens=MAX_PROMPT_TOKENS)


class ConfiguredProvider:
    """What a provider that speaks in one way, but for what keepers say of their animals, has to say of its models."""

    def __init__(self, options: ModelOptions) -> None:
        self._options = options

    @property
    def model(self) -> str:
        return self._options.model

    def list_models(self) -> Sequence[Model]:
        return (self._options.to_model(),)

    def get_model(self, animal: Animal) -> Model:
        return self._options.for_animal(animal).to_model()


def parse_text(value: object) -> str:
    """A piece of text as a server sent it, "" for none. The libraries hand through whatever stands in its place."""
    if value is not None and not isinstance(value, str):
        raise TypeError(type(value).__name__)
    return value or ""


def parse_finish_reason(value: object, known: Mapping[str, FinishReason]) -> FinishReason | None:
    """How a reply ended, from a server's own word for it; None for none. Of an unknown word only that it has ended."""
    word = parse_text(value)
    return known.get(word, FinishReason.STOP) if word else None


def parse_token_count(value: object) -> int:
    """A count as a server sent it; 0 for what is none."""
    return max(0, value) if isinstance(value, int) else 0


def estimate_usage(system: str, read: Sequence[ChatMessage], pieces: int) -> Usage:
    """For servers that do not count: what they read by its length, and a token for each piece that they sent."""
    return Usage(estimate_tokens(system) + sum(estimate_tokens(message.text) for message in read), pieces)
