"""The door alone: what it records, who may do what, whose commands are whose, and what it does with bad clients."""

import json
from typing import Any
from uuid import uuid4

import pytest

from sluice_core import subjects
from sluice_core.auth import Scope
from sluice_core.bus import Bus
from sluice_core.testing import eventually
from sluice_core.testing.stomp import Agent, Spot
from sluice_core.testing.tokens import Tokens

from .conftest import OpenDoor
from .work import Nats

CONTROL = "/queue/workflow_control"
TOPIC = "/topic/epictopic"
RESULTS = "/queue/panda.results.fastprocessing"


def body(**content: Any) -> str:
    return json.dumps(content)


def said(agent: Agent) -> list[Any]:
    return [json.loads(heard.body)["run"] for heard in agent.heard]


def beat(nats: Nats, name: str, namespace: str | None) -> None:
    """Let the registry say that an agent is of a namespace."""

    async def tell(bus: Bus) -> None:
        event = {"id": uuid4().hex, "type": "agent.state", "v": 1, "data": {"instance_name": name}}
        event["data"] |= {"namespace": namespace}  # type: ignore[operator]
        subject = subjects.agents_state(namespace, name)
        await bus.publish_stored(subject, json.dumps(event).encode(), msg_id=uuid4().hex)

    nats.run(tell, "registry")


def test_what_is_said_on_a_recorded_topic_is_stored_before_its_receipt_and_heard_by_all(
    open_door: OpenDoor, nats: Nats
) -> None:
    """As by the bridge: one row and one message of the stream each, heartbeats to the registry, rubbish parked."""
    stream, spot = open_door()
    with spot.agent() as listener, spot.agent() as agent:
        listener.subscribe(TOPIC)
        agent.send_surely(TOPIC, body(msg_type="stf_gen", run_id="100010", sender="daq-1"))
        assert nats.stored("MESSAGES") == 1
        agent.send_surely(TOPIC, body(agent_name="q1", status="OK"))
        assert nats.stored("HEARTBEATS") == 1
        agent.send_surely(TOPIC, "rubbish")
        agent.send_surely("/topic/other", body(msg_type="not recorded"))
        assert len(listener.bodies(3)) == 3
        (row,) = stream.recorded(1)
        assert (row["message_type"], row["run_id"], row["queue_name"]) == ("stf_gen", "100010", "epictopic")
        assert row["message_metadata"]["destination"] == TOPIC
        assert row["message_id"] == listener.heard[0].headers["message-id"]
        (letter,) = eventually(stream.letters)
        assert letter["reason"] == "not JSON"
    assert nats.stored("MESSAGES") == 1


def test_a_message_by_http_reaches_topics_and_queues_of_the_door(open_door: OpenDoor, nats: Nats) -> None:
    stream, spot = open_door()
    with spot.agent() as agent:
        agent.subscribe(TOPIC)
        sent = stream.send({"msg_type": "announcement", "message": "hello"}, headers={"vo": "eic"})
        assert sent.status_code == 202, sent.text
        agent.bodies(1)
        for number in range(20):
            assert stream.send({"run": number}, destination="/queue/agent_control.ada").status_code == 202
        agent.subscribe("/queue/agent_control.ada", known="2")
        agent.bodies(21)
    assert said_after(agent, 1) == list(range(20))
    (row,) = stream.recorded(1)
    first = agent.heard[0]
    assert row["message_id"] == sent.json()["id"] == first.headers["sluice-id"] == first.headers["message-id"]
    assert (first.headers["vo"], first.headers["destination"]) == ("eic", TOPIC)
    assert "content-length" not in first.headers
    assert nats.stored("MESSAGES") == 1
    eventually(lambda: nats.stored("OUTBOUND") == nats.stored("QUEUES") == 0)


def said_after(agent: Agent, first: int) -> list[Any]:
    return [json.loads(heard.body)["run"] for heard in agent.heard[first:]]


def test_results_of_slices_are_recorded_and_still_go_to_their_queue(open_door: OpenDoor, nats: Nats) -> None:
    """Part 5 of the run service: a copy for the bus, and the message for the agent."""
    stream, spot = open_door()
    result = body(msg_type="slice_result", run_id="7", content={"state": "done"})
    with spot.agent() as worker, spot.agent() as agent:
        worker.send_surely(RESULTS, result)
        worker.send_surely(RESULTS, body(msg_type="something else"))
        worker.send_surely(RESULTS, "no JSON")
        agent.subscribe(RESULTS)
        assert agent.bodies(3)[0] == result
    (row,) = stream.recorded(1)
    assert (row["message_type"], row["queue_name"]) == ("slice_result", RESULTS)
    assert nats.stored("MESSAGES") == 1
    assert stream.letters() == []


