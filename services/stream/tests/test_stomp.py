"""What agents may expect of a broker (swf-clients.md 7), asked of the door and of a real ActiveMQ by a real stomp.py.

Where the two differ on purpose, the test says so.
"""

import json
import time
from typing import Any

import pytest

from sluice_core.testing import eventually
from sluice_core.testing.stomp import Spot

VERSIONS = pytest.mark.parametrize("version", ["1.1", "1.2"])


@VERSIONS
def test_a_topic_goes_to_all_who_listen_in_the_order_of_its_sender(spot: Spot, topic: str, version: str) -> None:
    with spot.agent(version=version) as one, spot.agent(version=version) as two, spot.agent() as sender:
        one.subscribe(topic)
        two.subscribe(topic)
        for number in range(200):
            sender.send(topic, str(number))
        assert one.numbers(200) == list(range(200))
        assert two.numbers(200) == list(range(200))


def test_a_topic_keeps_nothing_for_those_who_come_later(spot: Spot, topic: str) -> None:
    with spot.agent() as sender, spot.agent() as late:
        sender.send_surely(topic, "before")
        late.subscribe(topic)
        sender.send_surely(topic, "after")
        assert late.bodies(1) == ["after"]


def test_a_message_has_the_headers_of_its_sender_and_no_length_that_he_did_not_tell(spot: Spot, topic: str) -> None:
    given = {
        "persistent": "true",
        "ttl": "43200000",
        "vo": "eic",
        "msg_type": "slice",
        "run_id": "none",
        "odd": "a:b\\c\nd",
        "reply-to": "/queue/answers",
    }
    body = json.dumps({"text": "Grüße \N{SNOWMAN}"}, ensure_ascii=False)
    with spot.agent() as agent:
        agent.subscribe(topic)
        agent.send(topic, body, **given)
        agent.bodies(1)
    (heard,) = agent.heard
    assert heard.body == body
    got = {name: heard.headers[name] for name in given}
    # ActiveMQ writes temporary and reply destinations in its own way.
    got["reply-to"] = "/queue/" + got["reply-to"].rpartition("/")[2]
    assert got == given
    assert "content-length" not in heard.headers
    assert (heard.headers["subscription"], heard.headers["destination"]) == ("1", topic)
    assert "receipt" not in heard.headers


def test_bytes_with_nul_and_a_length_arrive_as_they_are(spot: Spot, topic: str) -> None:
    with spot.raw() as raw:
        raw.say("SUBSCRIBE", {"id": "1", "destination": topic, "receipt": "r"})
        assert raw.hear()[0] == "RECEIPT"
        raw.say("SEND", {"destination": topic, "content-length": "5"}, b"a\0b\0\xff")
        command, headers, body = raw.hear()
    assert (command, body, headers["content-length"]) == ("MESSAGE", b"a\0b\0\xff", "5")


@VERSIONS
def test_a_queue_keeps_what_comes_until_somebody_listens(spot: Spot, queue: str, version: str) -> None:
    with spot.agent(version=version) as sender:
        for number in range(50):
            sender.send(queue, str(number))
        sender.send_surely(queue, "50")
    with spot.agent(version=version) as agent:
        agent.subscribe(queue)
        assert agent.numbers(51) == list(range(51))


def test_each_message_of_a_queue_goes_to_one_and_the_work_is_shared(spot: Spot, queue: str) -> None:
    with spot.agent() as one, spot.agent() as two, spot.agent() as sender:
        one.subscribe(queue)
        two.subscribe(queue)
        for number in range(100):
            sender.send(queue, str(number))
        eventually(lambda: len(one.heard) + len(two.heard) == 100)
        assert sorted(one.numbers(1) + two.numbers(1)) == list(range(100))
        assert min(len(one.heard), len(two.heard)) >= 20


