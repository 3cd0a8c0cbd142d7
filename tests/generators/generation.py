"""Clients that tools of other people generate, compiled strictly, each with a small program that uses it.

A source is what a tool reads: a path or a URL. Each client stands in a folder of its own, `client` (TypeScript) or
`zoo_client` (Python). Beside that of the file stands `program`, the file of `programs/` with the generator's name.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.tools import NODE_MODULES, find_node, make_node_command, make_python_command, make_tool_environment
from tests.tools import PYTHON as PYTHON_OF_TOOLS

# The sources: the file itself, and what a server makes of it.
FILE = "file"
SERVED = ("openapi.json",)
HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
PROGRAM_FILES = ("program.ts", "program.py")
# What clients of a document without an address begin with.
DEFAULT_URL = "http://localhost"
# In the list of servers of a client in Python.
NO_URL = ("'url': \"\"", f"'url': \"{DEFAULT_URL}\"")
# A bound for a busy machine, not a measure: each tool takes some seconds.
RUN_S = 540
# Two cores; each of the tools uses one.
AT_ONCE = 2


@dataclass(frozen=True, slots=True)
class Run:
    """What a program printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def check(self) -> str:
        """What it printed on its standard output. Raises AssertionError, with everything, unless it ended with 0."""
        assert self.code == 0, self.output
        return self.stdout


def run_tool(command: list[str], folder: Path, **variables: str) -> Run:
    """Run one to its end in the folder."""
    done = subprocess.run(
        command,
        cwd=folder,
        env=make_tool_environment() | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=RUN_S,
    )
    return Run(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True, slots=True)
class Generator:
    """`make_command` gives the command that writes a client from a source into the folder in which it is run."""

    name: str
    make_command: Callable[[str], list[str]]

    def generate(self, source: str, folder: Path) -> Run:
        folder.mkdir(parents=True)
        # Java compiles each method once, not twice: half of the time for a run of a few seconds.
        return run_tool(self.make_command(source), folder, SOURCE=source, JAVA_OPTS="-XX:TieredStopAtLevel=1")


TYPESCRIPT = {
    generator.name: generator
    for generator in (
        Generator(
            "hey_api",
            lambda source: [*make_node_command("@hey-api/openapi-ts", "openapi-ts"), "-i", source, "-o", "client"],
        ),
        Generator(
            "openapi_typescript",
            lambda source: [
                *make_node_command("openapi-typescript", "openapi-typescript"),
                *(source, "--output", "client/index.ts"),
            ],
        ),
        Generator(
            "orval",
            lambda _: [
                *make_node_command("orval", "orval"),
                *("--config", str(HERE / "orval.config.mjs"), "--fail-on-warnings"),
            ],
        ),
        Generator(
            "typescript_fetch",
            lambda source: [
                *make_python_command("openapi-generator-cli"),
                *("generate", "-g", "typescript-fetch", "-i", source, "-o", "client"),
            ],
        ),
    )
}
PYTHON = {
    generator.name: generator
    for generator in (
        Generator(
            "openapi_python_client",
            lambda source: [
                *make_python_command("openapi-python-client"),
                *("generate", "--fail-on-warning", "--meta", "none", "--output-path", "zoo_client"),
                *(("--url", source) if "://" in source else ("--path", source)),
            ],
        ),
        Generator(
            "openapi_generator_python",
            lambda source: [
                *make_python_command("openapi-generator-cli"),
                *("generate", "-g", "python", "--package-name", "zoo_client", "-i", source, "-o", "."),
            ],
        ),
    )
}


@dataclass(frozen=True, slots=True, order=True)
class Client:
    """One generated client: of which source, and by which generator."""

    source: str
    generator: str


