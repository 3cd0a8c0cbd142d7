"""The schemas of `openapi.yaml`, for values that never went over HTTP."""

from __future__ import annotations

from functools import cache

from openapi_schema_validator import OAS30ReadValidator, oas30_format_checker

from openapi_server.spec import load_spec


@cache
def _validator(name: str) -> OAS30ReadValidator:
    schema = {"allOf": [{"$ref": f"#/components/schemas/{name}"}], "components": load_spec()["components"]}
    return OAS30ReadValidator(schema, format_checker=oas30_format_checker)


def assert_conforms(value: object, name: str) -> None:
    """The value is one that `#/components/schemas/<name>` describes."""
    _validator(name).validate(value)
