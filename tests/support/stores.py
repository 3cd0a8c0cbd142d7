"""The storage backends that the contract suites of all stores run for. A new backend adds one line to `BACKENDS`."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path
from typing import Protocol

from openapi_server.models.personal_data import DataSubject
from openapi_server.models.session import DeviceUser
from openapi_server.protocols import Clock
from openapi_server.storage.factory import Stores, open_sqlite_stores
from tests.support.dynamodb import open_dynamodb


class OpensStores(Protocol):
    """Opens a backend's stores over a folder; opened twice over one folder they stand for two processes of one zoo."""

    def __call__(
        self, folder: Path, clock: Clock, retention: timedelta | None = None, /
    ) -> AbstractAsyncContextManager[Stores]: ...


def open_sqlite(
    folder: Path, clock: Clock, retention: timedelta | None = None, /
) -> AbstractAsyncContextManager[Stores]:
    return open_sqlite_stores(folder / "zoo.sqlite3", clock, retention)


async def list_device_users(stores: Stores, handle: str, *session_ids: str) -> tuple[DeviceUser, ...]:
    """The stored users of the device with this handle, and of these sessions."""
    subject = DataSubject(handle=handle, session_ids=session_ids)
    return (await stores.personal_data.export(subject)).devices


BACKENDS: dict[str, OpensStores] = {"sqlite": open_sqlite, "dynamodb": open_dynamodb}