def test_two_runners_of_two_namespaces_share_a_queue_and_get_exactly_their_own(open_door: OpenDoor, nats: Nats) -> None:
    """Scenario 7 of swf-clients.md, decision 18: also what came before a runner's first heartbeat."""
    _, spot = open_door()
    beat(nats, "runner-a", "ann")
    with spot.agent() as sender, spot.agent("runner-a") as first, spot.agent("runner-b") as second:
        for number in range(10):
            for namespace in ("ann", "bob", "nobody"):
                sender.send_surely(CONTROL, body(msg_type="run_workflow", namespace=namespace, run=number))
        first.subscribe(CONTROL)
        second.subscribe(CONTROL)
        first.bodies(10)
        assert second.heard == []
        beat(nats, "runner-b", "bob")
        second.bodies(10)
        for number in range(10, 20):
            for namespace in ("bob", "ann"):
                sender.send_surely(CONTROL, body(msg_type="run_workflow", namespace=namespace, run=number))
        first.bodies(20)
        second.bodies(20)
        assert said(first) == said(second) == list(range(20))
        assert {json.loads(heard.body)["namespace"] for heard in first.heard} == {"ann"}
        assert {json.loads(heard.body)["namespace"] for heard in second.heard} == {"bob"}
    assert nats.stored("QUEUES") == 10
    with spot.agent("runner-c", **{"x-namespace": "nobody"}) as third:
        third.subscribe(CONTROL)
        third.bodies(10)
    eventually(lambda: nats.stored("QUEUES") == 0)


def test_a_subscriber_says_whose_commands_it_wants_by_a_header_or_a_selector(open_door: OpenDoor, nats: Nats) -> None:
    _, spot = open_door()
    with spot.agent() as sender, spot.agent() as one, spot.agent() as two, spot.agent() as three:
        one.subscribe(CONTROL, **{"x-namespace": "ann"})
        two.subscribe(CONTROL, selector="namespace = 'bob' AND vo = 'eic'")
        three.subscribe(CONTROL, selector="namespace IN ('cid', 'dan')")
        for namespace, header in (("ann", "x"), ("bob", "x"), ("bob", "eic"), ("cid", ""), ("dan", ""), ("eve", "")):
            sender.send_surely(CONTROL, body(namespace=namespace, run=namespace), vo=header)
        one.bodies(1)
        two.bodies(1)
        three.bodies(2)
        assert [said(one), said(two), sorted(said(three))] == [["ann"], ["bob"], ["cid", "dan"]]
    # One of bob's that was not chosen, and eve's.
    eventually(lambda: nats.stored("QUEUES") == 2)


def test_an_agent_that_moves_to_another_namespace_gets_the_commands_of_that(open_door: OpenDoor, nats: Nats) -> None:
    _, spot = open_door()
    beat(nats, "runner", "ann")
    with spot.agent() as sender, spot.agent("runner") as runner:
        runner.subscribe(CONTROL)
        sender.send_surely(CONTROL, body(namespace="ann", run="1"))
        runner.bodies(1)
        beat(nats, "runner", "bob")
        sender.send_surely(CONTROL, body(namespace="bob", run="2"))
        runner.bodies(2)
        sender.send_surely(CONTROL, body(namespace="ann", run="3"))
        sender.send_surely(CONTROL, body(run="4"))
        runner.bodies(3)
        assert said(runner) == ["1", "2", "4"]


@pytest.mark.parametrize(
    ("scopes", "command", "destination", "good"),
    [
        ((Scope.STREAM_READ,), "SUBSCRIBE", "/topic/x", True),
        # Who reads a queue takes its messages away.
        ((Scope.STREAM_READ,), "SUBSCRIBE", "/queue/x", False),
        ((Scope.STREAM_READ,), "SEND", "/topic/x", False),
        ((Scope.STREAM_WRITE,), "SEND", "/topic/x", True),
        ((Scope.STREAM_WRITE,), "SEND", "/queue/x", True),
        ((Scope.STREAM_WRITE,), "SUBSCRIBE", "/topic/x", False),
        ((Scope.LOGS_READ,), "SUBSCRIBE", "/topic/x", False),
    ],
)
def test_rights_come_from_the_scopes_of_the_token(
    shared_door: Spot, tokens: Tokens, scopes: tuple[str, ...], command: str, destination: str, good: bool
) -> None:
    passcode = tokens.header(*scopes)["Authorization"].split()[1]
    with shared_door._replace(passcode=passcode).raw() as raw:
        raw.say(command, {"destination": destination, "id": "1", "receipt": "r"})
        answer, headers, _ = raw.hear()
        assert answer == ("RECEIPT" if good else "ERROR")
        assert headers["receipt-id"] == "r"
        assert good or "it needs the scope stream:" in headers["message"]


def test_a_token_of_one_namespace_sends_nothing_for_another(shared_door: Spot, tokens: Tokens, topic: str) -> None:
    passcode = tokens.header(Scope.STREAM_WRITE, namespaces=("ann",))["Authorization"].split()[1]
    mine = shared_door._replace(passcode=passcode)
    with mine.agent() as agent:
        agent.send_surely(topic, body(namespace="ann"))
        agent.send(topic, body(namespace="bob"))
        assert agent.lost.wait(10)
        assert agent.errors == ["you may not send messages of this namespace"]


