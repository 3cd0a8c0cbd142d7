"""Serves moto's DynamoDB over HTTP on a free port of 127.0.0.1, which it prints. Ends when its standard input does.

moto takes no lock: of two requests at the same moment one could undo what the other has written. So they are answered
one after the other, as if DynamoDB were one machine. Before a transaction it copies the whole table for each of its
items, which took four fifths of the time: here it copies which items there are. Transactions of this store replace
items and change none, so that is enough to undo one.
"""

from __future__ import annotations

import copy
import logging
import os
import sys
import threading
from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from moto.dynamodb import models
from moto.dynamodb.models.table import Table
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server


class _Handler(WSGIRequestHandler):
    """Keeps connections open, as DynamoDB does."""

    protocol_version = "HTTP/1.1"
    # Without it each answer waits for an acknowledgement.
    wbufsize = -1


class OneAfterTheOther:
    """A WSGI application that answers one request at a time."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        with self._lock:
            return list(self._application(environ, start_response))


class _Copies:
    """In place of the module `copy` where moto copies tables."""

    copy = staticmethod(copy.copy)

    @staticmethod
    def deepcopy(value: Any) -> Any:
        if not isinstance(value, Table):
            return copy.deepcopy(value)
        kept = copy.copy(value)
        kept.items = defaultdict(dict)
        for partition, items in value.items.items():
            kept.items[partition] = dict(items) if value.has_range_key else items
        return kept


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    setattr(models, "copy", _Copies)  # noqa: B010  # mypy takes no other way
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application = OneAfterTheOther(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print(server.port, flush=True)  # noqa: T201  # read by the tests
    server.serve_forever()


if __name__ == "__main__":
    main()
