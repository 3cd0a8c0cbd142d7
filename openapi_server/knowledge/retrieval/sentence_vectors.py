"""The semantic index: how similar a message is to each fact, by sentence vectors. Needs the extra `semantic`.

The facts' vectors are computed in the background: a server starts at once, and uses full-text search alone until they
are there. They are cached in a file, because computing them again takes most of a minute.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import structlog

from openapi_server.knowledge.retrieval.minilm import DIMENSIONS, MODEL_NAME, MiniLM, Vectors
from openapi_server.knowledge.retrieval.ranking import Similarities
from openapi_server.models.animal import Animal, Fact
from openapi_server.yaml_files import load_yaml

OUT_OF_SCOPE_FILE = Path(__file__).with_name("out_of_scope.yaml")

_CACHED_QUERIES = 64
_NICENESS = 10

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _IndexedFacts:
    """`vectors`: shape (facts, `DIMENSIONS`), in the order of `fact_ids`."""

    fact_ids: tuple[str, ...]
    vectors: Vectors


class SentenceModel(Protocol):
    def encode(self, texts: Sequence[str]) -> Vectors:
        """One unit vector for each text: shape (texts, `DIMENSIONS`)."""


class SentenceVectorIndex:
    """Implements `SemanticIndex`. Facts are encoded on one thread of its own, messages on the caller's."""

    def __init__(
        self, file: Path, load_model: Callable[[], SentenceModel] = MiniLM.load, *, niceness: int = _NICENESS
    ) -> None:
        """`file` caches the vectors for the next start; it is created if it is missing.

        `niceness`: of the indexing thread, see nice(2); turns take precedence over indexing.
        """
        self._file = file
        self._load_model = load_model
        self._indexed: dict[str, _IndexedFacts] = {}
        self._is_loading = False
        self._is_loaded = False
        self._is_closing = threading.Event()
        lower_priority = partial(_lower_priority, niceness)
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="semantic", initializer=lower_priority)
        # Each message is encoded for `retrieve` and again for `rerank`.
        self._encode_query = lru_cache(maxsize=_CACHED_QUERIES)(lambda text: self._model.encode([text])[0])

    def index_animal(self, animal: Animal) -> None:
        if not self._is_loading:
            self._is_loading = True
            self._submit(self._load)
        self._submit(partial(self._index_facts, animal))

    def compute_similarities(self, animal_id: str, message: str) -> Similarities | None:
        indexed = self._indexed.get(animal_id)
        if indexed is None:
            return None
        vector = self._encode_query(message)
        cosines = (indexed.vectors @ vector).tolist()
        out_of_scope = float((self._out_of_scope @ vector).max())
        return Similarities(dict(zip(indexed.fact_ids, cosines, strict=True)), out_of_scope)

    def wait_until_indexed(self, timeout_s: float) -> None:
        """Return when all animals given so far are indexed. Raises `TimeoutError`."""
        self._worker.submit(lambda: None).result(timeout_s)

    @property
    def is_closing(self) -> bool:
        return self._is_closing.is_set()

    def close(self) -> None:
        """Stop indexing, at the latest after the text that is being encoded."""
        self._is_closing.set()
        self._worker.shutdown(cancel_futures=True)

    def _submit(self, work: Callable[[], None]) -> None:
        self._worker.submit(work).add_done_callback(_log_failure)

    def _load(self) -> None:
        self._model = self._load_model()
        self._cached = read_vectors(self._file, DIMENSIONS)
        self._out_of_scope = self._encode_means([(text,) for text in load_yaml(OUT_OF_SCOPE_FILE)])
        self._is_loaded = True

    def _index_facts(self, animal: Animal) -> None:
        if not self._is_loaded:
            return
        cached_count = len(self._cached)
        vectors = self._encode_means([_list_wordings(fact) for fact in animal.facts])
        if self.is_closing:
            return
        self._indexed[animal.animal_id] = _IndexedFacts(tuple(fact.fact_id for fact in animal.facts), vectors)
        if len(self._cached) > cached_count:
            write_vectors(self._file, self._cached)

    def _encode_means(self, groups: Sequence[tuple[str, ...]]) -> Vectors:
        """The mean vector of each group of texts: its product with a message's vector is the mean of the cosines."""
        return np.array([self._encode_mean(texts) for texts in groups], np.float32).reshape(-1, DIMENSIONS)

    def _encode_mean(self, texts: tuple[str, ...]) -> Vectors:
        key = make_key(MODEL_NAME, *texts)
        if key not in self._cached and not self.is_closing:
            self._cached[key] = self._model.encode(texts).mean(axis=0)
        return self._cached.get(key, np.zeros(DIMENSIONS, np.float32))


def _log_failure(future: Future[None]) -> None:
    """No caller waits for the result of indexing, so its errors would be lost."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("Sentence vectors cannot be used: facts are found by full-text search alone", exc_info=error)


def _list_wordings(fact: Fact) -> tuple[str, ...]:
    """The texts that messages are compared with. Measured: these three find more than one alone or all texts."""
    return fact.say, fact.text, ", ".join(fact.asks)


def _lower_priority(niceness: int) -> None:
    """Only Linux has a niceness for each thread."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), niceness)


# --- The vector file. It is a cache: each vector is stored under the hash of the model and the texts that it was
# computed from, so changed facts are computed again. Errors in reading or writing it are logged, never raised.


def make_key(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def read_vectors(path: Path, dimensions: int) -> dict[str, Vectors]:
    """The vectors of the file by their keys; empty when there is no usable file."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            keys, vectors = arrays["keys"], arrays["vectors"]
    except FileNotFoundError:
        return {}
    except Exception:  # the server is starting and does not need the cache, whatever is wrong with it
        log.warning("The file of sentence vectors cannot be read; it will be replaced", path=str(path))
        return {}
    if vectors.shape != (len(keys), dimensions):
        return {}
    return dict(zip(map(str, keys), vectors.astype(np.float32), strict=True))


def write_vectors(path: Path, vectors: Mapping[str, Vectors]) -> None:
    """Replace the file atomically, so that another process never reads half of one. In half precision."""
    keys, rows = np.array(list(vectors)), np.array(list(vectors.values()), np.float16)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(number, "wb") as file:
            np.savez(file, keys=keys, vectors=rows)
        Path(name).replace(path)
    except OSError:
        log.warning("The sentence vectors cannot be stored for the next start", path=str(path))
