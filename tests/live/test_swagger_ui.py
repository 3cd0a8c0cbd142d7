"""Swagger UI in Chromium: "Try it out", "Execute", nothing changed, on every operation that needs no id."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from openapi_server.spec import load_spec
from tests.conftest import StartsServer
from tests.support.browser import Browser, Page, PageHandler

# Clicks through the page, and reports the status that it shows for each operation. `resolve` would wait for ever
# where the page shows nothing: then the report does not come, and the test fails with what came until then.
DRIVER = """
<script>
const wanted = %s;
const find = async (get) => {
  for (;;) {
    const found = get();
    if (found) return found;
    await new Promise((resolve) => {
      const watch = new MutationObserver(() => { watch.disconnect(); resolve(); });
      watch.observe(document.body, { childList: true, subtree: true, attributes: true, characterData: true });
    });
  }
};
const tell = (value) => fetch("/report", { method: "POST", body: JSON.stringify(value) });
(async () => {
  await find(() => document.querySelector(".opblock"));
  // Each click makes the page draw all operations again that are open to view: one group of them is enough.
  for (const group of document.querySelectorAll('.opblock-tag[data-is-open="true"]')) group.click();
  let open = null;
  for (const [tag, id] of wanted) {
    if (tag !== open) {
      for (const name of [open, tag]) if (name) document.querySelector(`.opblock-tag[data-tag="${name}"]`).click();
      open = tag;
    }
    const block = await find(() => [...document.querySelectorAll(".opblock")].find((one) => one.id.endsWith("-" + id)));
    block.querySelector(".opblock-summary-control").click();
    (await find(() => block.querySelector(".try-out__btn"))).click();
    (await find(() => block.querySelector("button.execute"))).click();
    const shown = await find(() => block.querySelector(
      ".live-responses-table tbody .response-col_status, .errors-wrapper, .validation-errors"));
    await tell({ id, status: shown.firstChild.textContent.trim() });
    block.querySelector(".opblock-summary-control").click();
  }
  await tell({ id: "end" });
})();
</script>
"""
# What has to be refused, and why.
LOGIN_NEEDED = {
    f"{method.upper()} {path}"
    for path, item in load_spec()["paths"].items()
    for method, operation in item.items()
    if operation.get("security") == [{"bearerAuth": []}]
}
# With nothing changed they name no session, and the refresh token is not one of this server.
REFUSED = {
    "GET /convo_history": 400,
    "DELETE /convo_history": 400,
    "POST /summarize_convo": 404,
    "POST /auth/refresh": 401,
    "POST /auth/logout": 401,
}
# It sends heartbeats for five minutes.
LEFT_OUT = {"POST /api/v1/stream/timeout"}
OPERATIONS = {
    f"{method.upper()} {path}": (operation["tags"][0], operation["operationId"])
    for path, item in load_spec()["paths"].items()
    for method, operation in item.items()
    if "{" not in path and f"{method.upper()} {path}" not in LEFT_OUT
}


class ForwardingHandler(PageHandler):
    """Passes requests on to the server, so that pages and reports have one origin; adds the driver to `/ui/`."""

    target: ClassVar[str]

    def do_GET(self) -> None:  # noqa: N802  # the name that http.server calls
        self._forward()

    def do_POST(self) -> None:  # noqa: N802
        if self.path == "/report":
            super().do_POST()
        else:
            self._forward()

    do_DELETE = do_PATCH = do_PUT = do_GET  # noqa: N815

    def _forward(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in ("host", "accept-encoding")
        }
        headers["Accept-Encoding"] = "identity"
        answer = httpx.request(self.command, self.target + self.path, content=body, headers=headers, timeout=60)
        content = answer.content
        if self.path == "/ui/":
            content = content.replace(b"</body>", self.html.encode() + b"</body>")
        self.send_response(answer.status_code)
        for name, value in answer.headers.multi_items():
            if name not in ("content-length", "content-security-policy", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def page(start_server: StartsServer) -> Iterator[Page]:
    server = start_server(OFFLINE_WORDS_PER_S=200, API_DOCS="on")
    handler: type[PageHandler] = type("Handler", (ForwardingHandler,), {"target": server.url})
    driven = Page(DRIVER % json.dumps(list(OPERATIONS.values())), handler)
    yield driven
    driven.close()


def test_execute_with_nothing_changed_is_answered(page: Page, tmp_path: Path) -> None:
    """What needs a login is 401, what needs a session is told so, and everything else succeeds: also what talks."""
    shown: dict[str, str] = {}
    with Browser(f"{page.origin}/ui/", tmp_path / "profile"):
        while (report := page.report(60))["id"] != "end":
            shown[report["id"]] = report["status"]

    told = {operation: shown[name] for operation, (_, name) in OPERATIONS.items()}
    assert len(told) > 40
    expected = {
        operation: str(REFUSED.get(operation, 401 if operation in LOGIN_NEEDED else "2xx")) for operation in OPERATIONS
    }
    assert {
        operation: f"{status[0]}xx" if status[0] == "2" else status for operation, status in told.items()
    } == expected
