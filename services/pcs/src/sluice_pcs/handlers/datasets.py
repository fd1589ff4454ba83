"""Data sets: further blocks (contract 5.4), and what is new: files, manifests, DIDs."""

import csv
import io
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from sluice_core import rest
from sluice_core.auth import Identity, Scope
from sluice_core.auth.fastapi import REFUSALS, Reader, require
from sluice_core.rest import ApiError, Endpoint, Reply
from sluice_pcs.handlers.answers import document, json_response, key, problem, text_of
from sluice_pcs.service.datasets import MOST_BYTES, MOST_FILES, Datasets

__all__ = ["endpoints", "router"]

Key = Annotated[int, Path(ge=1, le=2**63 - 1, description="Id of any block")]
RequestKey = Annotated[str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]*$")]
COLUMNS = ("block_num", "did", "file_count", "data_size")


class Files(BaseModel):
    """Files that a data set got."""

    model_config = ConfigDict(extra="forbid", strict=True)

    count: int = Field(ge=1, le=MOST_FILES, description="Files")
    bytes: int = Field(0, ge=0, le=MOST_BYTES, description="Of all of them together")
    key: RequestKey | None = Field(
        None, description="Of this report; one that comes again is answered as before, and changes nothing"
    )


def endpoints(datasets: Datasets) -> tuple[Endpoint, ...]:
    """Return ``add-block/``."""

    async def add_block(request: rest.Request) -> Reply:
        number = key(request.arguments["id"], "Dataset", bits=64)
        created_by = text_of(await request.data(), "created_by", most=100)
        caller = request.identity
        if created_by and caller and caller.subject != created_by and not caller.may(Scope.PCS_ADMIN):
            raise ApiError(400, {"created_by": [f"This must be the name of the caller, {caller.subject}."]})
        return Reply(201, await datasets.add_block(number, created_by))

    described = document(
        "datasets",
        "datasets_add_block",
        "Open a further block",
        {"201": "The new block", "403": "No credential, or not the scope", "404": "No such dataset"},
        path={"id": {"type": "integer"}},
        body={"type": "object", "properties": {"created_by": {"type": "string", "maxLength": 100}}},
        answer={"$ref": "#/components/schemas/Dataset"},
    )
    path = f"{datasets.resource.path}{{id}}/add-block/"
    return (Endpoint(path, {"POST": add_block}, auth="session", scope=Scope.PCS_WRITE, openapi={"post": described}),)


def router(datasets: Datasets) -> APIRouter:
    """Return accounting of files, manifests, and the way from a DID to its block."""
    routes = APIRouter(tags=["datasets"])
    unknown: dict[int | str, dict[str, Any]] = {404: {"description": "No such dataset"}}
    closed: dict[int | str, dict[str, Any]] = {401: REFUSALS[401]}
    path = datasets.resource.path

    @routes.post(
        f"{path}{{id}}/files/",
        summary="Account for files: fill the last block, open further ones at 100,000 files",
        operation_id="datasets_add_files",
        response_description="Each block that got some, with how many it has now",
        responses=REFUSALS | unknown | {409: {"description": "Another report had this key"}},
    )
    async def add_files(
        id: Key,
        body: Files,
        caller: Annotated[Identity, require(Scope.PCS_WRITE)],
        idempotency_key: Annotated[RequestKey | None, Header(description="Stands for `key`")] = None,
    ) -> Response:
        request = body.key if body.key is not None else idempotency_key
        try:
            return json_response(await datasets.add_files(id, body.count, body.bytes, request, caller))
        except ApiError as exc:
            raise problem(exc) from None

    @routes.get(
        f"{path}{{id}}/manifest/",
        summary="All blocks with their files, and totals",
        operation_id="datasets_manifest",
        responses=closed | unknown,
    )
    async def manifest(
        id: Key, _: Reader, fmt: Annotated[Literal["json", "csv"], Query(description="Of the answer")] = "json"
    ) -> Response:
        try:
            found = await datasets.manifest(id)
        except ApiError as exc:
            raise problem(exc) from None
        if fmt == "json":
            return json_response(found)
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS)
        writer.writeheader()
        writer.writerows(found["files"])
        return Response(text.getvalue(), media_type="text/csv")

    @routes.get(
        "/pcs/api/dids/{did}/",
        summary="The block that a DID names",
        operation_id="dids_read",
        responses=closed | unknown,
    )
    async def find(did: Annotated[str, Path(max_length=400)], _: Reader) -> Response:
        try:
            return json_response(await datasets.find(did))
        except ApiError as exc:
            raise problem(exc) from None

    return routes
