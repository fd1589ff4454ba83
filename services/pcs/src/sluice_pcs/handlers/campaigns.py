"""What is done to campaigns beyond their fields: new endpoints."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, Reader, require
from sluice_core.rest import ApiError
from sluice_pcs.handlers.answers import json_response, problem
from sluice_pcs.service.campaigns import Campaigns
from sluice_pcs.service.instancing import Instancing

__all__ = ["router"]

PATH = "/pcs/api/campaigns/{id}/"
Key = Annotated[int, Path(ge=1, le=2**63 - 1, description="Of the campaign")]
Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f]*$")
]


class Clone(BaseModel):
    """The campaign to be."""

    model_config = ConfigDict(extra="forbid")

    name: Name


class Execution(BaseModel):
    """The plan that was looked at."""

    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] = Field(description="Of the plan")
    source: int | None = Field(None, ge=1, le=2**63 - 1, description="The campaign before; else that of the clone")


def router(campaigns: Campaigns, instancing: Instancing) -> APIRouter:
    """Return the verbs."""
    routes = APIRouter(tags=["campaigns"])
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such campaign"}}
    closed: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}

    @routes.post(
        f"{PATH}set-current/",
        summary="Make this campaign the current one; the one before becomes past",
        operation_id="campaigns_set_current",
        responses=REFUSALS | unknown,
    )
    async def set_current(id: Key, _: Annotated[Identity, require(Scope.PCS_ADMIN)]) -> Response:
        try:
            return json_response(await campaigns.make_current(id))
        except ApiError as exc:
            raise problem(exc) from None

    @routes.post(
        f"{PATH}promote/",
        summary="Make this campaign the current one; the one before becomes the last, and the last one past",
        operation_id="campaigns_promote",
        responses=REFUSALS | unknown,
    )
    async def promote(id: Key, _: Annotated[Identity, require(Scope.PCS_ADMIN)]) -> Response:
        try:
            return json_response(await campaigns.make_current(id, promote=True))
        except ApiError as exc:
            raise problem(exc) from None

    @routes.post(
        f"{PATH}clone/",
        summary="An empty campaign that follows this one",
        operation_id="campaigns_clone",
        status_code=201,
        responses=REFUSALS | unknown | {409: {"description": "The name is taken"}},
    )
    async def clone(id: Key, body: Clone, caller: Annotated[Identity, require(Scope.PCS_WRITE)]) -> Response:
        try:
            return json_response(await campaigns.clone(id, body.name, caller), 201)
        except ApiError as exc:
            raise problem(exc) from None

    @routes.get(
        f"{PATH}instancing/",
        summary="What would become here of the editions of the campaign before",
        operation_id="campaigns_plan",
        response_description="Each physics configuration with its class, and the digest by which the plan is executed",
        responses=closed | unknown,
    )
    async def plan(
        id: Key,
        _: Reader,
        source: Annotated[
            int | None, Query(ge=1, le=2**63 - 1, description="The campaign before; else that of the clone")
        ] = None,
    ) -> Response:
        try:
            return json_response(await instancing.plan(id, source))
        except ApiError as exc:
            raise problem(exc) from None

    @routes.post(
        f"{PATH}instancing/",
        summary="Make the editions as they were planned, with a draft task for each that had one",
        operation_id="campaigns_execute",
        responses=REFUSALS | unknown | {409: {"description": "The plan is another one by now"}},
    )
    async def execute(id: Key, body: Execution, caller: Annotated[Identity, require(Scope.PCS_WRITE)]) -> Response:
        try:
            return json_response(await instancing.execute(id, body.source, body.digest, caller))
        except ApiError as exc:
            raise problem(exc) from None

    return routes