class GeneratedClients:
    """Each generator's client of each source, in `folder/clients`; beside that of the file its program."""

    def __init__(
        self, folder: Path, sources: Mapping[str, str], generators: Mapping[str, Generator], suffix: str
    ) -> None:
        self.folder = folder
        self._sources = sources
        self._generators = generators
        clients = [Client(source, generator) for source in sources for generator in generators]
        self.generated = dict(zip(clients, _map(self._generate, clients), strict=True))
        for generator in generators:
            shutil.copy(
                PROGRAMS / f"{generator}.{suffix}", self.find_home(Client(FILE, generator), f"program.{suffix}")
            )
        self._own_files = {client: self._list_files(client) for client in clients}

    def find_home(self, client: Client, *parts: str) -> Path:
        return self.folder.joinpath("clients", client.source, client.generator, *parts)

    def find_differences(self, client: Client, server_url: str) -> list[str]:
        """The files that are not as those of the file's client, which knows no server's address."""
        other = Client(FILE, client.generator)
        names = {*self._own_files[client], *self._own_files[other]}
        return sorted(name for name in names if self._read(client, name, server_url) != self._read(other, name))

    def _generate(self, client: Client) -> Run:
        return self._generators[client.generator].generate(self._sources[client.source], self.find_home(client))

    def _list_files(self, client: Client) -> set[str]:
        """All that was generated: not the programs, nor the caches of a generator's tools."""
        home = self.find_home(client)
        paths = [path.relative_to(home) for path in home.rglob("*") if path.is_file()]
        return {str(path) for path in paths if path.parts[0] not in PROGRAM_FILES and ".ruff_cache" not in path.parts}

    def _read(self, client: Client, name: str, server_url: str = DEFAULT_URL) -> str | None:
        path = self.find_home(client, name)
        if not path.is_file():
            return None
        return path.read_text(encoding="utf-8").replace(server_url, DEFAULT_URL).replace(*NO_URL)


def _map(work: Callable[[Client], Run], clients: Iterable[Client]) -> list[Run]:
    """Each client's run, some at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(work, clients))


class TypescriptClients(GeneratedClients):
    """Clients in TypeScript. Those of the file are compiled in one run of the compiler: it reads its libraries once."""

    def __init__(self, folder: Path, sources: Mapping[str, str]) -> None:
        super().__init__(folder, sources, TYPESCRIPT, "ts")
        folder.joinpath("node_modules").symlink_to(NODE_MODULES)
        for name in ("tsconfig.json", "read_events.ts"):
            shutil.copy(PROGRAMS / name, folder)
        self._compiled = run_tool([*make_node_command("typescript", "tsc"), "--pretty", "false"], folder)

    def find_errors(self, generator: str) -> list[str]:
        """What the compiler says about this client and its program, and about no client at all."""
        lines = [line for line in self._compiled.output.splitlines() if not line.startswith(" ")]
        own = f"clients/{FILE}/{generator}/"
        return [line for line in lines if line.startswith(own) or not line.startswith("clients/")]

    def run_program(self, generator: str, server_url: str) -> Run:
        program = self.folder / "compiled" / "clients" / FILE / generator / "program.js"
        return run_tool([str(find_node()), str(program), server_url], self.folder)


class PythonClients(GeneratedClients):
    """Clients in Python. The types of those of the file are checked as strictly as the generator promises."""

    def __init__(self, folder: Path, sources: Mapping[str, str]) -> None:
        super().__init__(folder, sources, PYTHON, "py")
        shutil.copy(PROGRAMS / "import_all.py", folder)
        own = [Client(FILE, generator) for generator in PYTHON]
        self._checked = dict(zip(PYTHON, _map(self._check_types, own), strict=True))

    def find_errors(self, generator: str) -> list[str]:
        """What mypy says about this client and its program."""
        checked = self._checked[generator]
        return [] if checked.code == 0 else checked.output.splitlines()

    def import_all(self, generator: str) -> Run:
        """Import every module of the client, which runs what is in each."""
        home = self.find_home(Client(FILE, generator))
        return run_tool([str(PYTHON_OF_TOOLS), "../../../import_all.py", "zoo_client"], home)

    def run_program(self, generator: str, server_url: str) -> Run:
        return run_tool([str(PYTHON_OF_TOOLS), "program.py", server_url], self.find_home(Client(FILE, generator)))

    def _check_types(self, client: Client) -> Run:
        configuration = PROGRAMS / f"{client.generator}.ini"
        cache = self.folder / f"mypy-{client.generator}"
        options = ("--config-file", str(configuration), "--cache-dir", str(cache))
        return run_tool(
            [*make_python_command("mypy"), *options, "-m", "program", "-p", "zoo_client"], self.find_home(client)
        )
