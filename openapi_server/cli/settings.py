"""The settings, as every command reads them."""

from __future__ import annotations

import sys

import click

from openapi_server.config import ConfigError, Settings, load_settings


def read_settings() -> Settings:
    """The settings, or a plain word about what is wrong with them and exit code 2."""
    try:
        return load_settings()
    except ConfigError as error:
        click.echo(f"The settings cannot be used:\n{error}", err=True)
        sys.exit(2)
