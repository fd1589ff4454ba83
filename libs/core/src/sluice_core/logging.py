"""One JSON line an event, with the request it belongs to and without secrets.

Modules log with ``structlog.get_logger(__name__)`` or the standard library; both end here.
"""

import logging
import re
import sys
from contextvars import ContextVar
from typing import Any, NamedTuple, TextIO

import msgspec
import structlog
from structlog.typing import EventDict, WrappedLogger

__all__ = ["RequestContext", "configure_logging", "mask", "request_context"]

_SECRET_KEYS = re.compile(
    r"authorization|token|password|passwd|secret|cookie|api_?key|passcode|(database|nats)_url", re.I
)
_URL_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^@/\s]+(?=@)")
MASKED = "***"

# What these say at INFO is of no use to an operator: a line for each connection, each start, each migration context.
_QUIET = ("uvicorn", "uvicorn.error", "uvicorn.access", "alembic", "asyncio", "httpx2", "httpcore2")


class RequestContext(NamedTuple):
    """What ties a log line to the request that caused it."""

    request_id: str
    traceparent: str | None
    service: str = ""


request_context: ContextVar[RequestContext | None] = ContextVar("sluice_request", default=None)
"""The request being answered; set by the envelope, and by consumers for the message they work on."""


def mask(value: Any, depth: int = 4) -> Any:
    """Return ``value`` with what stands under secret keys, and passwords in URLs, replaced by ``***``."""
    if isinstance(value, str):
        return _URL_PASSWORD.sub(rf"\1{MASKED}", value) if "@" in value else value
    if depth == 0:
        return value
    if isinstance(value, dict):
        return {
            key: MASKED if isinstance(key, str) and _SECRET_KEYS.search(key) and inner else mask(inner, depth - 1)
            for key, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask(inner, depth - 1) for inner in value]
    return value


def _mask_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    masked: EventDict = mask(event)
    return masked


def _add_request(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    context = request_context.get()
    if context is not None:
        event.setdefault("request_id", context.request_id)
        if context.traceparent:
            event.setdefault("traceparent", context.traceparent)
        if context.service:
            event.setdefault("service", context.service)
    return event


def _as_json(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return msgspec.json.encode(event, enc_hook=repr).decode()


def configure_logging(level: str = "info", *, stream: TextIO | None = None) -> None:
    """Send everything that this process logs to one stream.

    Parameters
    ----------
    level
        Least level: ``debug``, ``info``, ``warning`` or ``error``.
    stream
        Where to; standard output when absent. A terminal gets coloured lines, anything else JSON.
    """
    stream = stream or sys.stdout
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        _add_request,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        structlog.processors.UnicodeDecoder(),
    ]
    last: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if stream.isatty()
        else _as_json
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _mask_event, last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(True)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=False,
    )
