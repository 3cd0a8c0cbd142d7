"""Imports libraries without the modules that they import for purposes which this server does not have.

Connexion imports at its top a client for tests and two HTTP clients, structlog coloured tracebacks, uvicorn a watcher
of files. Together they are a tenth of a server's memory and of its start. In their place a library gets a placeholder,
which imports the real module when something of it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

# By library: what is not imported with it.
LEFT_OUT: dict[str, tuple[str, ...]] = {
    # For its tests, for a spec or a reference at a URL, and for tokens that another server checks.
    "connexion": ("starlette.testclient", "requests", "httpx"),
    # For tracebacks in colours and with local variables, which may hold messages.
    "structlog": ("rich", "rich.console", "rich.pretty", "rich.traceback"),
    # For starting again when a file has changed.
    "uvicorn": ("watchfiles",),
}


def install() -> None:
    """From now on the libraries are imported so. One that has been imported already stays as it is."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname not in LEFT_OUT:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    def exec_module(self, module: ModuleType) -> None:
        with _leave_out(LEFT_OUT[module.__name__]):
            super().exec_module(module)


@contextmanager
def _leave_out(names: Sequence[str]) -> Iterator[None]:
    placeholders = {name: _Placeholder(name) for name in names if name not in sys.modules}
    sys.modules.update(placeholders)
    try:
        yield
    finally:
        for name, placeholder in placeholders.items():
            if sys.modules.get(name) is placeholder:
                del sys.modules[name]


class _Placeholder(ModuleType):
    """In the place of a module; what is taken from it is a `_Later`."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Later(self.__name__, name)


class _Later:
    """In the place of a function, a class or a module; what is done with it is done with the real one."""

    def __init__(self, module: str, name: str) -> None:
        self._module = module
        self._name = name

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._import()(*args, **options)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._import(), name)

    def _import(self) -> Any:
        module = import_module(self._module)
        if not hasattr(module, self._name):
            return import_module(f"{self._module}.{self._name}")
        return getattr(module, self._name)
