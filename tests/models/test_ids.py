"""Ids that cannot be guessed."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

from openapi_server.models.ids import is_made_id, make_id


def test_no_id_is_made_twice_whichever_thread_asks() -> None:
    """Also where several threads ask when a new read is due."""
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: make_id("turn"), range(5_000)))

    assert len(set(ids)) == len(ids)
    assert all(is_made_id("turn", each) for each in ids)


def test_a_process_that_is_forked_makes_ids_of_its_own() -> None:
    """It does not use the random bytes that its parent has read and not used yet."""
    make_id("turn")
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = pool.map(make_id, ["turn"] * 100)

    assert not {make_id("turn") for _ in range(100)} & set(theirs)
