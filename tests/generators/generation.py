"""Clients that tools of other people generate, compiled strictly, each with a small program that uses it.

A source is what a tool reads: a path or a URL. Each client stands in a folder of its own, `client` (TypeScript) or
`zoo_client` (Python), and beside it `program`, the file of `programs/` with the generator's name.
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

HERE = Path(__file__).parent
PROGRAMS = HERE / "programs"
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


def generate_all(
    generators: Mapping[str, Generator], sources: Mapping[str, str], folder: Path, suffix: str
) -> dict[Client, Run]:
    """Each generator's client of each source, with its program, in `folder/<source>/<generator>`."""

    def generate(client: Client) -> Run:
        home = folder / client.source / client.generator
        run = generators[client.generator].generate(sources[client.source], home)
        shutil.copy(PROGRAMS / f"{client.generator}.{suffix}", home / f"program.{suffix}")
        return run

    clients = [Client(source, generator) for source in sources for generator in generators]
    return _map(generate, clients)


def _map(work: Callable[[Client], Run], clients: Iterable[Client]) -> dict[Client, Run]:
    """Each client's run, some at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return dict(zip(clients, pool.map(work, clients), strict=True))


class TypescriptClients:
    """Clients in TypeScript with their programs, compiled in one run of the compiler: it reads its libraries once."""

    def __init__(self, folder: Path, sources: Mapping[str, str]) -> None:
        self._folder = folder
        folder.joinpath("node_modules").symlink_to(NODE_MODULES)
        for name in ("tsconfig.json", "read_events.ts"):
            shutil.copy(PROGRAMS / name, folder)
        self.generated = generate_all(TYPESCRIPT, sources, folder / "clients", "ts")
        self._compiled = run_tool([*make_node_command("typescript", "tsc"), "--pretty", "false"], folder)

    def find_errors(self, client: Client) -> list[str]:
        """What the compiler says about this client and its program, and about no client at all."""
        lines = [line for line in self._compiled.output.splitlines() if not line.startswith(" ")]
        own = f"clients/{client.source}/{client.generator}/"
        return [line for line in lines if line.startswith(own) or not line.startswith("clients/")]

    def run_program(self, client: Client, server_url: str) -> Run:
        program = self._folder / "compiled" / "clients" / client.source / client.generator / "program.js"
        return run_tool([str(find_node()), str(program), server_url], self._folder)


class PythonClients:
    """Clients in Python with their programs, whose types are checked as strictly as the generator promises."""

    def __init__(self, folder: Path, sources: Mapping[str, str]) -> None:
        self._folder = folder
        shutil.copy(PROGRAMS / "import_all.py", folder)
        self.generated = generate_all(PYTHON, sources, folder, "py")
        self._checked = _map(self._check_types, self.generated)

    def find_errors(self, client: Client) -> list[str]:
        """What mypy says about this client and its program."""
        checked = self._checked[client]
        return [] if checked.code == 0 else checked.output.splitlines()

    def import_all(self, client: Client) -> Run:
        """Import every module of the client, which runs what is in each."""
        return run_tool([str(PYTHON_OF_TOOLS), "../../import_all.py", "zoo_client"], self._find_home(client))

    def run_program(self, client: Client, server_url: str) -> Run:
        return run_tool([str(PYTHON_OF_TOOLS), "program.py", server_url], self._find_home(client))

    def _find_home(self, client: Client) -> Path:
        return self._folder / client.source / client.generator

    def _check_types(self, client: Client) -> Run:
        configuration = PROGRAMS / f"{client.generator}.ini"
        # One cache for all clients of a generator: most of the time goes to the libraries that they import.
        cache = self._folder / f"mypy-{client.generator}"
        options = ("--config-file", str(configuration), "--cache-dir", str(cache))
        return run_tool(
            [*make_python_command("mypy"), *options, "-m", "program", "-p", "zoo_client"], self._find_home(client)
        )
