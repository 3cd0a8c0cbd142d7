"""Clients that generators make of the API description: each is complete, compiles strictly, and talks to a server."""

from __future__ import annotations

import json

import httpx
import pytest

from openapi_server.spec import get_spec_path
from tests.generators.generation import (
    FILE,
    PYTHON,
    SERVED,
    TYPESCRIPT,
    Client,
    PythonClients,
    Run,
    TypescriptClients,
)
from tests.support.contract import check_order
from tests.support.processes import ServerProcess

each_source = pytest.mark.parametrize("source", [FILE, *SERVED])
each_served = pytest.mark.parametrize("source", SERVED)


@pytest.fixture(scope="module")
def sources(server: ServerProcess) -> dict[str, str]:
    """A path or a URL for each."""
    return {FILE: str(get_spec_path()), **{name: f"{server.url}/{name}" for name in SERVED}}


@pytest.fixture(scope="module")
def typescript(sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> TypescriptClients:
    return TypescriptClients(tmp_path_factory.mktemp("typescript"), sources)


@pytest.fixture(scope="module")
def python(sources: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> PythonClients:
    return PythonClients(tmp_path_factory.mktemp("python"), sources)


@pytest.fixture(scope="module")
def animal_ids(server: ServerProcess) -> list[str]:
    return [animal["animalId"] for animal in httpx.get(f"{server.url}/animal_list").json()["animals"]]


def check_talk(run: Run, animal_ids: list[str]) -> None:
    """The program got the animals, an answer, and a stream of whole events in their order."""
    told = json.loads(run.check())
    assert told["animals"] == animal_ids
    assert "kilomet" in told["reply"]
    check_order(told["events"])
    assert "kilomet" in told["fullResponse"]
    assert told["text"] == told["fullResponse"]


@pytest.mark.parametrize("generator", TYPESCRIPT)
class TestTypescript:
    @each_source
    def test_a_client_is_generated_without_an_error(
        self, typescript: TypescriptClients, source: str, generator: str
    ) -> None:
        typescript.generated[Client(source, generator)].check()

    @each_served
    def test_the_client_of_a_served_document_is_that_of_the_file(
        self, typescript: TypescriptClients, source: str, generator: str, server: ServerProcess
    ) -> None:
        """Each file, to the byte, but for the server's address: so what the others hold for one holds for both."""
        assert typescript.find_differences(Client(source, generator), server.url) == []

    def test_the_client_and_its_program_compile_strictly(self, typescript: TypescriptClients, generator: str) -> None:
        """`tsc` with `strict`: an answer and an event whose types are missing are errors in the program."""
        assert typescript.find_errors(generator) == []

    def test_the_program_lists_the_animals_asks_and_reads_a_stream(
        self, typescript: TypescriptClients, generator: str, server: ServerProcess, animal_ids: list[str]
    ) -> None:
        check_talk(typescript.run_program(generator, server.url), animal_ids)


@pytest.mark.parametrize("generator", PYTHON)
class TestPython:
    @each_source
    def test_a_client_is_generated_without_a_warning(self, python: PythonClients, source: str, generator: str) -> None:
        """A warning of openapi-python-client is a schema or an operation that the client lacks."""
        python.generated[Client(source, generator)].check()

    @each_served
    def test_the_client_of_a_served_document_is_that_of_the_file(
        self, python: PythonClients, source: str, generator: str, server: ServerProcess
    ) -> None:
        """As in TypeScript."""
        assert python.find_differences(Client(source, generator), server.url) == []

    def test_the_types_of_the_client_and_its_program_are_right(self, python: PythonClients, generator: str) -> None:
        """The program strictly, the client as strictly as its generator promises."""
        assert python.find_errors(generator) == []

    def test_every_module_can_be_imported(self, python: PythonClients, generator: str) -> None:
        assert int(python.import_all(generator).check()) > 100

    def test_the_program_lists_the_animals_asks_and_reads_a_stream(
        self, python: PythonClients, generator: str, server: ServerProcess, animal_ids: list[str]
    ) -> None:
        check_talk(python.run_program(generator, server.url), animal_ids)
