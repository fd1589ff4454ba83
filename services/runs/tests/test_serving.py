"""The run service behind real ports, with a real bus."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import requests

from services.runs.tests.bodies import AT, definition, execution, run_state, slice_of
from sluice_core.bus import AGENTS, DLQ, MESSAGES, RUNS, Bus, Consumer, Message, consume
from sluice_core.bus.permissions import authorization
from sluice_core.testing import NatsServer, StartNats, eventually
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

PASSWORD = "only-for-this-test"


@pytest.fixture
def nats(start_nats: StartNats) -> NatsServer:
    return start_nats(authorization(dict.fromkeys(("registry", "runs", "admin"), PASSWORD)))


async def told(nats: NatsServer, count: int, stream: str = RUNS.name) -> list[tuple[str, dict[str, Any]]]:
    """Return the first ``count`` events of the stream, with their subjects."""
    bus = Bus(nats.url("admin", PASSWORD), name="admin")
    await bus.open()
    stop = asyncio.Event()
    found: list[tuple[str, dict[str, Any]]] = []

    async def handle(batch: list[Message]) -> None:
        found.extend((message.subject, msgspec.json.decode(message.data)) for message in batch)
        if len(found) >= count:
            stop.set()

    await asyncio.wait_for(consume(bus, Consumer(stream=stream, durable="test"), handle, stop), 20)
    await bus.close()
    return found


async def prepare(nats: NatsServer, registry: Tokens) -> None:
    await registry.publish(nats.url("registry", PASSWORD))
    bus = Bus(nats.url("registry", PASSWORD), name="registry")
    await bus.open()
    await bus.ensure([RUNS, MESSAGES, AGENTS, DLQ])
    await bus.close()


def test_every_write_is_told_with_run_execution_and_namespace(make_app: AppMaker, nats: NatsServer) -> None:
    registry = Tokens()
    asyncio.run(prepare(nats, registry))
    with serving(make_app(nats_url=nats.url("runs", PASSWORD))) as served, requests.Session() as session:
        eventually(lambda: requests.get(f"{served.admin_url}/readyz", timeout=5).status_code == 200)
        session.headers.update(registry.header("runs:write"))

        def create(name: str, body: dict[str, Any]) -> dict[str, Any]:
            reply = session.post(f"{served.url}/api/{name}/", json=body, timeout=10, allow_redirects=False)
            assert reply.status_code == 201, reply.text
            row: dict[str, Any] = reply.json()
            return row

        wd = create("workflow-definitions", definition())["id"]
        create("workflow-executions", execution(wd))
        create("run-states", run_state(101))
        run = create("runs", {"run_number": 101, "start_time": AT})["run_id"]
        stf = create("stf-files", {"run": run, "stf_filename": "a.stf"})
        create("fastmon-files", {"stf_file": "a.stf", "tf_filename": "a.tf"})
        row = create("tf-slices", slice_of(101, 0))
        event = {"timestamp": AT, "run_number": 101, "event_type": "x", "state": "x", "event_data": {}}
        create("system-state-events", event)
        session.patch(f"{served.url}/api/stf-files/{stf['file_id']}/", json={"status": "processed"}, timeout=10)
        session.delete(f"{served.url}/api/tf-slices/{row['id']}/", timeout=10)
        events = asyncio.run(told(nats, 10))
        metrics = requests.get(f"{served.admin_url}/metrics", timeout=5).text
        assert 'route="/api/stf-files/"' in metrics
    where = {"run_number": 101, "execution_id": "wd-ada-0001", "namespace": "n1"}
    kinds = {(subject, body["type"]) for subject, body in events}
    assert kinds == {
        ("workflows.definition", "definition.created"),
        ("workflows.execution", "execution.created"),
        ("runs.state", "state.created"),
        ("runs.run", "run.created"),
        ("runs.event", "event.created"),
        ("files.stf", "stf.created"),
        ("files.stf", "stf.updated"),
        ("files.tf", "tf.created"),
        ("files.slice", "slice.created"),
        ("files.slice", "slice.deleted"),
    }
    for _, body in events:
        told_where = {name: body["data"][name] for name in where}
        if body["type"] == "definition.created":
            assert told_where == dict.fromkeys(where)
        elif body["type"] == "execution.created":
            assert told_where == {**where, "run_number": None}  # no run of it was known yet
        else:
            assert told_where == where, body["type"]
    assert next(b["data"]["row"]["status"] for _, b in events if b["type"] == "stf.updated") == "processed"


async def publish(nats: NatsServer, *messages: tuple[str, dict[str, Any]]) -> None:
    """Put messages where the stream service and the registry put theirs."""
    bus = Bus(nats.url("admin", PASSWORD), name="admin")
    await bus.open()
    await bus.wait_connected(10)
    for subject, body in messages:
        message_id = str(uuid4())
        headers = {"Sluice-Id": message_id, "Sluice-At": datetime.now(UTC).isoformat()}
        await bus.publish_stored(subject, msgspec.json.encode(body), msg_id=message_id, headers=headers)
    await bus.close()


def test_messages_of_the_bus_move_runs_and_what_cannot_be_followed_is_parked(
    make_app: AppMaker, nats: NatsServer
) -> None:
    registry = Tokens()
    asyncio.run(prepare(nats, registry))
    said = {"execution_id": "wd-ada-0001", "run_id": "101", "sender": "daq-1", "timestamp": AT, "namespace": "n1"}
    agent = {"type": "agent.state", "data": {"instance_name": "daq-1", "status": "OK", "operational_state": "EXITED"}}
    sent: list[tuple[str, dict[str, Any]]] = [
        ("messages.accepted.n1.start_run", {**said, "msg_type": "start_run"}),
        ("messages.accepted.n1.slice_result", {**said, "msg_type": "slice_result"}),
        ("agents.state.n1.daq-1", agent),
        ("messages.accepted.n1.end_run", {**said, "msg_type": "end_run", "timestamp": "2026-05-05T10:00:40"}),
    ]
    asyncio.run(publish(nats, *sent))
    # The messages came while nobody was there.
    app = make_app(nats_url=nats.url("runs", PASSWORD), stale_every=timedelta(seconds=0.2))
    with serving(app) as served, requests.Session() as session:
        eventually(lambda: session.get(f"{served.url}/api/run-states/101/", timeout=5).status_code == 200)
        eventually(lambda: session.get(f"{served.url}/api/run-states/101/", timeout=5).json()["state"] == "ended")
        (parked,) = asyncio.run(told(nats, 1, DLQ.name))
        assert parked[0] == "dlq.messages.accepted.n1.slice_result"
        # Its runner has exited, so it is stale at once.
        session.headers.update(registry.header("runs:write"))
        eventually(lambda: requests.get(f"{served.admin_url}/readyz", timeout=5).status_code == 200)
        wd = session.post(f"{served.url}/api/workflow-definitions/", json=definition(), timeout=5).json()["id"]
        session.post(f"{served.url}/api/workflow-executions/", json=execution(wd), timeout=5)
        eventually(lambda: session.get(f"{served.url}/api/runs/stale/", timeout=5).json())
        (row,) = session.get(f"{served.url}/api/runs/stale/", timeout=5).json()
        assert (row["key"], row["reason"]) == ("wd-ada-0001", "its runner has exited")
