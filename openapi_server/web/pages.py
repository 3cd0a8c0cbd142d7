"""Pages for people: the welcome page, with the animals and a command to try, and what problems mean."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from openapi_server.models.animal import Animal
from openapi_server.models.errors import ChatError

_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)

PAGES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


def mark_code(text: str) -> Markup:
    """The text as HTML; what stands between backticks is code.

    >>> str(mark_code("Send `onBusy`, <or> wait."))
    'Send <code>onBusy</code>, &lt;or&gt; wait.'
    """
    parts = enumerate(text.split("`"))
    return Markup().join(Markup("<code>{}</code>").format(part) if number % 2 else part for number, part in parts)


PAGES.filters["mark_code"] = mark_code


def make_curl_command(base_url: str, animal_id: str) -> str:
    """A shell command that starts a conversation with the animal."""
    body = json.dumps({"message": "Hello! How fast can you run?", "animalId": animal_id})
    return f"curl -N {base_url}/convo_turn_stream -H 'Content-Type: application/json' -d '{body}'"


def make_content_security_policy(template: str) -> str:
    """The policy of a page (CSP level 3): nothing loads but its own style, which is named by its hash."""
    (style,) = _STYLE.findall((Path(__file__).parent / template).read_text(encoding="utf-8"))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


def render_welcome_page(
    base_url: str, root_path: str, docs_path: str, animals: Sequence[Animal], default_animal: str
) -> str:
    """The page as HTML, with links below the root path. It uses no scripts and no external resources."""
    page = PAGES.get_template("welcome.html")
    command = make_curl_command(base_url, default_animal)
    return page.render(animals=animals, root_path=root_path, docs_path=docs_path, command=command)


def render_problems_page(root_path: str, error_types: Sequence[type[ChatError]]) -> str:
    """The kinds of problems as HTML: what each means, and what to do about it. `root_path` as for the welcome page."""
    page = PAGES.get_template("problems.html")
    return page.render(error_types=error_types, root_path=root_path)
