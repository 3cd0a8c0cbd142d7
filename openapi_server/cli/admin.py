"""The office, as the commands open it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from openapi_server.cli.settings import read_settings
from openapi_server.models.errors import ChatError

if TYPE_CHECKING:
    from openapi_server.admin import Office

T = TypeVar("T")


def run_with_store(work: Callable[[Office], Awaitable[T]]) -> T:
    """Do the work with the store open; what it refuses is said in one line, with exit code 1."""
    from openapi_server.accounts.passwords import WeakPassword
    from openapi_server.admin import open_office

    async def run() -> T:
        async with open_office(settings) as office:
            return await work(office)

    settings = read_settings()
    try:
        return asyncio.run(run())
    except WeakPassword as error:
        raise click.ClickException(str(error)) from None
    except ChatError as error:
        raise click.ClickException(error.detail) from None
