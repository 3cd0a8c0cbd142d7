"""The contract as data: `openapi.yaml`, read once."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

PACKAGE = Path(__file__).parent


def get_spec_path() -> Path:
    """Where the contract lies: at the top of a checkout, inside the package once that is installed."""
    installed = PACKAGE / "openapi.yaml"
    return installed if installed.exists() else PACKAGE.parent / "openapi.yaml"


@cache
def load_spec() -> dict[str, Any]:
    """The document as it was written, `$ref`s unresolved. Callers must not change it."""
    # libyaml reads it in 40 ms; the pure Python loader takes 300.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    loaded: dict[str, Any] = yaml.load(get_spec_path().read_text(encoding="utf-8"), loader)  # noqa: S506  # a safe loader
    return loaded
