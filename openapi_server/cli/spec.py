"""`zoochat spec`: the API description, for tools that read a file."""

from __future__ import annotations

import json

import click


@click.command()
@click.option("--openapi", "version", type=click.Choice(["3.0", "3.2"]), default="3.0", show_default=True)
@click.option("--format", "form", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def spec(version: str, form: str) -> None:
    """Print the API description.

    OpenAPI 3.0 is `openapi.yaml`, for generators of clients. OpenAPI 3.2 is made from it: each stream has an
    `itemSchema`, and each operation all of its responses. A server has both at /openapi.json and /openapi-3.2.json.
    """
    from openapi_server.spec import load_spec, load_spec_3_2, read_spec
    from openapi_server.yaml_files import dump_yaml

    if (version, form) == ("3.0", "yaml"):
        text = read_spec()
    else:
        document = load_spec() if version == "3.0" else load_spec_3_2()
        text = dump_yaml(document) if form == "yaml" else json.dumps(document, ensure_ascii=False, indent=2) + "\n"
    click.echo(text, nl=False)
