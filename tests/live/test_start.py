"""What a start costs: modules that a serving process has no use for are not imported."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from tests.support.processes import FreshServerProcess

# The modules that are large, or make connections of their own.
UNUSED = {
    "anthropic",
    "boto3",
    "botocore",
    "charset_normalizer",
    "httpx",
    "httpx2",
    "numpy",
    "openai",
    "opentelemetry",
    "pygments",
    "pytest",
    "redis",
    "requests",
    "rich",
    "starlette.testclient",
    "tokenizers",
    "unittest",
    "urllib3",
    "watchfiles",
}


async def test_a_serving_process_imports_nothing_that_it_has_no_use_for(tmp_path: Path) -> None:
    """From its start to the end of its first turn: neither at once nor late."""
    server = FreshServerProcess(tmp_path, VALIDATE_RESPONSES="false", PYTHONPROFILEIMPORTTIME=1)
    try:
        async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
            ready = await client.get("/ready")
            turn = await client.post("/convo_turn", json={"message": "How fast can you run?", "animalId": "lion_001"})
    finally:
        server.stop()

    assert (ready.status_code, turn.status_code) == (200, 200)
    imported = set(re.findall(r"^import time:[ 0-9|]+?([A-Za-z_][\w.]*)$", server.log, re.MULTILINE))
    assert {"connexion", "openapi_server.server", "structlog", "uvicorn"} <= imported
    assert imported & UNUSED == set()
