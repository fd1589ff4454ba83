"""Clients that are slow, silent or wrong: the door tells them, or cuts them off, and serves the others."""

import contextlib
import json
import socket

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_core.testing import eventually
from sluice_core.testing.stomp import Raw, Spot
from sluice_core.testing.tokens import Tokens
from sluice_stream.door import connection

from .conftest import OpenDoor

SMALL = 8192


def error_of(raw: Raw) -> str:
    """Return what the ERROR says with which a connection ends."""
    while True:
        command, headers, _ = raw.hear()
        assert command, "it ended without an ERROR"
        if command == "ERROR":
            assert raw.hear()[0] == ""
            return headers["message"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "that is no STOMP frame"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), "that is no STOMP frame"),
        (b"X" * 100, "that is no STOMP frame"),
        (b"SEND\0", "that is no STOMP frame"),
        (b"SEND\ndestination:/topic/x\0\n\n", "a NUL among command and headers"),
        (b"send\ndestination:/topic/x\n\n\0", "there is no command send"),
        (b"SEND\nnothing\n\n\0", "a header is not name:value"),
        (b"SEND\n:x\n\n\0", "a header is not name:value"),
        (b"SEND\ndestination:\\t\n\n\0", "a header has an escape sequence that does not exist"),
        (b"SEND\ndestination:\xff\n\n\0", "command or headers are not UTF-8"),
        (b"SEND\n" + b"a:b\n" * 65 + b"\n\0", "more than 64 headers"),
        (b"SEND\n" + b"a:" + b"b" * 20_000, "command and headers have more than 16384 bytes"),
        (b"SEND\ndestination:/topic/x\ncontent-length:3\n\nabcd\0", "no NUL where content-length says"),
        (b"SEND\ndestination:/topic/x\ncontent-length:-1\n\n\0", "content-length is no number"),
        (b"SEND\ndestination:/topic/x\ncontent-length:9999999\n\n", "a body of more than 1048576 bytes"),
        (b"SEND\ndestination:/topic/x\n\n" + b"a" * 1_100_000, "a body of more than 1048576 bytes"),
        (b"SEND\ndestination:/topic/a b\n\n\0", "a destination is /topic/NAME or /queue/NAME"),
        (b"SEND\ndestination:/temp-queue/a\n\n\0", "a destination is /topic/NAME or /queue/NAME"),
        (b"SUBSCRIBE\nid:1\ndestination:/topic/x\n\nbody\0", "SUBSCRIBE has a body"),
        (b"SUBSCRIBE\nid:1\ndestination:/topic/x\nack:perhaps\n\n\0", "ack is one of"),
        (b"SUBSCRIBE\nid:1\ndestination:/queue/x\ndurable-subscription-name:d\n\n\0", "a queue keeps its messages"),
        (b"SUBSCRIBE\nid:1\ndestination:/topic/x\ndurable-subscription-name:d\n\n\0", "needs a client-id"),
        (b"UNSUBSCRIBE\nid:\ndurable-subscription-name:d\n\n\0", "there is no durable subscription"),
        (b"BEGIN\ntransaction:t\n\n\0", "there are no transactions here"),
        (b"SEND\ndestination:/topic/x\ntransaction:t\n\n\0", "there are no transactions here"),
        (b"COMMIT\ntransaction:t\n\n\0", "there are no transactions here"),
        (b"CONNECT\naccept-version:1.2\n\n\0", "connected already"),
        (b"ACK\nmessage-id:x\n\n\0", "has the header id"),
        (b"DISCONNECT\n\n\0SEND\ndestination:/topic/x\n\n\0", ""),
    ],
)
def test_what_is_wrong_is_answered_with_its_reason_and_ends_the_connection(
    shared_door: Spot, data: bytes, reason: str
) -> None:
    with shared_door.raw() as raw:
        raw.write(data)
        if reason:
            assert reason in error_of(raw)
        else:
            assert raw.rest() == []


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"accept-version": "1.0"}, "versions 1.1 and 1.2 are spoken here"),
        ({}, "versions 1.1 and 1.2 are spoken here"),
        ({"accept-version": "1.2", "heart-beat": "soon"}, "heart-beat is not two numbers"),
        ({"accept-version": "1.2"}, "login needs a token as passcode"),
        ({"accept-version": "1.2", "passcode": "x" * 9000}, "login refused"),
        ({"accept-version": "1.2", "client-id": "x" * 256}, "a client-id has at most 255 characters"),
    ],
)
def test_a_bad_login_is_answered_with_its_reason(shared_door: Spot, headers: dict[str, str], reason: str) -> None:
    with contextlib.closing(Raw(shared_door)) as raw:
        raw.say("CONNECT", headers)
        assert reason in error_of(raw)


def test_nobody_speaks_before_he_has_logged_in(shared_door: Spot) -> None:
    with contextlib.closing(Raw(shared_door)) as raw:
        raw.say("SEND", {"destination": "/topic/x"})
        assert error_of(raw) == "SEND before CONNECT"


def test_a_connection_may_have_so_many_subscriptions_and_the_door_so_many_connections(open_door: OpenDoor) -> None:
    _, spot = open_door(stomp_connections=2, stomp_subscriptions=3, stomp_durables=1)
    with spot.raw() as one, spot.raw() as two:
        with contextlib.closing(Raw(spot)) as three:
            assert error_of(three) == "there are 2 connections already"
        for number in range(4):
            one.say("SUBSCRIBE", {"id": str(number), "destination": "/topic/x"})
        assert error_of(one) == "a connection has at most 3 subscriptions"
        two.say("SUBSCRIBE", {"id": "1", "destination": "/topic/x", "receipt": "r"})
        assert two.hear()[0] == "RECEIPT"
        two.say("SUBSCRIBE", {"id": "1", "destination": "/topic/y"})
        assert error_of(two) == "there is a subscription '1' already"
    eventually(lambda: _durables(spot) == ["RECEIPT", "ERROR"])


