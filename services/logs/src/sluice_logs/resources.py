"""Log records, as table 3.2 of the contract has them."""

from typing import Any

from sqlalchemy import ColumnElement, func

from sluice_core.auth import Scope
from sluice_core.rest import Choice, DateTime, Filter, Integer, Json, Resource, Text
from sluice_logs import tables

__all__ = ["LOGS"]

LEVELS = {0: "NOTSET", 10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "CRITICAL"}


def _contains(_: Any, text: str) -> ColumnElement[bool]:
    return tables.words.op("@@", is_comparison=True)(func.websearch_to_tsquery(tables.SIMPLE, text))


LOGS = Resource(
    "logs",
    model="AppLog",
    label="app log",
    table=tables.log_record,
    key="id",
    create=Scope.LOGS_WRITE,
    create_open=True,
    create_audited=False,
    write=Scope.LOGS_ADMIN,
    fields=(
        Integer("id", bits=64, read_only=True),
        Text("app_name", required=True, max_length=100),
        Text("instance_name", required=True, max_length=100),
        DateTime("timestamp", required=True),
        Choice("level", LEVELS, default=0),
        Text("levelname", required=True, max_length=50),
        Text("message", required=True),
        Text("module", required=True, max_length=255),
        Text("funcname", required=True, max_length=255),
        Integer("lineno", required=True),
        Integer("process", required=True),
        Integer("thread", required=True, bits=64),
        Json("extra_data", null=True),
    ),
    order=("-timestamp",),
    filters=(
        "app_name",
        "instance_name",
        "level",
        "levelname",
        Filter("start_time", DateTime, lambda columns, value: columns.timestamp >= value),
        Filter("end_time", DateTime, lambda columns, value: columns.timestamp <= value),
        Filter(
            "search",
            Text("search", help='Words of the message, all of them; also "a phrase", one or another, and -without.'),
            _contains,
        ),
    ),
    count=False,
    description="Log records of all programs, newest first.",
)
"""POST is open as declared; `sluice_logs.app` closes it where the site says so."""
