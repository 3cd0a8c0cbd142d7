"""Knowledge services: with full-text search alone, and with semantic search where the extra `semantic` is installed."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from pathlib import Path

import pytest

from openapi_server.knowledge.service import KnowledgeService
from tests.support.extras import need_semantic_extra

INDEXED_WITHIN_S = 300


@pytest.fixture(scope="session")
def semantic_extra() -> None:
    need_semantic_extra()


@pytest.fixture(scope="session")
def vectors_folder(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kept between runs: computing the vectors of all facts takes half a minute of the processor.

    Without pytest's cache (`-p no:cacheprovider`), the folder of this process.
    """
    cache = getattr(pytestconfig, "cache", None)
    return cache.mkdir("sentence-vectors") if cache is not None else tmp_path_factory.mktemp("sentence-vectors")


@pytest.fixture(scope="session")
def full_text() -> Iterator[KnowledgeService]:
    service = KnowledgeService.load()
    yield service
    service.close()


@pytest.fixture(scope="session")
def semantic(semantic_extra: None, vectors_folder: Path) -> Iterator[KnowledgeService]:
    """All facts are indexed. The lock lets one worker process of the suite compute, and the others read the file."""
    from openapi_server.knowledge.retrieval.sentence_vectors import SentenceVectorIndex

    with (vectors_folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # With a low priority, the thread would get hardly any time beside the other worker processes.
        semantic_index = SentenceVectorIndex(vectors_folder / "fact_vectors.npz", niceness=0)
        service = KnowledgeService.load(semantic_index=semantic_index)
        semantic_index.wait_until_indexed(INDEXED_WITHIN_S)
    yield service
    service.close()
