"""Documentation is tested like code: what it says exists, and what exists is said."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from openapi_server import __version__
from openapi_server.config import Settings
from openapi_server.spec import load_spec

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
STREAMS = (ROOT / "docs/streams.md").read_text(encoding="utf-8")
DOCUMENTS = sorted(str(path.relative_to(ROOT)) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
EXAMPLE = (ROOT / ".env.local.example").read_text(encoding="utf-8")


def variables() -> dict[str, str]:
    """Every setting's variable and its default as it would be written."""
    shown: dict[str, str] = {}
    for name, field in Settings.model_fields.items():
        default = field.default
        if default is None:
            text = ""
        elif isinstance(default, tuple):
            text = ",".join(default)
        elif isinstance(default, bool):
            text = str(default).lower()
        else:
            text = f"{default:g}" if isinstance(default, float) else str(default)
        shown[str(field.validation_alias or name.upper())] = text
    return shown


def test_the_example_settings_are_complete_and_show_the_defaults() -> None:
    """One field in config.py, one line in .env.local.example."""
    assert dict(re.findall(r"^#([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE)) == variables()


def test_the_readme_is_short() -> None:
    """At most a thousand words: everything else has a page under docs/."""
    assert len(README.split()) <= 1000


def test_the_readme_leads_to_every_page() -> None:
    """Nobody finds a page that nothing links to."""
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert pages <= set(re.findall(r"\(docs/([\w-]+\.md)\)", README))


def test_the_contract_has_the_servers_version() -> None:
    """One version, in the package and in the spec."""
    assert load_spec()["info"]["version"] == __version__


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_between_documents_lead_somewhere(document: str) -> None:
    """Relative links name files that exist, and headings that the file has."""
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not leads_somewhere(ROOT / document, link)] == []


def leads_somewhere(document: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    file = document.parent / name if name else document
    if not file.exists() or not anchor:
        return file.exists()
    titles = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
    return anchor in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_python_example_of_the_streams_page_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A person may paste it. Those of the README need a server: `tests/live/test_readme.py` runs them."""
    (example,) = re.findall(r"```python\n(.*?)```", STREAMS, re.DOTALL)
    exec(example, {})  # noqa: S102  # our own page
    assert capsys.readouterr().out == 'id: 123\nevent: message\ndata: {"content":"Hello"}\n\n\n'


def test_every_module_has_its_place_on_a_floor() -> None:
    """ARCHITECTURE.md names every module and folder of the package."""
    package = ROOT / "openapi_server"
    names = {path.stem for path in package.glob("*.py")} | {f"{path.parent.name}/" for path in package.glob("*/*.py")}
    unnamed = {name for name in names - {"__init__", "__main__"} if f"`{name}`" not in ARCHITECTURE}
    assert unnamed == set()


def test_decisions_are_numbered_and_short() -> None:
    """Fifteen lines or so: situation, choice, price."""
    for number, path in enumerate(sorted((ROOT / "docs/decisions").glob("*.md")), 1):
        text = path.read_text(encoding="utf-8")
        assert path.name.startswith(f"{number:04}-")
        assert all(word in text for word in ("**Situation.**", "**Choice.**", "**Price.**"))
        assert len(text.splitlines()) <= 20
