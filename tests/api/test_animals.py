"""Public facts of the animals, over HTTP."""

from __future__ import annotations

import httpx
import pytest

from tests.conftest import OpensClient
from tests.support.fakes import FakeKnowledge, make_lion


async def test_the_list_tells_who_lives_here(client: httpx.AsyncClient) -> None:
    """By id, with what a visitor needs to choose."""
    animals = (await client.get("/animal_list")).json()["animals"]

    assert [(animal["animalId"], animal["name"]) for animal in animals] == [
        ("lion_001", "Leo"),
        ("tiger_001", "Bulan"),
    ]


@pytest.mark.parametrize(("status", "ids"), [("active", ["lion_001"]), ("retired", ["tiger_001"])])
async def test_the_list_by_status(open_client: OpensClient, status: str, ids: list[str]) -> None:
    """Retired animals are kept, and can be asked for."""
    client = await open_client(knowledge=FakeKnowledge(make_lion(), make_lion("tiger_001", "Bulan", status="retired")))

    animals = (await client.get("/animal_list", params={"status": status})).json()["animals"]

    assert [animal["animalId"] for animal in animals] == ids


async def test_a_retired_animal_does_not_talk(open_client: OpensClient) -> None:
    """It is as if it lived elsewhere."""
    client = await open_client(knowledge=FakeKnowledge(make_lion(status="retired")))

    answer = await client.post("/convo_turn", json={"message": "Hi", "animalId": "lion_001"})

    assert answer.status_code == 404


async def test_both_addresses_of_an_animal_tell_the_same(client: httpx.AsyncClient) -> None:
    """One by path, one by query."""
    by_path = await client.get("/animal/lion_001")
    by_query = await client.get("/animal_details", params={"animalId": "lion_001"})

    assert by_path.json() == by_query.json()
    assert by_path.json()["conservation"] == {"status": "Vulnerable", "code": "VU"}
    assert by_path.json()["factCount"] == 1


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/animal/unicorn_001", 404),
        ("/animal/LION", 400),
        ("/animal/lion_001%0a", 400),
        ("/animal/lion_001%00", 400),
        ("/animal_details", 400),
        ("/animal_details?animalId=unicorn_001", 404),
        ("/animal_details?animalId=lion_001%0A", 400),
        ("/animal_list?status=asleep", 400),
    ],
)
async def test_a_wrong_question_is_a_problem(client: httpx.AsyncClient, path: str, status: int) -> None:
    """Unknown is 404; not even an id is 400."""
    answer = await client.get(path)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
