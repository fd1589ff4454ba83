"""The bridge and a real ActiveMQ (contract 7; swf-clients.md 7)."""

import json
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from sluice_core import subjects
from sluice_core.bus import Bus
from sluice_core.outbox import SCHEMA
from sluice_core.testing import eventually
from sluice_core.testing.activemq import Broker

from .conftest import Run
from .run_log import complete_run
from .work import Nats, agent


def body(**content: Any) -> str:
    return json.dumps(content)


def test_what_agents_say_on_the_topic_is_one_row_and_one_message_of_the_stream_each(
    run: Run, nats: Nats, broker: Broker, topic: str
) -> None:
    """Scenario 19 of swf-monitor.md, but for its stream to people."""
    stream = run(broker, topic)
    stream.listening()
    said = body(msg_type="stf_gen", run_id="100010", sender="daq-1")
    with agent(broker) as (connection, _):
        connection.send(topic, said)
        (row,) = stream.recorded(1)
    assert (row["message_type"], row["sender_agent"], row["run_id"]) == ("stf_gen", "daq-1", "100010")
    assert row["message_content"] == json.loads(said)
    assert row["queue_name"] == topic.removeprefix("/topic/")
    assert row["message_metadata"]["destination"] == topic
    assert row["is_successful"] is True
    assert [row[name] for name in ("recipient_agent", "namespace", "workflow", "stage", "delivered_at")] == [None] * 5
    assert nats.stored("MESSAGES") == 1
    assert stream.metric("sluice_bridge_stored_total") == 1


def test_heartbeats_go_to_the_registry_and_rubbish_is_parked_with_its_reason(
    run: Run, nats: Nats, broker: Broker, topic: str
) -> None:
    """Scenario 24 of swf-monitor.md, up to the registry."""
    stream = run(broker, topic)
    stream.listening()
    with agent(broker) as (connection, _):
        connection.send(topic, body(agent_name="q1", status="WARNING", msg_type="x"))
        for rubbish in (
            "not json",
            "[1]",
            '{"a":1}',
            body(msg_type="a\nb"),
            body(msg_type="x" * 51),
            "\N{SNOWMAN}" * 9,
        ):
            connection.send(topic, rubbish)
        connection.send(topic, b"\xff\x00\x01", headers={"content-length": "3"})
        connection.send(topic, '{"a":' * 5000 + "1" + "}" * 5000)
        connection.send(topic, body(msg_type="after"))
        (row,) = stream.recorded(1)
    assert row["message_type"] == "after"
    eventually(lambda: len(stream.letters()) == 8)
    assert {letter["reason"] for letter in stream.letters()} == {
        "not JSON",
        "no JSON object",
        "neither msg_type nor agent_name and status",
        "msg_type has control characters",
        "msg_type has more than 50 characters",
        "JSON nested too deeply",
    }
    assert nats.stored("HEARTBEATS") == 1
    assert nats.stored("MESSAGES") == 1


def test_what_was_said_while_the_bridge_was_away_is_recorded_once(run: Run, broker: Broker, topic: str) -> None:
    """The source is a topic: the broker keeps it for the durable subscription."""
    first = run(broker, topic)
    first.listening()
    with agent(broker) as (connection, _):
        connection.send(topic, body(msg_type="before"))
        first.recorded(1)
        first.close()
        for number in range(300):
            connection.send(topic, body(msg_type="meanwhile", number=number))
        second = run(broker, topic)
        second.listening()
        connection.send(topic, body(msg_type="after"))
        rows = second.recorded(302)
    assert [row["message_type"] for row in rows] == ["before", *["meanwhile"] * 300, "after"]
    assert [row["message_content"]["number"] for row in rows[1:-1]] == list(range(300))


def test_a_message_by_http_comes_back_from_the_broker_as_one_row_and_one_message(
    run: Run, nats: Nats, broker: Broker, topic: str
) -> None:
    stream = run(broker, topic)
    stream.listening()
    with agent(broker) as (connection, listener):
        connection.subscribe(topic, "1", "auto")
        reply = stream.send(
            {"msg_type": "announcement", "message": "hello"}, headers={"persistent": "true", "vo": "eic"}
        )
        assert reply.status_code == 202, reply.text
        (row,) = stream.recorded(1)
        (heard,) = eventually(lambda: listener.heard)
    assert row["message_id"] == reply.json()["id"] == heard.headers["sluice-id"]
    assert reply.json()["destination"] == topic
    assert json.loads(heard.body) == row["message_content"]
    assert heard.headers["vo"] == "eic"
    # Else the broker would hand on bytes instead of a text (contract 7.5).
    assert "content-length" not in heard.headers
    assert nats.stored("MESSAGES") == 1


def test_messages_by_http_arrive_in_order_also_those_sent_while_there_was_no_broker_connection(
    run: Run, nats: Nats, broker: Broker, topic: str
) -> None:
    waiting = run(broker, topic, bridge=False)
    for number in range(50):
        assert waiting.send({"number": number}, destination="/queue/" + topic[7:]).status_code == 202
    assert nats.stored("OUTBOUND") == 50
    with agent(broker) as (connection, listener):
        connection.subscribe("/queue/" + topic[7:], "1", "auto")
        run(broker, topic).listening()
        eventually(lambda: len(listener.heard) == 50)
    assert [json.loads(heard.body)["number"] for heard in listener.heard] == list(range(50))
    assert all(UUID(heard.headers["sluice-id"]) for heard in listener.heard)
    eventually(lambda: nats.stored("OUTBOUND") == 0)


