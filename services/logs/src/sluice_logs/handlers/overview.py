"""What is said about all records together: summary, histogram, apps and instances."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta, tzinfo
from typing import Any, cast

import msgspec

from sluice_core.database import Database
from sluice_core.rest import DateTime, Endpoint, Filter, Integer, Invalid, Reply, Request, Text
from sluice_core.rest.fields import FieldError
from sluice_core.rest.listing import AT_ONCE, Listing
from sluice_core.settings import parse_duration
from sluice_logs.answers import FILTERS, answer, operation, parameter, refusing
from sluice_logs.days import utc_now
from sluice_logs.service import RECENT, Logs, Window

__all__ = ["Kept", "endpoints"]

# Seconds for which a summary is good enough, unless this process has stored something since.
KEEP = 1.0
DAY = timedelta(days=1)
# Steps that a window without an interval is cut into at the most, and with one.
USUAL_STEPS = 100
MOST_STEPS = 1000
STEPS = [timedelta(seconds=seconds) for seconds in (1, 5, 10, 30, 60, 300, 600, 1800, 3600, 10800, 21600, 43200, 86400)]
MOST_NAMES = 10_000

LIMIT = Filter("limit", Integer("limit", minimum=1, maximum=MOST_NAMES), lambda columns, value: columns.id <= value)
APP = Filter("app_name", Text("app_name"), lambda columns, value: columns.app_name == value)
INTERVAL = {
    "name": "interval",
    "in": "query",
    "schema": {"type": "string"},
    "description": f"Such as `10m`; without it, what cuts the window in {USUAL_STEPS} steps at the most.",
}


class Kept:
    """An answer that is made by one request at a time, and serves the others for a second.

    Parameters
    ----------
    make
        Makes it.
    version
        A number that changes when it is no longer true.
    """

    def __init__(self, make: Callable[[], Awaitable[bytes]], version: Callable[[], int]) -> None:
        self._make = make
        self._version = version
        self._turn = asyncio.Lock()
        self._text = b""
        self._of: tuple[float, int] | None = None

    async def get(self) -> bytes:
        """Return the answer."""
        async with self._turn:
            now, version = asyncio.get_running_loop().time(), self._version()
            if self._of is None or now - self._of[0] > KEEP or version != self._of[1]:
                self._text = await self._make()
                self._of = now, version
            return self._text


def endpoints(
    database: Database, logs: Logs, listing: Listing, zone: tzinfo, stored: Callable[[], int]
) -> tuple[Endpoint, ...]:
    """Return them.

    Parameters
    ----------
    listing
        Reads the filters.
    zone
        The server zone.
    stored
        How many records this process has stored so far.
    """
    # Encoded in the same thread: there may be many instances, and their errors may be long.
    kept = Kept(lambda: database.run(lambda: msgspec.json.encode(logs.summary())), stored)

    # A window may hold a million records; who writes must not stand in line behind many who look at such.
    turns = asyncio.Semaphore(AT_ONCE)

    async def summary(_: Request) -> Reply:
        return Reply(200, await kept.get())

    async def apps(request: Request) -> Reply:
        return Reply(200, await database.run(logs.apps, _limit(request, zone)))

    async def instances(request: Request) -> Reply:
        app = request.query.get("app_name") or None
        listing.where({"app_name": app or ""})
        return Reply(200, await database.run(logs.instances, app, _limit(request, zone)))

    async def histogram(request: Request) -> Reply:
        window = _window(request, zone)
        where = listing.where({**request.query, "start_time": "", "end_time": ""})
        async with turns:
            buckets = await database.run(logs.histogram, where, window)
        return Reply(200, {"start": window.begin, "interval": window.step.total_seconds(), "buckets": buckets})

    window = [*FILTERS, INTERVAL]
    return (
        Endpoint("/api/logs/summary/", {"GET": summary}, auth="read", openapi={"get": _summary()}),
        _reading("histogram", histogram, "Numbers of records by time and level", window, _histogram()),
        _reading("apps", apps, "Names of all apps", [parameter(LIMIT)], _names("instances")),
        _reading(
            "instances",
            instances,
            "Names of all instances, or of those of one app",
            [parameter(APP), parameter(LIMIT)],
            _names("instance_name"),
        ),
    )


def _reading(
    name: str, handler: Callable[[Request], Awaitable[Reply]], summary: str, given: list[Any], schema: dict[str, Any]
) -> Endpoint:
    document = operation(name, summary, given, answer("The answer", {"application/json": schema}))
    return Endpoint(f"/api/logs/{name}/", {"GET": refusing(handler)}, auth="read", openapi={"get": document})


def _limit(request: Request, zone: tzinfo) -> int:
    raw = request.query.get("limit")
    try:
        return int(LIMIT.field.filter_value(raw, zone)) if raw else MOST_NAMES
    except FieldError as exc:
        raise Invalid({"limit": list(exc.args)}) from None


def _window(request: Request, zone: tzinfo) -> Window:
    errors: dict[str, list[str]] = {}

    def moment(name: str, otherwise: datetime) -> datetime:
        raw = request.query.get(name)
        try:
            found: datetime = DateTime(name).filter_value(raw, zone) if raw else otherwise
        except FieldError as exc:
            errors[name] = list(exc.args)
            return otherwise
        return found.astimezone(zone)

    try:
        end = moment("end_time", utc_now().astimezone(zone))
        begin = moment("start_time", end - DAY)
        step = cast(timedelta, parse_duration(request.query["interval"])) if request.query.get("interval") else None
    except OverflowError:
        raise Invalid({"end_time": ["Datetime value out of range."]}) from None
    except ValueError as exc:
        raise Invalid({"interval": [str(exc)]}) from None
    if end <= begin:
        errors.setdefault("end_time", ["This is not after start_time."])
    if step is not None and step < timedelta(seconds=1):
        errors["interval"] = ["At least 1s."]
    if errors:
        raise Invalid(errors)
    wide = end - begin
    step = step or next((each for each in STEPS if wide <= each * USUAL_STEPS), wide / USUAL_STEPS)
    steps = -(-wide // step)
    if steps > MOST_STEPS:
        raise Invalid({"interval": [f"The window has more than {MOST_STEPS} such steps."]})
    return Window(begin, step, steps)


def _names(more: str) -> dict[str, Any]:
    properties = {
        "app_name": {"type": "string"},
        more: {"type": "integer" if more == "instances" else "string"},
        "records": {"type": "integer"},
        "last_arrival": {"type": "string", "format": "date", "description": "Last day on which records arrived, UTC."},
    }
    return {"type": "array", "maxItems": MOST_NAMES, "items": {"type": "object", "properties": properties}}


def _histogram() -> dict[str, Any]:
    moment = {"type": "string", "format": "date-time"}
    counts = {"type": "object", "additionalProperties": {"type": "integer"}, "description": "By name of the level."}
    bucket = {"type": "object", "properties": {"start": moment, "counts": counts}}
    return {
        "type": "object",
        "properties": {
            "start": moment,
            "interval": {"type": "number", "description": "Seconds of a step."},
            "buckets": {"type": "array", "maxItems": MOST_STEPS, "items": bucket},
        },
    }


def _summary() -> dict[str, object]:
    texts = ("levelname", "message", "module", "funcname")
    error = {
        "type": "object",
        "properties": {
            "timestamp": {"type": "string", "format": "date-time", "description": "In UTC, with `Z`."},
            **{name: {"type": "string"} for name in texts},
            "lineno": {"type": "integer"},
        },
    }
    instance = {
        "type": "object",
        "properties": {
            "error_counts": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "Records of each `levelname`, all of them and not only errors.",
            },
            "recent_errors": {"type": "array", "maxItems": RECENT, "items": error},
        },
    }
    apps = {
        "type": "object",
        "description": "By app name, and in it by instance name.",
        "additionalProperties": {"type": "object", "additionalProperties": instance},
    }
    return {
        "tags": ["logs"],
        "operationId": "logs_summary",
        "summary": "Counts by level and newest errors of every instance",
        "responses": {
            "200": {"description": "The summary", "content": {"application/json": {"schema": apps}}},
            "403": {"description": "A bad credential, or none where reads are closed"},
            "503": {"description": "The database cannot be reached"},
        },
    }
