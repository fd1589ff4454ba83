"""What somebody would write for the creation of tags alone: no validation, no credentials, no metrics."""

import os
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, func, insert, literal, select
from sqlalchemy.dialects.postgresql import insert as upsert
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sluice_core import outbox
from sluice_core.database import Database
from sluice_pcs import tables

__all__ = ["handwritten_tags"]

PATH = "/pcs/api/evgen-tags/"


def handwritten_tags(pool_size: int) -> Starlette:
    """Return an application with POST of event generation tags.

    It runs the statements that the service runs, on the same pool in the same threads. What it adds to the outbox, it
    does not publish, as the service does meanwhile.
    """
    database = Database(os.environ["SLUICE_TAGS_DATABASE_URL"], pool_size=pool_size)
    table, counter = tables.tags["e"], tables.counter
    names = [column.name for column in table.c]
    given = ("tag_number", "tag_label", "status", "description", "parameters", "created_by")
    values: dict[str, Any] = {name: bindparam(name, type_=table.c[name].type) for name in given}
    create = insert(table).values(**values, created_at=func.now(), updated_at=func.now()).returning(*table.c)
    take = (
        upsert(counter)
        .values(name=literal("evgen"), next=2)
        .on_conflict_do_update(index_elements=["name"], set_={"next": counter.c.next + 1})
        .returning(counter.c.next - 1)
    )
    definitions = select(tables.param_def.c.defs).where(tables.param_def.c.kind == "e")
    change = insert(tables.tag_change)

    async def post(request: Request) -> Response:
        body = msgspec.json.decode(await request.body())

        def work(connection: Connection) -> dict[str, Any]:
            connection.execute(definitions).first()
            number = connection.execute(take).scalar_one()
            new = {"tag_number": number, "tag_label": f"e{number}", "status": "draft", "description": "", **body}
            row = dict(zip(names, connection.execute(create, new).one(), strict=True))
            told = {"kind": "e", "tag_number": number, "action": "created", "by": "ada", "before": None, "after": row}
            connection.execute(change, told)
            outbox.add(
                connection,
                tables.outbox,
                subject="pcs.tag.created",
                event_type="tag.created",
                data=row,
                key=f"tag e{number}",
            )
            return row

        row = await database.run(database.transact, work)
        return Response(msgspec.json.encode(row), 201, media_type="application/json")

    return Starlette(routes=[Route(PATH, post, methods=["POST"])])
