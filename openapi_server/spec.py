"""The API description, `openapi.yaml`, as data."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from openapi_server.yaml_files import load_packaged_yaml

PACKAGE = Path(__file__).parent


def get_spec_path() -> Path:
    """The path of `openapi.yaml`: in the top folder of a checkout, inside the package when it is installed."""
    installed = PACKAGE / "openapi.yaml"
    return installed if installed.exists() else PACKAGE.parent / "openapi.yaml"


@cache
def load_spec() -> dict[str, Any]:
    """The document with its `$ref`s unresolved. It is read once: callers must not change it."""
    loaded: dict[str, Any] = load_packaged_yaml(get_spec_path())
    return loaded
