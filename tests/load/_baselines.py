"""What services are compared with, as little as there can be: ``python -m tests.load._baselines echo``."""

import asyncio
import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable, Generator, Mapping
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import uvicorn
import uvloop
from sqlalchemy import Connection, bindparam, func, insert, select, update
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_core import outbox, subjects
from sluice_core.database import Database
from sluice_core.http.server import stop_on_signals
from sluice_registry.tables import outbox as OUTBOX
from sluice_registry.tables import system_agent
from sluice_runs.tables import execution, run, run_state, stf_file
from sluice_runs.tables import outbox as RUNS_OUTBOX
from tests.load._tags import handwritten_tags

__all__ = ["POOL", "echo", "handwritten", "handwritten_runs", "main"]

POOL = 8
"""Connections and threads of a service where nothing else is said."""


def echo() -> ASGIApp:
    """Return an application that answers each request with its body."""
    headers = [(b"content-type", b"application/json")]

    async def app(_: Scope, receive: Receive, send: Send) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message["body"]
            more = message["more_body"]
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": 200, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})

    return app


def handwritten() -> Starlette:
    """Return what somebody would write for agents alone: no validation, no credentials, no metrics.

    It runs the statements that the registry runs, on the same pool in the same threads. What it adds to the outbox, it
    does not publish, as the registry does meanwhile.
    """
    database = Database(os.environ["SLUICE_HANDWRITTEN_DATABASE_URL"], pool_size=POOL)
    columns = list(system_agent.c)
    names = [each.name for each in columns]
    # As many columns as the registry writes.
    given = [name for name in names if name not in ("id", "created_at", "updated_at")]
    defaults = dict.fromkeys(given) | {
        "description": "",
        "status": "UNKNOWN",
        "workflow_enabled": True,
        "current_stf_count": 0,
        "total_stf_processed": 0,
        "operational_state": "STARTING",
    }
    create = insert(system_agent).values(
        {name: bindparam(name, type_=system_agent.c[name].type) for name in given}
        | {"created_at": func.now(), "updated_at": func.now()}
    )
    create = create.returning(*columns)
    read = select(*columns).where(system_agent.c.id == bindparam("key"))
    lock = read.with_for_update(of=system_agent)
    changed: dict[str, Any] = {name: bindparam(name) for name in ("status", "operational_state", "pid")}
    change = update(system_agent).where(system_agent.c.id == bindparam("key"))
    change = change.values(**changed, updated_at=func.now()).returning(*columns)

    def one(connection: Connection, statement: Any, values: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(names, connection.execute(statement, values).one(), strict=True))

    def tell(connection: Connection, row: dict[str, Any]) -> None:
        subject = subjects.agents_state(row["namespace"], row["instance_name"])
        key = str(row["instance_name"])
        outbox.add(connection, OUTBOX, subject=subject, event_type="agent.state", data=row, key=key)

    def answer(status: int, row: dict[str, Any]) -> Response:
        return Response(msgspec.json.encode(row), status, media_type="application/json")

    async def transact(work: Callable[[Connection], dict[str, Any]]) -> dict[str, Any]:
        return await database.run(database.transact, work)

    async def post(request: Request) -> Response:
        values = defaults | msgspec.json.decode(await request.body())

        def work(connection: Connection) -> dict[str, Any]:
            row = one(connection, create, values)
            tell(connection, row)
            return row

        return answer(201, await transact(work))

    async def get(request: Request) -> Response:
        key = int(request.path_params["key"])
        return answer(200, await database.run(database.read, lambda c: one(c, read, {"key": key})))

    async def patch(request: Request) -> Response:
        key = int(request.path_params["key"])
        body = await request.body()

        def work(connection: Connection) -> dict[str, Any]:
            one(connection, lock, {"key": key})
            row = one(connection, change, msgspec.json.decode(body) | {"key": key})
            tell(connection, row)
            return row

        return answer(200, await transact(work))

    return Starlette(
        routes=[
            Route("/api/systemagents/", post, methods=["POST"]),
            Route("/api/systemagents/{key}/", get),
            Route("/api/systemagents/{key}/", patch, methods=["PATCH"]),
        ],
    )


