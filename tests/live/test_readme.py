"""The client examples of the README, as a person pastes them: only the server's address is another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import StartsServer
from tests.support.browser import Browser, Page
from tests.support.processes import ServerProcess
from tests.test_docs import README

HTML = """
<!doctype html><meta charset="utf-8"><title>README</title>
<script type="module">
%s
events.addEventListener("complete", (event) => {
  const shown = document.body.textContent.trim();
  fetch("/report", { method: "POST", body: JSON.stringify({ shown, reply: JSON.parse(event.data).fullResponse }) });
});
</script>
"""


def example(language: str, url: str) -> str:
    (code,) = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    return str(code).replace("http://localhost:8080", url)


def test_the_python_client_prints_the_reply(server: ServerProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """Word by word, as the chunks arrive."""
    exec(example("python", server.url), {})  # noqa: S102  # our own README

    assert len(capsys.readouterr().out.split()) > 3


@pytest.fixture
def page() -> Iterator[Page]:
    # Its origin must be known to the server, whose address must be known to the page: so the page comes first.
    empty = Page("")
    yield empty
    empty.close()


@pytest.mark.parametrize("binding", ["id", "caller"])
def test_the_javascript_client_shows_the_reply(
    start_server: StartsServer, page: Page, tmp_path: Path, binding: str
) -> None:
    """In a real browser, from another origin, with EventSource, by the defaults of development and of production."""
    server = start_server(CORS_ORIGINS=page.origin, OFFLINE_WORDS_PER_S=60, SESSION_BINDING=binding)
    page.show(HTML % example("javascript", server.url))

    with Browser(page.origin, tmp_path / "profile"):
        report = page.report()

    assert report["shown"] == report["reply"].strip()
