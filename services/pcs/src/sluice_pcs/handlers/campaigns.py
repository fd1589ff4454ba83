"""What is done to campaigns beyond their fields: new endpoints."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, ConfigDict, StringConstraints

from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, require
from sluice_core.rest import ApiError
from sluice_pcs.handlers.answers import json_response, problem
from sluice_pcs.service.campaigns import Campaigns

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


def router(campaigns: Campaigns) -> APIRouter:
    """Return the two verbs."""
    routes = APIRouter(tags=["campaigns"])
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such campaign"}}

    @routes.post(
        f"{PATH}set-current/",
        summary="Make this campaign the current one; the one before becomes the last",
        operation_id="campaigns_set_current",
        responses=REFUSALS | unknown,
    )
    async def set_current(id: Key, _: Annotated[Identity, require(Scope.PCS_ADMIN)]) -> Response:
        try:
            return json_response(await campaigns.make_current(id))
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

    return routes
