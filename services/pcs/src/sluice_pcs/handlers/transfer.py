"""Import and export of campaigns: new endpoints."""

from datetime import UTC
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, Reader, require
from sluice_core.rest import ApiError, FieldError, Json
from sluice_pcs.handlers.answers import json_response, problem
from sluice_pcs.service.transfer import FORMAT, VERSION, Transfer

__all__ = ["router"]

PARAMETERS = Json("parameters")


def _storable(value: Any) -> Any:
    try:
        return PARAMETERS.parse(value, UTC)
    except FieldError as exc:
        raise ValueError(" ".join(exc.args)) from None


Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100), AfterValidator(_storable)]
Words = Annotated[str, AfterValidator(_storable)]
Parameters = Annotated[dict[str, Any], AfterValidator(_storable)]


class Category(BaseModel):
    """A category."""

    digit: int = Field(ge=1, le=9)
    name: Line
    description: Words = ""


class Tag(BaseModel):
    """A tag of any kind."""

    # One digit less than a label has room for: numbers go on behind what was imported.
    number: int = Field(ge=1, le=99_999_999)
    category_digit: int | None = Field(None, ge=1, le=9, description="Of physics tags")
    description: Words = ""
    parameters: Parameters
    status: Literal["draft", "locked"] | None = Field(None, description="Where it is not `initial_status`")
    created_by: Line | None = Field(None, description="Where it is not `seed_author`")


class Tags(BaseModel):
    """Tags by the letters of their kinds."""

    p: list[Tag] = []
    e: list[Tag] = []
    s: list[Tag] = []
    r: list[Tag] = []
    k: list[Tag] = []


class Campaign(BaseModel):
    """A campaign as a file; what is not named here is not looked at."""

    format: Literal["pcs-campaign-seed"] = Field(description=f"`{FORMAT}`")
    format_version: Literal[1] = Field(description=f"{VERSION}")
    seed_author: Line | None = None
    initial_status: Literal["draft", "locked"] = "draft"
    categories: list[Category] = []
    tags: Tags


class Import(BaseModel):
    """What to import, and how."""

    model_config = ConfigDict(extra="forbid")

    campaign: Campaign
    created_by: Line | None = Field(None, description="Creator of what is new; else the file's")
    dry_run: bool = Field(False, description="Only say what would happen")


def router(transfer: Transfer) -> APIRouter:
    """Return both ways."""
    routes = APIRouter(tags=["pcs"])

    @routes.post(
        "/pcs/api/import/",
        summary="Store what a campaign has and the service has not",
        operation_id="pcs_import",
        response_description="What was created, is unchanged, and is different and left as it is",
        responses=REFUSALS,
    )
    async def take(body: Import, caller: Annotated[Identity, require(Scope.PCS_ADMIN)]) -> Response:
        campaign = body.campaign.model_dump()
        try:
            report = await transfer.take(campaign, caller, created_by=body.created_by, dry_run=body.dry_run)
        except ApiError as exc:
            raise problem(exc) from None
        return json_response(report)

    @routes.get(
        "/pcs/api/export/",
        summary="All categories, tags and definitions as one campaign",
        operation_id="pcs_export",
        responses={401: REFUSALS[401]},
    )
    async def give(
        _: Reader, name: Annotated[str, Query(max_length=100, description="Of the campaign")] = ""
    ) -> Response:
        return json_response(await transfer.give(name))

    return routes
