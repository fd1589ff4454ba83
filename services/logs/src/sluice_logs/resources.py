"""Log records, as table 3.2 of the contract has them."""

from dataclasses import dataclass
from datetime import tzinfo
from typing import Any

from sqlalchemy import ColumnElement, func

from sluice_core.auth import Scope
from sluice_core.rest import Choice, DateTime, Filter, Integer, Json, Resource, Text
from sluice_logs import tables

__all__ = ["EXTRA", "LOGS"]

NUMBERS = {name: level for level, name in tables.LEVELS.items()}
EXTRA = ("execution_id", "run_id", "workflow_name", "username")
"""What the agents' library puts in ``extra_data`` (swf-clients.md 6), and lists can be narrowed by."""


@dataclass(frozen=True)
class _Level(Integer):
    """A level by its number or its name."""

    def filter_value(self, raw: str, zone: tzinfo) -> int:
        named = NUMBERS.get(raw.upper())
        return super().filter_value(raw, zone) if named is None else named

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [super().schema(), {"enum": list(NUMBERS)}]}


def _contains(_: Any, text: str) -> ColumnElement[bool]:
    return tables.words.op("@@", is_comparison=True)(func.websearch_to_tsquery(tables.SIMPLE, text))


def _extra(name: str) -> Filter:
    text = Text(name, help=f"`{name}` of `extra_data`, numbers as text.")
    return Filter(name, text, lambda columns, value: columns.extra_data[name].astext == value)


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
        Choice("level", tables.LEVELS, default=0),
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
        Filter(
            "level__gte",
            _Level("level__gte", help="This level and what is more severe, by number or name."),
            lambda columns, value: columns.level >= value,
        ),
        "levelname",
        Filter("start_time", DateTime, lambda columns, value: columns.timestamp >= value),
        Filter("end_time", DateTime, lambda columns, value: columns.timestamp <= value),
        Filter(
            "search",
            Text("search", help='Words of the message, all of them; also "a phrase", one or another, and -without.'),
            _contains,
        ),
        *map(_extra, EXTRA),
    ),
    count=False,
    description="Log records of all programs, newest first.",
)
"""POST is open as declared; `sluice_logs.app` closes it where the site says so."""