def _durables(spot: Spot) -> list[str]:
    answers = []
    with contextlib.suppress(AssertionError), spot.raw({"client-id": "me"}) as raw:
        for name in ("a", "b"):
            raw.say(
                "SUBSCRIBE",
                {"id": name, "destination": "/topic/x", "activemq.subscriptionName": name, "receipt": name},
            )
            answers.append(raw.hear()[0])
    return answers


def test_a_topic_consumer_that_does_not_read_is_cut_off_with_an_error_and_others_lose_nothing(
    open_door: OpenDoor,
) -> None:
    stream, spot = open_door(stomp_buffer=2**20)
    with spot.raw(receive=SMALL) as slow, spot.agent() as quick, spot.agent() as sender:
        slow.say("SUBSCRIBE", {"id": "1", "destination": "/topic/big", "receipt": "r"})
        assert slow.hear()[0] == "RECEIPT"
        quick.subscribe("/topic/big")
        for number in range(100):
            sender.send_surely("/topic/big", json.dumps([number, "x" * 50_000]))
        assert [number for number, _ in map(json.loads, quick.bodies(100))] == list(range(100))
        eventually(lambda: stream.metric('sluice_stomp_ended_total{why="slow"}') == 1)
        assert error_of(slow).startswith("too slow: ")
    assert stream.metric("sluice_stomp_active") == 1


def test_a_queue_consumer_that_does_not_read_slows_only_itself(open_door: OpenDoor) -> None:
    stream, spot = open_door(stomp_buffer=2**20)
    with spot.raw(receive=SMALL) as slow, spot.agent() as quick, spot.agent() as sender:
        slow.say("SUBSCRIBE", {"id": "1", "destination": "/queue/big", "receipt": "r"})
        assert slow.hear()[0] == "RECEIPT"
        quick.subscribe("/queue/big")
        for number in range(200):
            sender.send_surely("/queue/big", json.dumps([number, "x" * 50_000]))
        # All but what fits between the door and the slow one.
        eventually(lambda: len(quick.heard) >= 120, 20)
        fast = [json.loads(heard.body)[0] for heard in quick.heard]
        late: list[int] = []
        while len(fast) + len(late) < 200:
            command, _, body = slow.hear()
            assert command == "MESSAGE"
            late.append(json.loads(body)[0])
            fast = [json.loads(heard.body)[0] for heard in quick.heard]
        assert sorted(fast + late) == list(range(200))
    assert stream.metric('sluice_stomp_ended_total{why="slow"}') == 0


def test_a_half_open_client_is_cut_off_and_what_it_had_goes_to_another(shared_door: Spot, queue: str) -> None:
    with shared_door.raw({"heart-beat": "300,0"}) as silent, shared_door.agent() as agent:
        silent.say("SUBSCRIBE", {"id": "1", "destination": queue, "ack": "client"})
        agent.send_surely(queue, "work")
        assert silent.hear()[0] == "MESSAGE"
        agent.subscribe(queue)
        # It says nothing, not even farewell.
        assert agent.bodies(1) == ["work"]
        assert error_of(silent).startswith("no heart-beat for")


def test_what_a_client_sent_before_it_died_is_passed_on(shared_door: Spot, queue: str) -> None:
    with shared_door.raw() as raw:
        for number in range(500):
            raw.say("SEND", {"destination": queue}, str(number).encode())
        raw.socket.shutdown(socket.SHUT_WR)
        assert raw.rest() == []
    with shared_door.agent() as agent:
        agent.subscribe(queue)
        assert agent.numbers(500) == list(range(500))


def test_a_login_that_counts_no_more_ends_its_connections(
    open_door: OpenDoor, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "RECHECK", 0.2)
    _, spot = open_door()
    # A token is good for ten seconds more than it says.
    brief = tokens.header("admin", seconds=-8)["Authorization"].split()[1]
    with spot._replace(passcode=brief).raw() as raw:
        raw.socket.settimeout(60)
        assert error_of(raw) == "the login counts no more"


# No parser of frames in front: whatever a broken or hostile client sends.
piece = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [
            b"SEND\ndestination:/topic/x\n\n",
            b"SUBSCRIBE\nid:1\ndestination:/queue/fuzz\nack:client\n\n\0",
            b"UNSUBSCRIBE\nid:1\n\n\0",
            b"ACK\nid:1\n\n\0",
            b"\0",
            b"\n",
            b"\r\n",
            b"content-length:5\n\n",
            b"DISCONNECT\nreceipt:r\n\n\0",
        ]
    ),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(piece, max_size=12))
def test_whatever_a_client_sends_its_connection_ends_and_the_door_lives(shared_door: Spot, pieces: list[bytes]) -> None:
    with shared_door.raw() as raw:
        for each in pieces:
            raw.write(each)
        with contextlib.suppress(OSError):
            raw.socket.shutdown(socket.SHUT_WR)
        assert set(raw.rest()) <= {"RECEIPT", "ERROR", "MESSAGE"}
    with shared_door.raw():
        pass
