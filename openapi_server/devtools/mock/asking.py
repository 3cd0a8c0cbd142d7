"""From a request to a question: the visitor's cookie, and a body that keeps the contract."""

from __future__ import annotations

import json
import secrets
from functools import cache
from typing import Any, NamedTuple

from openapi_schema_validator import OAS30WriteValidator
from starlette.requests import Request

from openapi_server.devtools.mock.scripts import ANIMAL
from openapi_server.models.errors import AnimalNotFound, FieldError, InvalidInput
from openapi_server.spec import PACKAGE, load_spec

COOKIE = "session_id"


class MockVisitor(NamedTuple):
    """Who asks, by the cookie; `is_new` when the request brought none of ours."""

    cookie: str
    is_new: bool

    @property
    def headers(self) -> dict[str, str]:
        """The `Set-Cookie` header that a new visitor gets."""
        if not self.is_new:
            return {}
        return {"Set-Cookie": f"{COOKIE}={self.cookie}; HttpOnly; Path=/; SameSite=Lax"}


class VisitorCookies:
    """The cookies that were given out."""

    def __init__(self) -> None:
        self._cookies: set[str] = set()

    def find_cookie(self, request: Request) -> str:
        """The visitor's cookie; empty when it has none of ours, which is nobody's."""
        cookie = request.cookies.get(COOKIE, "")
        return cookie if cookie in self._cookies else ""

    def identify(self, request: Request) -> MockVisitor:
        known = self.find_cookie(request)
        if known:
            return MockVisitor(known, is_new=False)
        cookie = secrets.token_urlsafe(16)
        self._cookies.add(cookie)
        return MockVisitor(cookie, is_new=True)


async def parse_body(request: Request) -> dict[str, Any]:
    """The request's body. Raises `InvalidInput`, naming every field that breaks the contract, and `AnimalNotFound`."""
    try:
        body = json.loads(await request.body())
    except (ValueError, RecursionError):
        raise _make_invalid_input([FieldError("body", "is not JSON")]) from None
    errors = [_make_field_error(error) for error in load_validator().iter_errors(body)]
    if errors:
        raise _make_invalid_input(errors)
    if body.get("animal_id", ANIMAL) not in _list_animal_ids():
        raise AnimalNotFound()
    return dict(body)


@cache
def _list_animal_ids() -> frozenset[str]:
    """Who lives in the zoo, so that an id which fails there fails here; what they know plays no part."""
    return frozenset(path.stem for path in (PACKAGE / "knowledge" / "animals").glob("*.yaml"))


@cache
def load_validator() -> OAS30WriteValidator:
    """What `openapi.yaml` asks of a body. Read once, and before the first request, which would wait for it."""
    spec = load_spec()
    schema = {"allOf": [{"$ref": "#/components/schemas/PlatformRequest"}], "components": spec["components"]}
    return OAS30WriteValidator(schema)


def _make_field_error(error: Any) -> FieldError:
    path = [str(part) for part in error.absolute_path]
    if error.validator == "required":
        missing = next(name for name in error.validator_value if name not in error.instance)
        return FieldError(".".join([*path, missing]), "is required")
    message = error.schema.get("x-error-message", "is not of the form that the API description gives")
    return FieldError(".".join(path) or "body", str(message))


def _make_invalid_input(errors: list[FieldError]) -> InvalidInput:
    return InvalidInput(f"{errors[0].field}: {errors[0].message}", errors=tuple(errors))
