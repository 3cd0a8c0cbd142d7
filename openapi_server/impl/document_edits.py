"""What the operations on keepers' documents share: the conditions of a change, and errors in the caller's words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from openapi_server.http.async_handlers import RequestContext
from openapi_server.http.authorization import require_user
from openapi_server.http.conditional_requests import parse_if_match
from openapi_server.models.errors import FieldError, InvalidInput
from openapi_server.models.versioned_document import DocumentEdit


def read_edit(context: RequestContext, document_id: str) -> DocumentEdit:
    """Who wants to change the document, and which versions of it they have read."""
    if_match = context.headers.get("if-match")
    return DocumentEdit(
        document_id,
        require_user(context).username,
        expected_versions=None if if_match is None else parse_if_match(if_match),
        has_no_condition=if_match is None,
        must_be_new=context.headers.get("if-none-match", "").strip() == "*",
    )


def require_same_id(field: str, sent: str, document_id: str, rule: str) -> None:
    """Refuse a document with another id than the one in the address. `rule`: such as "an animal keeps its id"."""
    if sent != document_id:
        raise InvalidInput.for_field(field, f"must be {document_id}, as in the address: {rule}")


@contextmanager
def name_fields_as_sent(encode_field: Callable[[str], str], within: str = "") -> Iterator[None]:
    """Errors name the fields as the caller wrote them. `within`: the place of the document in the body."""
    try:
        yield
    except InvalidInput as error:
        named = tuple(FieldError(within + encode_field(each.field), each.message) for each in error.errors)
        if named == error.errors:
            raise
        raise type(error).for_fields(*named) from None
