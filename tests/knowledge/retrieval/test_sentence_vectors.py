"""The semantic index: facts are indexed in the background, nothing is computed twice, and failures are logged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from openapi_server.knowledge.service import KnowledgeService
from tests.support.fakes import make_fact, make_lion
from tests.support.report import Report

if TYPE_CHECKING:
    from openapi_server.knowledge.retrieval.minilm import Vectors
    from openapi_server.knowledge.retrieval.sentence_vectors import SentenceVectorIndex

SOON_S = 10
LION = make_lion()

pytestmark = pytest.mark.usefixtures("semantic_extra")


class CountingModel:
    """A model for which all texts mean the same. Counts them; waits before each while `may_continue` is not set."""

    def __init__(self) -> None:
        self.encoded_count = 0
        self.has_started = threading.Event()
        self.may_continue = threading.Event()
        self.may_continue.set()

    def encode(self, texts: Sequence[str]) -> Vectors:
        import numpy as np

        self.has_started.set()
        assert self.may_continue.wait(SOON_S)
        self.encoded_count += len(texts)
        rows = np.zeros((len(texts), 384), np.float32)
        rows[:, 0] = 1
        return rows


OpenIndex = Callable[..., "SentenceVectorIndex"]


@pytest.fixture
def open_index_over_file(tmp_path: Path) -> Iterator[OpenIndex]:
    """Opens an index over a file that stays, with a model of the test's choice."""
    from openapi_server.knowledge.retrieval.sentence_vectors import SentenceVectorIndex

    all_opened: list[SentenceVectorIndex] = []

    def open_index(load_model: Callable[[], CountingModel]) -> SentenceVectorIndex:
        all_opened.append(SentenceVectorIndex(tmp_path / "deep" / "vectors.npz", load_model))
        return all_opened[-1]

    yield open_index
    for semantic_index in all_opened:
        semantic_index.close()


def test_there_are_no_similarities_until_the_facts_are_indexed(open_index_over_file: OpenIndex) -> None:
    """Callers do not wait; afterwards there is a similarity for every fact."""
    model = CountingModel()
    model.may_continue.clear()
    semantic_index = open_index_over_file(lambda: model)
    semantic_index.index_animal(LION)
    assert model.has_started.wait(SOON_S)
    assert semantic_index.compute_similarities(LION.animal_id, "how fast are you") is None

    model.may_continue.set()
    semantic_index.wait_until_indexed(SOON_S)

    similarities = semantic_index.compute_similarities(LION.animal_id, "how fast are you")
    assert similarities is not None
    assert similarities.by_fact_id == {fact.fact_id: 1.0 for fact in LION.facts}


def test_the_next_start_reads_the_file_instead(open_index_over_file: OpenIndex) -> None:
    """A second server over the same file computes nothing, and gives the same."""
    first, second = CountingModel(), CountingModel()
    for model in (first, second):
        semantic_index = open_index_over_file(lambda model=model: model)
        semantic_index.index_animal(LION)
        semantic_index.wait_until_indexed(SOON_S)
        assert semantic_index.compute_similarities(LION.animal_id, "hello") is not None

    assert first.encoded_count > 3 * len(LION.facts)
    assert second.encoded_count == 1  # the question


def test_only_a_changed_fact_is_encoded_again(open_index_over_file: OpenIndex) -> None:
    """The three wordings of the new fact are encoded, the other fact comes from the cache, the deleted one is gone."""
    model = CountingModel()
    semantic_index = open_index_over_file(lambda: model)
    semantic_index.index_animal(replace(LION, facts=(make_fact("mane"), make_fact("roar"))))
    semantic_index.wait_until_indexed(SOON_S)
    known = model.encoded_count

    semantic_index.index_animal(
        replace(LION, facts=(make_fact("mane"), replace(make_fact("paws"), text="Lions have big paws.")))
    )
    semantic_index.wait_until_indexed(SOON_S)

    assert model.encoded_count - known == 3
    similarities = semantic_index.compute_similarities(LION.animal_id, "hello")
    assert similarities is not None
    assert {fact_id.rpartition("/")[2] for fact_id in similarities.by_fact_id} == {"mane", "paws"}


@pytest.mark.parametrize("rubbish", [b"", b"not vectors", b"PK\x03\x04 half a file"])
def test_a_damaged_file_is_replaced(open_index_over_file: OpenIndex, tmp_path: Path, rubbish: bytes) -> None:
    """The file is only a cache: whatever is in it, the server starts, and the next one reads a good file."""
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "vectors.npz").write_bytes(rubbish)
    for _ in range(2):
        model = CountingModel()
        semantic_index = open_index_over_file(lambda model=model: model)
        semantic_index.index_animal(LION)
        semantic_index.wait_until_indexed(SOON_S)

    assert model.encoded_count == 0


def test_a_model_that_cannot_be_loaded_is_logged(open_index_over_file: OpenIndex) -> None:
    """Facts are still found by full-text search, and the log says why."""

    def broken() -> CountingModel:
        raise OSError("no weights")

    with capture_logs() as lines:
        semantic_index = open_index_over_file(broken)
        semantic_index.index_animal(LION)
        semantic_index.wait_until_indexed(SOON_S)

    assert semantic_index.compute_similarities(LION.animal_id, "how fast are you") is None
    [line] = lines
    assert line["event"] == "Sentence vectors cannot be used: facts are found by full-text search alone"


def test_closing_does_not_wait_for_the_rest(open_index_over_file: OpenIndex) -> None:
    """A server that stops in its first half minute ends after the text that is being encoded, not after all of them."""
    model = CountingModel()
    model.may_continue.clear()
    semantic_index = open_index_over_file(lambda: model)
    semantic_index.index_animal(LION)
    assert model.has_started.wait(SOON_S)

    closing = threading.Thread(target=semantic_index.close)
    closing.start()
    until_s = time.monotonic() + SOON_S
    while not semantic_index.is_closing:
        assert time.monotonic() < until_s
        time.sleep(0.001)
    model.may_continue.set()
    closing.join(SOON_S)

    assert not closing.is_alive()
    assert model.encoded_count <= 1


async def test_a_question_takes_milliseconds(semantic: KnowledgeService, report: Report) -> None:
    """With a new question each time; the report says how long it takes."""
    lion = semantic.get_animal("lion_001")
    assert lion is not None
    started = time.process_time()
    for age in range(50):
        await semantic.retrieve(lion, f"what were you up to when you were {age} years old?", [])
    took_ms = (time.process_time() - started) / 50 * 1_000
    report(f"semantic retrieval: {took_ms:.1f} ms of the processor for a question")

    assert took_ms < 100
