"""Keepers' texts: placeholders that nothing fills in are found; honest text of any script stays."""

from __future__ import annotations

import pytest

from openapi_server.models.strict_model import find_placeholder
from tests.models.test_hidden_characters import HONEST

PLACEHOLDERS = [
    "{animal}", "{0}", "{}", "{{x}}", "${x}", "#{x}", "{% x %}", "{", "}", "$name", "${", "%(x)s", "%(name)05d",
    "<% x %>", "<%= x", "x %>", "<?php x ?>", "Hi %s!", "%d lions", "%name%", "[[name]]", "<<name>>",
]  # fmt: skip


@pytest.mark.parametrize("text", HONEST)
def test_honest_text_of_any_script_has_none(text: str) -> None:
    assert find_placeholder(text) is None


@pytest.mark.parametrize("text", PLACEHOLDERS)
def test_placeholders_of_any_template_are_found(text: str) -> None:
    """Nothing fills them in, so visitors would hear them."""
    assert find_placeholder(text)
    assert find_placeholder(f"Hello{{name}}, {text}", "{name}")


def test_a_known_placeholder_is_no_error() -> None:
    """Only as it is spelt."""
    assert find_placeholder("Hello{name}! {name}", "{name}") is None
    assert all(find_placeholder(text, "{name}") for text in ("{ name }", "{Name}", "{name", "{{name}}", "{name!r}"))