def test_a_client_id_of_somebody_else_is_not_taken_over(shared_door: Spot, tokens: Tokens, topic: str) -> None:
    other = tokens.header(Scope.STREAM_READ, subject="mallory")["Authorization"].split()[1]
    with shared_door.agent("victim") as victim:
        victim.subscribe(topic, **{"activemq.subscriptionName": "mine"})
        with shared_door._replace(passcode=other).raw() as raw:
            raw.say("SUBSCRIBE", {"id": "1", "destination": topic, "receipt": "r"})
            assert raw.hear()[0] == "RECEIPT"
        raw = type(raw)(shared_door)
        raw.say("CONNECT", {"accept-version": "1.1", "login": "x", "passcode": other, "client-id": "victim"})
        command, headers, _ = raw.hear()
        raw.close()
        assert (command, headers["message"]) == ("ERROR", "client-id 'victim' is in use by another user")
        victim.send_surely(topic, "still here")
        assert victim.bodies(1) == ["still here"]
    # Nor may he take the subscription once its client is away.
    with shared_door._replace(passcode=other).raw({"client-id": "victim"}) as raw:
        raw.say("SUBSCRIBE", {"id": "1", "destination": topic, "activemq.subscriptionName": "mine"})
        assert raw.hear()[1]["message"].endswith("is somebody else's")


def test_a_message_that_nobody_wants_to_process_is_parked_and_blocks_nothing(open_door: OpenDoor, nats: Nats) -> None:
    stream, spot = open_door()
    with spot.agent() as agent:
        agent.subscribe("/queue/work", ack="client-individual")
        agent.send_surely("/queue/work", "poison")
        agent.send_surely("/queue/work", "good")
        for number in range(5):
            seen = number + 1
            eventually(lambda: [heard.body for heard in agent.heard].count("poison") == seen)  # noqa: B023
            agent.ack(next(each for each in reversed(agent.heard) if each.body == "poison"), good=False)
        agent.ack(next(each for each in agent.heard if each.body == "good"))
        (letter,) = eventually(stream.letters)
    assert letter["reason"] == "5 times a consumer answered NACK"
    eventually(lambda: nats.stored("QUEUES") == 0)


def test_what_has_expired_is_not_delivered(shared_door: Spot, queue: str) -> None:
    with shared_door.agent() as agent:
        agent.send_surely(queue, "old", expires="1")
        agent.send_surely(queue, "older", ttl="1")
        agent.send_surely(queue, "new", ttl="60000")
        agent.subscribe(queue)
        assert agent.bodies(1) == ["new"]
        assert int(agent.heard[0].headers["expires"]) > 0


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ("n > 9", ["10", "11"]),
        ("n >= 2.5 AND n <= 10", ["10"]),
        ("NOT n = 10", ["2", "11"]),
        ("n < 3 OR odd = 'yes'", ["2", "11"]),
        ("namespace = 'ann'", ["10"]),
        ("odd LIKE '!_%' ESCAPE '!'", []),
        ("TRUE", ["2", "10", "11"]),
    ],
)
def test_a_number_in_a_selector_is_compared_with_what_a_header_spells(
    shared_door: Spot, topic: str, selector: str, wanted: list[str]
) -> None:
    """ActiveMQ takes headers for texts alone, and looks into no body."""
    with shared_door.agent() as agent:
        agent.subscribe(topic, selector=selector)
        agent.subscribe(f"{topic}.end", known="2")
        agent.send_surely(topic, "2", n="2")
        agent.send_surely(topic, body(namespace="ann"), n="10")
        agent.send_surely(topic, "11", n="11", odd="yes")
        agent.send_surely(f"{topic}.end", "end")
        eventually(lambda: agent.heard and agent.heard[-1].body == "end")
        assert [heard.headers["n"] for heard in agent.heard[:-1]] == wanted


@pytest.mark.parametrize("text", ["", "n =", "n == 1", "((n = 1)", "n BETWEEN 1 AND 2", "n = 1 " * 200, "NOT " * 99])
def test_a_bad_selector_is_refused_with_its_reason(shared_door: Spot, topic: str, text: str) -> None:
    with shared_door.raw() as raw:
        raw.say("SUBSCRIBE", {"id": "1", "destination": topic, "selector": text, "receipt": "r"})
        answer, headers, _ = raw.hear()
        assert answer == ("ERROR" if text else "RECEIPT")
        assert headers["receipt-id"] == "r"


# What ActiveMQ does otherwise


def test_a_bare_name_is_a_topic(shared_door: Spot, topic: str) -> None:
    """ActiveMQ takes no bare name; the sample senders of section 7 write them."""
    with shared_door.agent() as agent:
        agent.subscribe(topic)
        agent.send(topic.removeprefix("/topic/"), "bare")
        assert agent.bodies(1) == ["bare"]
        assert agent.heard[0].headers["destination"] == topic


def test_the_same_client_id_may_come_again_at_once(shared_door: Spot, topic: str) -> None:
    """ActiveMQ refuses it as long as it has not noticed that the other one is dead; the door closes that one."""
    with shared_door.agent("me") as old:
        old.subscribe(topic)
        with shared_door.agent("me") as new:
            new.subscribe(topic)
            new.send(topic, "x")
            assert new.bodies(1) == ["x"]
            assert old.lost.wait(10)
            assert old.heard == []
