"""``/api/dlq/``."""

from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, require
from sluice_core.bus import BusAway, StreamRefused
from sluice_core.errors import Unavailable
from sluice_core.http.answers import Key, Limit, json_response, page_response
from sluice_core.settings import Duration
from sluice_stream.letters import Letters

__all__ = ["router"]

PATH = "/api/dlq/"
# PostgreSQL's calendar ends.
LONGEST = timedelta(days=36500)


class Letter(BaseModel):
    """What could not be processed."""

    id: UUID
    at: datetime = Field(description="When it was parked")
    stream: str = Field(description="Where it was then; empty when no stream had it")
    subject: str
    reason: str
    size: int = Field(description="Bytes that it had")


class WholeLetter(Letter):
    """The same with what was in it."""

    headers: dict[str, str]
    encoding: Literal["utf-8", "base64"] = Field(description="What `data` is written in")
    data: str


class Chosen(BaseModel):
    """Which dead letters; all where nothing is said."""

    model_config = ConfigDict(extra="forbid")

    stream: Key | None = None
    reason: Key | None = None
    older: Duration | None = Field(None, ge=timedelta(0), le=LONGEST)
    younger: Duration | None = Field(None, ge=timedelta(0), le=LONGEST)
    limit: int = Field(100, ge=1, le=1000, description="How many at most, the oldest first")


class Outcome(BaseModel):
    """What became of them."""

    replayed: int
    refused: dict[UUID, str] = Field(description="Reasons by id; these stay")


Age = Annotated[Duration | None, Query(ge=timedelta(0), le=LONGEST)]


def router(letters: Letters) -> APIRouter:
    """Return everything about dead letters."""
    routes = APIRouter(tags=["dlq"])
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such dead letter"}}
    again: dict[int | str, dict[str, Any]] = {
        503: {"description": "It cannot be stored now, and stays"},
    }
    stays: dict[int | str, dict[str, Any]] = {409: {"description": "It cannot be sent again, and stays"}}

    @routes.get(
        PATH,
        summary="Dead letters, the newest first",
        operation_id="dlq_list",
        response_description="A page of dead letters, without their data",
        response_model=list[Letter],
        responses=REFUSALS | unknown,
    )
    async def find(
        request: Request,
        _: Annotated[Identity, require(Scope.DLQ_READ)],
        limit: Limit = 100,
        after: Annotated[UUID | None, Query(description="Only those older than the letter with this id")] = None,
        stream: Annotated[Key | None, Query(description="Only of this stream")] = None,
        reason: Annotated[Key | None, Query(description="Only with these words in the reason")] = None,
        older: Annotated[Age, Query(description="Only of at least this age, such as 1h")] = None,
        younger: Annotated[Age, Query(description="Only of at most this age")] = None,
    ) -> Response:
        rows = await letters.newest(after, limit + 1, stream=stream, reason=reason, older=older, younger=younger)
        return page_response(request, rows, limit, key="id")

    @routes.get(
        f"{PATH}{{letter}}/",
        summary="One dead letter",
        operation_id="dlq_read",
        response_description="All of it",
        response_model=WholeLetter,
        responses=REFUSALS | unknown,
    )
    async def read(letter: UUID, _: Annotated[Identity, require(Scope.DLQ_READ)]) -> Response:
        row = await letters.get(letter)
        return json_response({**row, **_readable(row["data"])})

    @routes.post(
        f"{PATH}replay/",
        summary="Send several dead letters again",
        description="Those that cannot be sent again stay, and the answer says why.",
        operation_id="dlq_replay_all",
        response_description="What became of them",
        response_model=Outcome,
        responses=REFUSALS | again,
    )
    async def replay_all(body: Chosen, _: Annotated[Identity, require(Scope.DLQ_ADMIN)]) -> Response:
        with _storable():
            done = await letters.replay_all(
                body.limit, stream=body.stream, reason=body.reason, older=body.older, younger=body.younger
            )
        return json_response({"replayed": done.replayed, "refused": done.refused})

    @routes.post(
        f"{PATH}{{letter}}/replay/",
        status_code=204,
        summary="Send a dead letter again to where it was",
        operation_id="dlq_replay",
        response_description="It is there, and no dead letter any more",
        responses=REFUSALS | unknown | stays | again,
    )
    async def replay(letter: UUID, _: Annotated[Identity, require(Scope.DLQ_ADMIN)]) -> Response:
        with _storable():
            await letters.replay(letter)
        return Response(status_code=204)

    @routes.delete(
        f"{PATH}{{letter}}/",
        status_code=204,
        summary="Drop a dead letter",
        operation_id="dlq_delete",
        response_description="It is gone",
        responses=REFUSALS | unknown,
    )
    async def delete(letter: UUID, _: Annotated[Identity, require(Scope.DLQ_ADMIN)]) -> Response:
        await letters.delete(letter)
        return Response(status_code=204)

    return routes


def _readable(data: bytes) -> dict[str, str]:
    try:
        return {"encoding": "utf-8", "data": data.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "data": b64encode(data).decode()}


@contextmanager
def _storable() -> Iterator[None]:
    try:
        yield
    except BusAway:
        raise Unavailable("NATS is away.", headers={"Retry-After": "2"}) from None
    except StreamRefused as exc:
        raise Unavailable(f"The stream takes nothing now: {exc}.", headers={"Retry-After": "5"}) from None