def handwritten_runs() -> Starlette:
    """Return what somebody would write for STF files alone, as `handwritten` is for agents."""
    database = Database(os.environ["SLUICE_HANDWRITTEN_RUNS_DATABASE_URL"], pool_size=POOL)
    columns = [each for each in stf_file.c if each.name != "settled_at"]
    names = [each.name for each in columns]
    given = [name for name in names if name != "created_at"]
    create = insert(stf_file).values({name: bindparam(name, type_=stf_file.c[name].type) for name in given})
    create = create.returning(*columns)
    lock = select(*columns).where(stf_file.c.file_id == bindparam("key")).with_for_update()
    change = update(stf_file).where(stf_file.c.file_id == bindparam("key"))
    change = change.values(
        status=bindparam("status"),
        metadata=bindparam("metadata", type_=stf_file.c.metadata.type),
        settled_at=func.now(),
    ).returning(*columns)
    where = (
        select(run.c.run_number, run_state.c.execution_id, execution.c.namespace)
        .outerjoin(run_state, run_state.c.run_number == run.c.run_number)
        .outerjoin(execution, execution.c.execution_id == run_state.c.execution_id)
        .where(run.c.run_id == bindparam("key"))
    )

    def one(connection: Connection, statement: Any, values: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(names, connection.execute(statement, values).one(), strict=True))

    def tell(connection: Connection, row: dict[str, Any], what: str) -> None:
        number, execution_id, namespace = connection.execute(where, {"key": row["run_id"]}).one()
        data = {"run_number": number, "execution_id": execution_id, "namespace": namespace, "row": row}
        key = str(row["file_id"])
        outbox.add(connection, RUNS_OUTBOX, subject="files.stf", event_type=what, data=data, key=key)

    def answer(status: int, row: dict[str, Any]) -> Response:
        return Response(msgspec.json.encode(row), status, media_type="application/json")

    async def post(request: Request) -> Response:
        body = msgspec.json.decode(await request.body())
        values = dict.fromkeys(given) | body | {"file_id": uuid4(), "run_id": body["run"]}
        del values["run"]

        def work(connection: Connection) -> dict[str, Any]:
            row = one(connection, create, values)
            tell(connection, row, "stf.created")
            return row

        return answer(201, await database.run(database.transact, work))

    async def patch(request: Request) -> Response:
        key = UUID(request.path_params["key"])
        body = msgspec.json.decode(await request.body())

        def work(connection: Connection) -> dict[str, Any]:
            one(connection, lock, {"key": key})
            row = one(connection, change, body | {"key": key})
            tell(connection, row, "stf.updated")
            return row

        return answer(200, await database.run(database.transact, work))

    return Starlette(
        routes=[
            Route("/api/stf-files/", post, methods=["POST"]),
            Route("/api/stf-files/{key}/", patch, methods=["PATCH"]),
        ],
    )


APPLICATIONS: Mapping[str, Callable[[], ASGIApp]] = {
    "echo": echo,
    "handwritten": handwritten,
    "handwritten_runs": handwritten_runs,
    "tags": partial(handwritten_tags, POOL),
}


class _Plain(uvicorn.Server):
    """uvicorn as it comes; says as `sluice serve` does where it is."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = self.servers[0].sockets[0].getsockname()
        print(json.dumps({"event": "ready", "http": f"http://{host}:{port}", "admin": ""}), flush=True)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Its own way ends the process with the signal, as if it had failed.
        with stop_on_signals(stop := asyncio.Event()):
            waiting = asyncio.create_task(stop.wait())
            waiting.add_done_callback(lambda _: setattr(self, "should_exit", True))
            yield
            waiting.cancel()


def main() -> None:
    """Serve the baseline that the argument names until SIGTERM, with the settings that services have."""
    config = uvicorn.Config(
        APPLICATIONS[sys.argv[1]](),
        port=0,
        http="httptools",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    uvloop.run(_Plain(config).serve())


if __name__ == "__main__":
    main()