@VERSIONS
@pytest.mark.parametrize("ack", ["client", "client-individual"])
def test_what_a_consumer_has_not_acknowledged_when_it_dies_goes_to_another(
    spot: Spot, queue: str, version: str, ack: str
) -> None:
    with spot.agent(version=version) as sender:
        for number in range(5):
            sender.send_surely(queue, str(number))
    with spot.agent(version=version) as first:
        first.subscribe(queue, ack=ack, **{"activemq.prefetchSize": "5"})
        assert first.numbers(5) == list(range(5))
        # With `client` for all before it too, with `client-individual` for itself.
        first.ack(first.heard[2])
        first.send_surely("/topic/nobody", "so that the ACK has arrived")
        first.drop()
    left = [3, 4] if ack == "client" else [0, 1, 3, 4]
    with spot.agent(version=version) as second:
        second.subscribe(queue)
        assert second.numbers(len(left)) == left
        assert second.heard[0].headers["redelivered"] == "true"
        second.send_surely(queue, "5")
        assert second.numbers(len(left) + 1) == [*left, 5]


def test_an_acknowledged_message_never_comes_again(spot: Spot, queue: str) -> None:
    with spot.agent() as agent:
        agent.subscribe(queue, ack="client-individual")
        agent.send_surely(queue, "1")
        agent.bodies(1)
        agent.ack(agent.heard[0])
    with spot.agent() as agent:
        agent.subscribe(queue)
        agent.send_surely(queue, "2")
        assert agent.numbers(1) == [2]


def test_a_subscription_that_ends_gets_nothing_more_and_gives_back_what_it_had(spot: Spot, queue: str) -> None:
    with spot.agent() as agent:
        agent.subscribe(queue, known="a", ack="client-individual", **{"activemq.prefetchSize": "2"})
        for number in range(4):
            agent.send_surely(queue, str(number))
        agent.numbers(2)
        agent.sure(lambda more: agent.connection.unsubscribe("a", headers=more))
        agent.subscribe(queue, known="b")
        assert sorted(agent.numbers(6)[2:]) == [0, 1, 2, 3]
        assert {heard.headers["subscription"] for heard in agent.heard[2:]} == {"b"}


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        ("run_id = '2'", [2]),
        ("run_id <> '2' AND vo = 'eic'", [1, 3, 4]),
        ("run_id IN ('1', '4') OR msg_type = 'b'", [1, 2, 4]),
        # Without parentheses ActiveMQ negates the name, and then takes nothing more.
        ("NOT (run_id = '1')", [2, 3, 4]),
        ("msg_type LIKE 'slice%'", [1]),
        ("msg_type LIKE '_' AND note IS NULL", [2, 3]),
        ("note IS NOT NULL", [4]),
    ],
)
def test_a_selector_chooses_by_headers(spot: Spot, topic: str, queue: str, selector: str, wanted: list[int]) -> None:
    sent: list[dict[str, Any]] = [
        {"run_id": "1", "vo": "eic", "msg_type": "slice_result"},
        {"run_id": "2", "vo": "eic", "msg_type": "b"},
        {"run_id": "3", "vo": "eic", "msg_type": "c"},
        {"run_id": "4", "vo": "eic", "msg_type": "d", "note": "x"},
    ]
    with spot.agent() as agent, spot.agent() as sender:
        agent.subscribe(topic, selector=selector)
        agent.subscribe(queue, known="2", selector=selector)
        for destination in (topic, queue):
            for number, headers in enumerate(sent, 1):
                sender.send_surely(destination, str(number), **headers)
        agent.bodies(2 * len(wanted))
        heard = [json.loads(each.body) for each in agent.heard if each.headers["destination"] == topic]
        assert heard == wanted
        assert sorted(agent.numbers(0)) == sorted(wanted * 2)
        with spot.agent() as other:
            other.subscribe(queue)
            assert sorted(other.numbers(4 - len(wanted))) == sorted({1, 2, 3, 4} - set(wanted))


