"""All broken servers in one process: `python -m tests.mutants`. The first segment of a path selects one."""

from __future__ import annotations

from starlette.types import ASGIApp, Receive, Scope, Send

from openapi_server import server
from openapi_server.app import create_app
from openapi_server.config import load_settings
from openapi_server.http.services import Services
from tests.mutants.catalogue import MUTANTS


class MutantRouter:
    """The real application: unchanged under `/healthy`, and as each mutant under the mutant's path."""

    def __init__(self, healthy: ASGIApp) -> None:
        self._healthy = healthy
        self._served = {mutant.path: mutant.mutation(healthy) for mutant in MUTANTS} | {"/healthy": healthy}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._healthy(scope, receive, send)
            return
        name, _, rest = scope["path"][1:].partition("/")
        raw_path = b"/" + scope["raw_path"][1:].partition(b"/")[2]
        await self._served[f"/{name}"]({**scope, "path": f"/{rest}", "raw_path": raw_path}, receive, send)


def create_mutant_router(services: Services) -> ASGIApp:
    return MutantRouter(create_app(services))


if __name__ == "__main__":
    setattr(server, "create_app", create_mutant_router)  # noqa: B010  # mypy would hold it against the real one's type
    server.run(load_settings())
