"""Structured logs: one event a line, on standard error."""

from __future__ import annotations

import logging
import sys

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback
from structlog.processors import ExceptionRenderer
from structlog.tracebacks import ExceptionDictTransformer

from api.settings import Settings


def set_up_logs(settings: Settings) -> None:
    """Let structlog and the standard library's loggers write the same lines. Called once, at process start."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    # Tracebacks come without the values of variables: among them are passwords and the secrets of sessions.
    tracebacks = ExceptionRenderer(ExceptionDictTransformer(show_locals=False))
    last: list[structlog.typing.Processor] = (
        [tracebacks, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain_traceback)]
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    # The OPC UA library reports every reconnect in detail; the supervisor says what matters.
    logging.getLogger("asyncua").setLevel(logging.CRITICAL)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
