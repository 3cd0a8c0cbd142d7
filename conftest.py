"""What has to be settled before any module of the package is looked at, for its doctests or by a test."""

from __future__ import annotations

import os
from importlib.util import find_spec

from openapi_server.composition import SEMANTIC_EXTRA

# As in a server, and read once, when numpy is imported: several threads to each of several worker processes only spin.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# They import numpy and the like at their top; their tests are skipped, or fail where services are required.
NEED_EXTRA = ("sentence_vectors", "minilm")
is_there = all(find_spec(name) is not None for name in SEMANTIC_EXTRA)
collect_ignore = [] if is_there else [f"openapi_server/knowledge/retrieval/{name}.py" for name in NEED_EXTRA]
