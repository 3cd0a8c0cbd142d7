"""Which modules of the package cannot be looked at for doctests here."""

from __future__ import annotations

from importlib.util import find_spec

from openapi_server.composition import SEMANTIC_EXTRA

# They import numpy and the like at their top; their tests are skipped, or fail where services are required.
NEED_EXTRA = ("meanings", "minilm", "vector_file")
is_there = all(find_spec(name) is not None for name in SEMANTIC_EXTRA)
collect_ignore = [] if is_there else [f"openapi_server/knowledge/{name}.py" for name in NEED_EXTRA]
