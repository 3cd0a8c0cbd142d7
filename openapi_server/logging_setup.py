"""Logging: one line for each event, on standard error. Lines contain no text of messages and no whole ids."""

from __future__ import annotations

import logging
import sys
from typing import Literal

import structlog

# Libraries whose INFO lines repeat our own.
NOISY_LOGGERS = ("uvicorn", "connexion", "httpx", "httpcore", "boto3", "botocore", "urllib3", "asyncio")
# At DEBUG these log the texts of messages and replies.
CONTENT_LOGGERS = ("anthropic", "httpcore2", "httpx2", "openai")
QUIET_LOGGERS = NOISY_LOGGERS + CONTENT_LOGGERS


def configure_logging(level: str, style: Literal["logfmt", "json"]) -> None:
    """Render our lines and those of libraries alike, as logfmt or JSON. Both escape line ends inside values."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level)),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                _make_renderer(style),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def _make_renderer(style: Literal["logfmt", "json"]) -> structlog.typing.Processor:
    if style == "json":
        return structlog.processors.JSONRenderer()
    return structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"], bool_as_flag=False)
