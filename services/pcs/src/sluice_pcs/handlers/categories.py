"""Creation of categories, whose answer has no count of tags (contract 5.2)."""

from functools import partial

from sluice_core.audit import note
from sluice_core.auth import Scope
from sluice_core.database import Database
from sluice_core.rest import Endpoint, Reply, Request, Resource
from sluice_core.rest.body import parse
from sluice_core.rest.openapi import paths
from sluice_core.rest.operations import Operations

__all__ = ["endpoints"]


def endpoints(database: Database, operations: Operations, resource: Resource) -> tuple[Endpoint, ...]:
    """Return POST on the list."""

    async def create(request: Request) -> Reply:
        body = partial(parse, request.header("content-type"), await request.body())
        row = await database.run(operations.create, body, request.identity)
        note().key = str(row["digit"])
        return Reply(201, {name: value for name, value in row.items() if name != "tag_count"})

    openapi = {"post": paths([resource], [])[resource.path]["post"]}
    return (Endpoint(resource.path, {"POST": create}, auth="session", scope=Scope.PCS_WRITE, openapi=openapi),)