def test_a_durable_subscription_gets_what_was_said_while_it_was_away(spot: Spot, topic: str) -> None:
    name = {"activemq.subscriptionName": "keeper"}
    me = f"client-of-{topic}"
    with spot.agent(me) as agent:
        agent.subscribe(topic, **name)
    with spot.agent() as sender:
        for number in range(20):
            sender.send_surely(topic, str(number))
        with spot.agent(me) as agent:
            agent.subscribe(topic, **name)
            sender.send_surely(topic, "20")
            assert agent.numbers(21) == list(range(21))
            agent.sure(lambda more: agent.connection.unsubscribe("1", headers=more))
            agent.sure(lambda more: agent.connection.unsubscribe("1", headers={**name, **more}))
        sender.send_surely(topic, "nobody keeps this")
        with spot.agent(me) as agent:
            agent.subscribe(topic, **name)
            sender.send_surely(topic, "new")
            assert agent.bodies(1) == ["new"]
            agent.sure(lambda more: agent.connection.unsubscribe("1", headers=more))
            agent.sure(lambda more: agent.connection.unsubscribe("1", headers={**name, **more}))


def test_heartbeats_go_both_ways_and_a_quiet_connection_lives(spot: Spot, topic: str) -> None:
    with spot.agent(**{"heart-beat": "300,300"}) as agent:
        agent.subscribe(topic)
        # Five times what either side would wait.
        assert not agent.lost.wait(1.5)
        agent.send(topic, "x")
        assert agent.bodies(1) == ["x"]


def test_a_client_that_owes_a_heartbeat_is_cut_off(spot: Spot) -> None:
    with spot.raw({"heart-beat": "200,0"}) as raw:
        raw.socket.settimeout(20)
        began = time.monotonic()
        command, _, _ = raw.hear()
        assert command in ("", "ERROR")
        assert time.monotonic() - began > 0.2


def test_a_connection_says_farewell_with_a_receipt(spot: Spot) -> None:
    with spot.raw() as raw:
        raw.say("DISCONNECT", {"receipt": "bye"})
        command, headers, _ = raw.hear()
        assert (command, headers["receipt-id"]) == ("RECEIPT", "bye")


@pytest.mark.parametrize(("accepted", "spoken"), [("1.1", "1.1"), ("1.2", "1.2"), ("1.0,1.1,1.2", "1.2")])
@pytest.mark.parametrize("command", ["CONNECT", "STOMP"])
def test_the_newest_version_that_both_speak_is_spoken(spot: Spot, command: str, accepted: str, spoken: str) -> None:
    with spot.raw() as other:
        other.close()
        raw = type(other)(spot)
        raw.say(command, {"accept-version": accepted, "host": "x", "login": spot.user, "passcode": spot.passcode})
        answer, headers, _ = raw.hear()
        raw.close()
    assert (answer, headers["version"]) == ("CONNECTED", spoken)


@pytest.mark.parametrize(
    ("command", "headers"),
    [
        ("SUBSCRIBE", {"destination": "/topic/x"}),
        ("UNSUBSCRIBE", {"id": "unknown"}),
        ("ACK", {"id": "unknown", "message-id": "unknown", "subscription": "1"}),
        ("ABRACADABRA", {}),
        ("SEND", {}),
    ],
)
def test_nonsense_is_answered_with_an_error(spot: Spot, command: str, headers: dict[str, str]) -> None:
    with spot.raw() as raw:
        raw.say(command, headers | {"receipt": "r"})
        answer, said, _ = raw.hear()
        assert answer == "ERROR"
        assert said["message"]


def test_who_has_no_right_password_does_not_come_in(spot: Spot) -> None:
    with spot.raw() as other:
        raw = type(other)(spot)
        raw.say("CONNECT", {"accept-version": "1.1", "host": "x", "login": "admin", "passcode": "wrong"})
        assert raw.hear()[0] == "ERROR"
        assert raw.hear()[0] == ""
        raw.close()
