"""Messages between a real ActiveMQ and a whole platform."""

import asyncio
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import stomp  # type: ignore[import-untyped]

from sluice_core.testing import eventually
from sluice_core.testing.activemq import PASSWORD, USER, Broker
from tests.integration.platforms import Client, Up, samples

TOPIC = "/topic/epictopic"
AGENTS = "/api/systemagents/"
MESSAGES = "/api/workflow-messages/"


@pytest.fixture(scope="module")
def bridged(tmp_path_factory: pytest.TempPathFactory, broker: Broker) -> Iterator[Up]:
    host, port = broker.address
    login = {"ACTIVEMQ_USER": USER, "ACTIVEMQ_PASSWORD": PASSWORD, "SLUICE_STREAM_ACTIVEMQ_CLIENT_ID": uuid4().hex}
    data = tmp_path_factory.mktemp("bridged") / "data"
    with Up(data, ACTIVEMQ_HOST=host, ACTIVEMQ_PORT=str(port), ACTIVEMQ_HEARTBEAT_TOPIC=TOPIC, **login) as up:
        eventually(lambda: list(samples(up.admin, "sluice_bridge_connected").values()) == [1.0], 30)
        yield up


@pytest.fixture
def agent(broker: Broker) -> Iterator[Any]:
    connection = stomp.StompConnection11([broker.address], auto_content_length=False)
    connection.connect(USER, PASSWORD, wait=True, headers={"client-id": uuid4().hex})
    yield connection
    connection.disconnect(uuid4().hex)


def rows(client: Client, msg_type: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(MESSAGES, params={"message_type": msg_type}).json()
    return found


def test_a_heartbeat_by_nats_and_one_by_the_broker_are_each_recorded_once(bridged: Up, agent: Any) -> None:
    """Scenario 24 of swf-monitor.md."""
    client = bridged.client()
    agent.send(TOPIC, json.dumps({"agent_name": "q1", "status": "WARNING", "msg_type": "x"}))
    asyncio.run(bridged.say("agents.in.heartbeat._.q2", b'{"agent_type": "DATA", "status": "OK"}'))
    for rubbish in ("not json", "[1]", '{"a":1}'):
        agent.send(TOPIC, rubbish)
    agent.send(TOPIC, json.dumps({"msg_type": "after"}))
    eventually(lambda: rows(client, "after"))
    (first,) = eventually(lambda: client.get(AGENTS, params={"instance_name": "q1"}).json())
    (second,) = eventually(lambda: client.get(AGENTS, params={"instance_name": "q2"}).json())
    assert (first["agent_type"], first["status"], first["workflow_enabled"]) == ("Unknown", "WARNING", True)
    assert (second["agent_type"], second["status"]) == ("DATA", "OK")
    assert rows(client, "x") == []
    eventually(lambda: len(client.get("/api/dlq/").json()) == 3)


def test_a_message_by_http_goes_through_the_broker_and_is_one_row(bridged: Up) -> None:
    client = bridged.client()
    sent = client.post("/api/messages/", {"message": {"msg_type": "announcement", "message": "hello"}})
    assert sent.status_code == 202, sent.text
    client.post("/api/messages/", {"message": {"msg_type": "next"}})
    eventually(lambda: rows(client, "next"))
    assert [row["message_id"] for row in rows(client, "announcement")] == [sent.json()["id"]]