def test_what_a_service_asks_of_the_operations_agent_waits_in_its_queue(
    run: Run, nats: Nats, broker: Broker, topic: str
) -> None:
    """Section 10.7 of pcs.md: as the outbox of the service for physics configurations publishes it."""
    asked = body(msg_type="submit_evgen_task", namespace="prodops", task_name=topic)

    async def ask(bus: Bus) -> None:
        subject = subjects.outbound(subjects.OPERATIONS)
        await bus.publish_stored(subject, asked.encode(), msg_id=str(uuid4()), headers={SCHEMA: "prodops;v=1"})

    nats.run(ask, "pcs")
    run(broker, topic).listening()
    eventually(lambda: nats.stored("OUTBOUND") == 0)
    with agent(broker) as (connection, listener):
        connection.subscribe(subjects.OPERATIONS, "1", "auto")
        (heard,) = eventually(lambda: listener.heard)
    assert heard.body == asked.encode()
    assert heard.headers["persistent"] == "true"


def test_a_heartbeat_through_the_broker_shows_that_the_bridge_hears(run: Run, broker: Broker, topic: str) -> None:
    stream = run(broker, topic)
    eventually(lambda: "round trip" in stream.bridge(), 20)
    trip, age = stream.metric("sluice_bridge_round_trip_seconds"), stream.metric("sluice_bridge_round_trip_age_seconds")
    assert trip is not None
    assert age is not None
    assert 0 < trip < 10
    assert 0 <= age < 10
    assert stream.rows() == []


def test_of_two_bridges_one_waits_until_the_other_is_gone(run: Run, broker: Broker, topic: str) -> None:
    first = run(broker, topic)
    first.listening()
    second = run(broker, topic)
    eventually(lambda: second.bridge().startswith("another process has the bridge"))
    with agent(broker) as (connection, _):
        connection.send(topic, body(msg_type="one"))
        assert len(first.recorded(1)) == 1
        first.close()
        second.listening()
        connection.send(topic, body(msg_type="two"))
        assert [row["message_type"] for row in second.recorded(2)] == ["one", "two"]


def test_a_full_stream_lets_the_broker_keep_what_comes(run: Run, nats: Nats, broker: Broker, topic: str) -> None:
    stream = run(broker, topic)
    stream.listening()
    nats.limit("MESSAGES", max_msgs=10)
    with agent(broker) as (connection, _):
        for number in range(30):
            connection.send(topic, body(msg_type="x", number=number))
    eventually(lambda: "what the broker sends waits there" in stream.bridge())
    assert stream.metric("sluice_bridge_stalled") == 1
    stream.recorded(10)
    assert nats.stored("MESSAGES") == 10
    nats.limit("MESSAGES", max_msgs=-1)
    rows = stream.recorded(30)
    assert [row["message_content"]["number"] for row in rows] == list(range(30))
    assert nats.stored("MESSAGES") == 30
    eventually(lambda: stream.bridge().startswith("connected"))


def test_a_wrong_login_is_said_and_harms_nothing(run: Run, broker: Broker, topic: str) -> None:
    stream = run(broker, topic, activemq_password="hunter2")
    eventually(lambda: "password is invalid" in stream.bridge(), 20)
    said = stream.bridge()
    assert said.startswith("no broker: ")
    assert "hunter2" not in said
    assert stream.rows() == []


def test_the_message_log_of_a_complete_run_gives_the_rows_of_the_contract(
    run: Run, nats: Nats, broker: Broker, topic: str
) -> None:
    """Contract 7.4, with the run of swf-clients.md 8.1; its scenario 3, as far as messages go."""
    stream = run(broker, topic)
    stream.listening()
    said = list(complete_run())
    began = datetime.now(UTC)
    with agent(broker) as (connection, _):
        for text in said:
            connection.send(topic, text)
        rows = stream.recorded(len(said))
    assert len(rows) == nats.stored("MESSAGES") == len(said) == 9 + 4 * 8
    for text, row in zip(said, rows, strict=True):
        content = json.loads(text)
        assert began <= datetime.fromisoformat(row["sent_at"]) <= datetime.now(UTC)
        assert set(row["message_metadata"]) >= {"created_by", "process_pid", "processed_at", "django_instance"}
        ours = {"message_id", "sent_at", "message_metadata"}
        assert {name: row[name] for name in row if name not in ours} == {
            **dict.fromkeys(row.keys() - ours),
            "message_type": content["msg_type"],
            "sender_agent": content["sender"],
            "namespace": "torre1",
            "execution_id": content.get("execution_id"),
            "run_id": "100010",
            "message_content": content,
            "is_successful": True,
            "queue_name": topic.removeprefix("/topic/"),
        }
    lifecycle = [row["message_type"] for row in rows if row["message_type"].endswith(("_run", "_imminent"))]
    assert lifecycle == ["run_imminent", "start_run", "pause_run", "resume_run", "end_run"]
    assert len(stream.rows(execution_id="stf_datataking-ada-0001")) == 9


def test_a_body_larger_than_the_bus_takes_is_parked_as_far_as_it_goes(run: Run, broker: Broker, topic: str) -> None:
    stream = run(broker, topic)
    stream.listening()
    huge = body(msg_type="x", note="y" * 9 * 2**20)
    with agent(broker) as (connection, _):
        connection.send(topic, huge)
        connection.send(topic, body(msg_type="after"))
        assert stream.recorded(1, 30)[0]["message_type"] == "after"
    eventually(lambda: len(stream.letters()) == 1)
    (letter,) = stream.letters()
    assert (letter["size"], letter["stream"]) == (len(huge), "INBOUND")
    assert "are more than" in letter["reason"]
    again = stream.http.post(f"{stream.url}/api/dlq/{letter['id']}/replay/", timeout=30)
    assert (again.status_code, again.json()["type"]) == (409, "urn:problem:not_replayable")
