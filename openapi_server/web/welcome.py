"""The welcome page: the animals, a command to try, and links."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from openapi_server.models.animal import Animal

PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def make_curl_command(base_url: str, animal_id: str) -> str:
    """A shell command that starts a conversation with the animal."""
    body = json.dumps({"message": "Hello! How fast can you run?", "animalId": animal_id})
    return f"curl -N {base_url}/convo_turn_stream -H 'Content-Type: application/json' -d '{body}'"


def render_welcome_page(base_url: str, root_path: str, animals: Sequence[Animal], default_animal: str) -> str:
    """The page as HTML, with links below the root path. It uses no scripts and no external resources."""
    page = PAGES.get_template("welcome.html")
    return page.render(animals=animals, root_path=root_path, command=make_curl_command(base_url, default_animal))
