"""The file in which vectors survive a restart: computing them again would take most of a minute.

It is only a cache. Each vector stands under the hash of the model and of the wording that it was computed from, so a
fact that the keepers change is simply not found there; a file that cannot be read or written costs time, nothing else.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import structlog
from numpy.typing import NDArray

log = structlog.get_logger(__name__)

Cached = Mapping[str, NDArray[np.float32]]


def make_key(*wording: str) -> str:
    return hashlib.sha256("\0".join(wording).encode()).hexdigest()


def read_vectors(path: Path, width: int) -> dict[str, NDArray[np.float32]]:
    """What is in the file by its keys; nothing when there is no file that can be used."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            keys, vectors = arrays["keys"], arrays["vectors"]
    except FileNotFoundError:
        return {}
    except Exception:  # a server is starting, and whatever is wrong with a cache, it can do without
        log.warning("The file of sentence vectors cannot be read, and is made anew", path=str(path))
        return {}
    if vectors.shape != (len(keys), width):
        return {}
    return dict(zip(map(str, keys), vectors.astype(np.float32), strict=True))


def write_vectors(path: Path, vectors: Cached) -> None:
    """Replace the file in one step, so that another process never reads half of one. Half precision is plenty."""
    keys, rows = np.array(list(vectors)), np.array(list(vectors.values()), np.float16)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        number, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        with os.fdopen(number, "wb") as file:
            np.savez(file, keys=keys, vectors=rows)
        Path(name).replace(path)
    except OSError:
        log.warning("The sentence vectors cannot be kept for the next start", path=str(path))
