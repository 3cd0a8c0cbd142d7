"""The sentence model gives the published cosines, and encodes any text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from openapi_server.knowledge.retrieval.minilm import MiniLM


@pytest.fixture(scope="module")
def model(semantic_extra: None) -> MiniLM:
    from openapi_server.knowledge.retrieval.minilm import MiniLM

    return MiniLM.load()


def cosine(model: MiniLM, one: str, other: str) -> float:
    vectors = model.encode([one, other])
    return float(vectors[0] @ vectors[1])


@pytest.mark.parametrize(
    ("one", "other", "published"),
    [
        ("The weather is lovely today.", "It's so sunny outside!", 0.6660),
        ("The weather is lovely today.", "He drove to the stadium.", 0.1046),
        ("It's so sunny outside!", "He drove to the stadium.", 0.1411),
    ],
)
def test_it_is_the_model_that_was_published(model: MiniLM, one: str, other: str, published: float) -> None:
    """The example of the model's own service gives its cosines, to three digits: our numpy runs the same network."""
    assert cosine(model, one, other) == pytest.approx(published, abs=0.001)


def test_a_vector_does_not_depend_on_the_batch(model: MiniLM) -> None:
    """A text has the same vector alone as among forty others of all lengths, in whatever order they come."""
    texts = [f"How many {'very ' * at}old lions are there?" for at in range(40)]
    together = model.encode(texts)

    for place in (0, 17, 39):
        assert together[place] @ model.encode([texts[place]])[0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("text", ["", " ", "🦁" * 50, "a" * 4_000, "how fast " * 500, "\x00", "¿Qué comes?"])
def test_any_text_has_a_unit_vector(model: MiniLM, text: str) -> None:
    """So it can be compared, whatever a visitor types."""
    (vector,) = model.encode([text])

    assert vector @ vector == pytest.approx(1, abs=1e-4)
