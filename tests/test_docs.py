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


def test_the_table_of_endpoints_is_the_contracts() -> None:
    """Every operation of openapi.yaml stands in the README, and nothing else does."""
    told = set(re.findall(r"^\| `([A-Z]+)` \| `([^`]+)` \|", README, re.MULTILINE))
    real = {
        (method.upper(), path)
        for path, operations in load_spec()["paths"].items()
        for method in operations
        if method in ("get", "post", "put", "patch", "delete")
    }
    assert told == real


def test_the_contract_has_the_servers_version() -> None:
    """One version, in the package and in the spec."""
    assert load_spec()["info"]["version"] == __version__


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_links_between_documents_lead_somewhere(document: str) -> None:
    """Relative links name files that exist."""
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_python_example_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A person may paste it."""
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    exec(example, {})  # noqa: S102  # our own README
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
