"""What is new beside the contract: counters, histories, timelines and reports of runs."""

import asyncio
import base64
import json
from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from functools import partial
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model

from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, Reader, require
from sluice_core.database import Database
from sluice_core.errors import Invalid
from sluice_core.http import absolute_url
from sluice_core.rest import DateTime, FieldError
from sluice_runs.errors import NoCursor
from sluice_runs.resources import COUNTERS
from sluice_runs.service.accounts import Reports
from sluice_runs.service.counters import Counters

__all__ = ["router"]

MOMENT = DateTime("at")
BITS = {"ge": -(2**31), "le": 2**31 - 1}
Number = Annotated[int, Path(**BITS)]
Step = Annotated[int, Field(strict=True, **BITS)]
Key = Annotated[str, StringConstraints(max_length=255), Header(alias="Idempotency-Key")]
Limit = Annotated[int, Query(ge=1, le=10_000)]
Moment = Annotated[str, Query(max_length=100)]

Increment: type[BaseModel] = create_model(
    "Increment",
    __doc__="What is added to each counter; negative numbers take away.",
    __config__=ConfigDict(extra="forbid"),
    **dict.fromkeys(COUNTERS, (Step, 0)),  # type: ignore[call-overload]
)


class RunStateChange(BaseModel):
    """What decided where a run stood from then on."""

    change_id: str
    at: datetime
    source: str = Field(description="`message`, `client` or `execution`")
    message_type: str | None
    phase: str
    state: str
    substate: str | None
    sender: str | None
    execution_id: str | None
    namespace: str | None


class TimelineLine(BaseModel):
    """Something that happened in a run."""

    at: datetime
    kind: str = Field(description="`run`, `state`, `event`, `message`, `stf` or `tf`")
    what: str
    name: str | None
    by: str | None
    key: str


def router(database: Database, counters: Counters, reports: Reports, zone: tzinfo) -> APIRouter:
    """Return the routes.

    Parameters
    ----------
    zone
        Where times without an offset are.
    """
    routes = APIRouter()
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such run"}}
    closed: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}

    @routes.post(
        "/api/run-states/{run_number}/increment/",
        tags=["run-states"],
        summary="Add to counters of a run, without a race",
        operation_id="run_states_increment",
        response_description="The run state",
        responses=REFUSALS | unknown,
    )
    async def increment(
        run_number: Number,
        body: Increment,
        caller: Annotated[Identity, require(Scope.RUNS_WRITE)],
        key: Key = "",
    ) -> Response:
        given: dict[str, int] = body.model_dump(exclude_unset=True)
        if not given:
            raise Invalid([{"field": "body", "message": "Name at least one counter."}])
        return _answer(await database.run(partial(counters.increment, run_number, given, caller, key)))

    @routes.get(
        "/api/run-states/{run_number}/history/",
        tags=["run-states"],
        summary="What decided where a run stands, oldest first",
        operation_id="run_states_history",
        response_model=list[RunStateChange],
        responses=closed | unknown,
    )
    async def history(
        run_number: Number,
        _: Reader,
        limit: Limit = 1000,
        as_of: Annotated[Moment, Query(description="Only what decided it at this instant")] = "",
    ) -> Response:
        at = _moment("as_of", as_of, zone) if as_of else None
        return _answer(await database.run(reports.history, run_number, limit, at))

    @routes.get(
        "/api/runs/{run_id}/timeline/",
        tags=["runs"],
        summary="Everything that happened in a run, in order of time",
        description="A page; the `Link` header leads to the next one.",
        operation_id="runs_timeline",
        response_model=list[TimelineLine],
        responses=closed | unknown,
    )
    async def timeline(
        request: Request, run_id: Number, _: Reader, limit: Limit = 1000, after: Annotated[str, Query()] = ""
    ) -> Response:
        rows = await database.run(reports.timeline, run_id, limit + 1, _place(after, zone))
        page, more = rows[:limit], len(rows) > limit
        return await asyncio.to_thread(_answer, page, _next(request, page, limit) if more else None)

    @routes.get(
        "/api/runs/{run_id}/report/",
        tags=["runs"],
        summary="Files, bytes, rates, latencies and failures of a run",
        operation_id="runs_report",
        response_model=dict[str, Any],
        responses=closed | unknown,
    )
    async def report(run_id: Number, _: Reader) -> Response:
        return _answer(await database.run(reports.report, run_id))

    return routes


def _answer(content: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(msgspec.json.encode(content), 200, headers, "application/json")


def _moment(field: str, text: str, zone: tzinfo) -> datetime:
    try:
        return MOMENT.convert(text, zone)
    except FieldError as exc:
        raise Invalid([{"field": field, "message": str(exc.args[0])}]) from None


def _next(request: Request, page: Sequence[Mapping[str, Any]], limit: int) -> dict[str, str]:
    last = page[-1]
    place = json.dumps([last["at"].isoformat(), last["kind"], last["key"]])
    query = urlencode({"limit": limit, "after": base64.urlsafe_b64encode(place.encode()).decode()})
    path = request.scope["path"].removeprefix(request.scope.get("root_path", ""))
    return {"Link": f'<{absolute_url(request.scope, path)}?{query}>; rel="next"'}


def _place(after: str, zone: tzinfo) -> list[Any] | None:
    if not after:
        return None
    try:
        at, *names = json.loads(base64.urlsafe_b64decode(after.encode()))
        if len(names) != 2 or not all(isinstance(each, str) and each.isprintable() for each in names):
            raise NoCursor
        return [MOMENT.convert(at, zone), *names]
    except (ValueError, TypeError, FieldError, RecursionError):
        raise NoCursor from None
