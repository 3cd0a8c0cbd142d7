"""Reads a page of metrics with the strict parser of Prometheus' library."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import cast

from prometheus_client.core import Metric
from prometheus_client.openmetrics import parser

_parse = cast(Callable[[str], Iterable[Metric]], parser.text_string_to_metric_families)


def parse_openmetrics(page: bytes) -> list[Metric]:
    """The families of a page in OpenMetrics. `ValueError` for a page that breaks a rule of the format."""
    return list(_parse(page.decode()))
