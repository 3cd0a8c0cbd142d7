"""How near a question is to each fact in meaning, by sentence vectors. Needs the extra `semantic`.

The vectors of the facts are computed in the background: a server starts at once, and finds by words alone until they
are there. Afterwards they come from a file.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import structlog
import yaml

from openapi_server.knowledge.retrieval.fusion import Similarities
from openapi_server.knowledge.retrieval.minilm import DIMENSIONS, MODEL_NAME, MiniLM, Vectors
from openapi_server.knowledge.retrieval.vector_file import make_key, read_vectors, write_vectors
from openapi_server.models.animal import Animal, Fact

OUT_OF_SCOPE_FILE = Path(__file__).with_name("outside.yaml")

_RECENT_QUESTIONS = 64
_POLITE = 10

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Learned:
    fact_ids: tuple[str, ...]
    vectors: Vectors


class SentenceModel(Protocol):
    def encode(self, texts: Sequence[str]) -> Vectors: ...


class SentenceVectorIndex:
    """Implements `Meanings`. One thread reads facts; questions are read in whichever thread asks."""

    def __init__(
        self, file: Path, load_model: Callable[[], SentenceModel] = MiniLM.load, *, niceness: int = _POLITE
    ) -> None:
        """`file` keeps the vectors for the next start; it is made when it is missing.

        `niceness`: how readily the facts' thread steps back. They can wait, visitors cannot.
        """
        self._file = file
        self._load_model = load_model
        self._learned: dict[str, _Learned] = {}
        self._has_begun = False
        self._is_open = False
        self._is_closing = threading.Event()
        be_polite = partial(_step_back, niceness)
        self._reader = ThreadPoolExecutor(max_workers=1, thread_name_prefix="meanings", initializer=be_polite)
        # Questions come twice, from `retrieve` and from `rerank`.
        self._vector = lru_cache(maxsize=_RECENT_QUESTIONS)(lambda text: self._model.encode([text])[0])

    def index_animal(self, animal: Animal) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._soon(self._open)
        self._soon(partial(self._learn, animal))

    def compute_similarities(self, animal_id: str, message: str) -> Similarities | None:
        learned = self._learned.get(animal_id)
        if learned is None:
            return None
        vector = self._vector(message)
        cosines = (learned.vectors @ vector).tolist()
        return Similarities(dict(zip(learned.fact_ids, cosines, strict=True)), float((self._outside @ vector).max()))

    def wait_until_indexed(self, timeout_s: float) -> None:
        """Return when all that was to be learned is learned. Raises `TimeoutError`."""
        self._reader.submit(lambda: None).result(timeout_s)

    @property
    def is_closing(self) -> bool:
        return self._is_closing.is_set()

    def close(self) -> None:
        """Stop learning, at the latest after the text that is being read."""
        self._is_closing.set()
        self._reader.shutdown(cancel_futures=True)

    def _soon(self, work: Callable[[], None]) -> None:
        self._reader.submit(work).add_done_callback(_tell)

    def _open(self) -> None:
        self._model = self._load_model()
        self._cached = read_vectors(self._file, DIMENSIONS)
        self._outside = self._mean_vectors([(text,) for text in _outside()])
        self._is_open = True

    def _learn(self, animal: Animal) -> None:
        if not self._is_open:
            return
        known = len(self._cached)
        vectors = self._mean_vectors([_wording(fact) for fact in animal.facts])
        if self.is_closing:
            return
        self._learned[animal.animal_id] = _Learned(tuple(fact.fact_id for fact in animal.facts), vectors)
        if len(self._cached) > known:
            write_vectors(self._file, self._cached)

    def _mean_vectors(self, wordings: Sequence[tuple[str, ...]]) -> Vectors:
        """For each group of texts the mean of their vectors: its product with a question is the mean of the cosines."""
        return np.array([self._mean_vector(wording) for wording in wordings], np.float32).reshape(-1, DIMENSIONS)

    def _mean_vector(self, wording: tuple[str, ...]) -> Vectors:
        key = make_key(MODEL_NAME, *wording)
        if key not in self._cached and not self.is_closing:
            self._cached[key] = self._model.encode(wording).mean(axis=0)
        return self._cached.get(key, np.zeros(DIMENSIONS, np.float32))


def _tell(done: Future[None]) -> None:
    """Nobody waits for what is learned: without this line nobody would hear that it failed."""
    if not done.cancelled() and (error := done.exception()) is not None:
        log.error("Sentence vectors cannot be used: facts are found by words alone", exc_info=error)


def _wording(fact: Fact) -> tuple[str, ...]:
    """What a question may be near to. Measured: these three find more than any one of them, and than all there is."""
    return fact.say, fact.text, ", ".join(fact.asks)


def _outside() -> list[str]:
    listed: list[str] = yaml.safe_load(OUT_OF_SCOPE_FILE.read_text(encoding="utf-8"))
    return listed


def _step_back(niceness: int) -> None:
    """Only Linux has a niceness for each thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)
