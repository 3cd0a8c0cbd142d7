"""The device chat guide's two JavaScript readers in a real browser.

As they stand there, their page comes from where the server is. On a page of another, allowed origin their calls get
the server's address; the second reader, which posts and then listens with an `EventSource`, needs its cookie sent, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.source_documents.front_end import front_end_of
from tests.source_documents.test_device_guide import read_rows
from tests.support.browser import Browser, Page
from tests.support.processes import ServerProcess

READERS = (Path(__file__).parent / "readers.js").read_text(encoding="utf-8")

# Calls to `/chat...` go to the server; what a reader wrote to the page and to the console goes to the test as soon as
# it says that it is done.
PAGE = """
<!doctype html><meta charset="utf-8"><title>reading</title><p id="current-message"></p>
<script>
const chosen = new URLSearchParams(location.search);
const [server, sendsCookie] = [chosen.get("server") ?? "", chosen.has("cookie")];
const { fetch: post, EventSource: Source } = window;

window.fetch = (path, init) => post(server + path, sendsCookie ? { ...init, credentials: "include" } : init);
window.EventSource = class extends Source {
  constructor(path) { super(server + path, { withCredentials: sendsCookie }); }
  close() { super.close(); report("closed"); }
};

let hasEnded = false;
function report(end) {
  if (hasEnded) return; // two reports may overtake each other
  hasEnded = true;
  const text = document.getElementById("current-message").textContent;
  post("/report", { method: "POST", body: JSON.stringify({ end, text }) });
}
console.log = report;
console.error = (...words) => report(words.map(String).join(" "));
READERS
window[chosen.get("reader")]("My name is John Doe and I need help with hair transplant");
</script>
"""


@dataclass(frozen=True, slots=True)
class PageReader:
    """A server, a page that it serves as good as itself, and a page of another origin that it allows."""

    server: ServerProcess
    own_page: Page
    other_page: Page
    profile: Path

    def at_home(self, reader: str) -> dict[str, str]:
        """How the reader ended, and what it wrote to the page."""
        return self._of(self.own_page, f"?reader={reader}")

    def from_elsewhere(self, reader: str, *, flags: str = "") -> dict[str, str]:
        """The same, across origins."""
        return self._of(self.other_page, f"?reader={reader}&server={self.server.url}{flags}")

    def _of(self, page: Page, query: str) -> dict[str, str]:
        with Browser(f"{page.origin}/{query}", self.profile):
            report: dict[str, str] = page.report()
        return report


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Page, Page]]:
    """The server, the page beside it, and the page of another origin."""
    html = PAGE.replace("READERS", READERS)
    with ExitStack() as stack:
        other = Page(html)
        stack.callback(other.close)
        folder = tmp_path_factory.mktemp("server")
        server = ServerProcess(folder, OFFLINE_WORDS_PER_S=100, CORS_ORIGINS=other.origin)
        stack.callback(server.stop)
        own = Page(html, front_end_of(server.port))
        stack.callback(own.close)
        yield server, own, other
        assert server.stop() == 0


@pytest.fixture
def reading(places: tuple[ServerProcess, Page, Page], tmp_path: Path) -> PageReader:
    """With a browser that has no cookies yet."""
    return PageReader(*places, tmp_path)


def get_last_reply(server: ServerProcess) -> str:
    ((reply,),) = read_rows(
        server, "SELECT body FROM messages WHERE direction = 'outgoing' ORDER BY created_at DESC LIMIT 1"
    )
    return str(reply)


@pytest.mark.parametrize(
    ("reader", "end"),
    [("sendStreamingMessage", "Stream completed"), ("sendStreamingMessageWithEventSource", "closed")],
)
def test_a_reader_as_it_stands_in_the_guide(reading: PageReader, reader: str, end: str) -> None:
    """Not a word changed: the page holds the whole reply, once."""
    report = reading.at_home(reader)

    assert report == {"end": end, "text": get_last_reply(reading.server)}
    assert "John" in report["text"]


def test_the_fetch_reader_across_origins(reading: PageReader) -> None:
    """It needs no cookie."""
    report = reading.from_elsewhere("sendStreamingMessage")

    assert report == {"end": "Stream completed", "text": get_last_reply(reading.server)}


def test_the_event_source_reader_across_origins(reading: PageReader) -> None:
    """Posted with one request, read with another: the cookie says that both are of one device."""
    report = reading.from_elsewhere("sendStreamingMessageWithEventSource", flags="&cookie")

    assert report == {"end": "closed", "text": get_last_reply(reading.server)}


def test_without_its_cookie_the_event_source_hears_of_no_turn(reading: PageReader) -> None:
    """Nobody else's turn, either: there is no shared default user."""
    report = reading.from_elsewhere("sendStreamingMessageWithEventSource")

    assert report == {"end": "SSE error: [object Event]", "text": ""}
