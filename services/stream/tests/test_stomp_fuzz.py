"""The parser, the protocol and the queues under Hypothesis; `./task fuzz` does the same for longer."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from sluice_stream.door.backlog import TRIES, Backlog, Counts, Held, Tried
from sluice_stream.door.frames import BadFrame, Frame, Limits, Parser, encode
from sluice_stream.door.post import Post
from sluice_stream.door.protocol import Ack, Disconnect, Login, Protocol, Send, Subscribe, Unsubscribe, Violation
from sluice_stream.door.selectors import BadSelector, Selector

LIMITS = Limits(body=2000, head=2000, headers=20)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NAMES = TEXT.filter(lambda text: text and text != "content-length")


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in pairwise(places)]


@settings(deadline=None)
@given(
    frames=st.lists(st.tuples(st.dictionaries(NAMES, TEXT, max_size=5), st.binary(max_size=100)), max_size=5),
    cuts=st.lists(st.integers(0, 10_000), max_size=20),
    beats=st.sampled_from([b"", b"\n", b"\r\n", b"\n\n"]),
)
def test_what_is_written_is_read_again_however_the_network_cuts_it(
    frames: list[tuple[dict[str, str], bytes]], cuts: list[int], beats: bytes
) -> None:
    written = [
        encode("SEND", {**headers, "content-length": str(len(body))}, body, version="1.2") for headers, body in frames
    ]
    parser = Parser(LIMITS)
    read = [frame for each in chunks(beats.join(written), cuts) for frame in parser.feed(each)]
    assert [(frame.command, frame.body) for frame in read] == [("SEND", body) for _, body in frames]
    for frame, (headers, body) in zip(read, frames, strict=True):
        assert frame.headers == {**headers, "content-length": str(len(body))}
    assert not parser.within


@settings(deadline=None)
@given(data=st.binary(max_size=3000), cuts=st.lists(st.integers(0, 10_000), max_size=20))
def test_bytes_are_frames_or_a_bad_frame_and_never_more_than_the_limits_is_kept(data: bytes, cuts: list[int]) -> None:
    whole, parts = Parser(LIMITS), Parser(LIMITS)

    def read(parser: Parser, pieces: list[bytes]) -> tuple[list[Frame], bool]:
        found: list[Frame] = []
        try:
            for piece in pieces:
                found += parser.feed(piece)
        except BadFrame:
            return found, True
        return found, False

    assert read(whole, [data]) == read(parts, chunks(data, cuts))


PIECES = [*"ab1'()<>= %_\\", "AND ", "OR ", "NOT ", "IN ", "LIKE ", "IS ", "NULL ", "a = 'x' "]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES)).map("".join))
def test_a_text_is_a_selector_or_a_bad_one(text: str) -> None:
    try:
        selector = Selector(text)
    except BadSelector:
        return
    assert selector({"a": "1", "b": "x"}) in (True, False)
    assert selector({}) in (True, False)


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "id": st.sampled_from(["1", "2", "3", ""]),
        "destination": st.sampled_from(["/topic/x", "/queue/x", "x", "/temp/x", "/queue/", ""]),
        "ack": st.sampled_from(["auto", "client", "client-individual", "no"]),
        "receipt": st.just("r"),
        "transaction": st.just("t"),
        "accept-version": st.sampled_from(["1.1", "1.2", "1.0", "2"]),
        "heart-beat": st.sampled_from(["0,0", "10,10", "1", "-1,5"]),
        "message-id": st.just("m"),
        "subscription": st.just("1"),
        "activemq.prefetchSize": st.sampled_from(["1", "0", "x", "999999"]),
        "activemq.subscriptionName": st.just("d"),
    },
)
ACTIONS = ["SEND", "SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "DISCONNECT"]
COMMANDS = st.sampled_from([*ACTIONS, "CONNECT", "STOMP", "BEGIN", "COMMIT", "ABORT", "ABRACADABRA"])


class Conversation(RuleBasedStateMachine):
    """Any client: what it says is understood as the rules have it, or a violation."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol = Protocol(subscriptions=2, prefetch=10)
        self.connected = self.gone = False
        self.open: set[str] = set()

    @rule(command=COMMANDS, headers=HEADERS)
    def say(self, command: str, headers: dict[str, str]) -> None:
        try:
            ask = self.protocol.receive(Frame(command, headers))
        except Violation:
            return
        assert not self.gone
        assert isinstance(ask, Login) != self.connected
        assert "transaction" not in headers or isinstance(ask, Login)
        assert ask.receipt == (None if isinstance(ask, Login) else headers.get("receipt"))
        match ask:
            case Login():
                self.connected = True
                assert ask.version in headers["accept-version"]
            case Send():
                assert ask.destination.startswith(("/topic/", "/queue/"))
                assert not {"receipt", "destination", "message-id", "subscription"} & ask.headers.keys()
            case Subscribe():
                assert ask.id not in self.open
                assert len(self.open) < 2
                assert 1 <= ask.prefetch <= 1000
                self.open.add(ask.id)
            case Unsubscribe():
                assert ask.id in self.open or ask.durable
                self.open.discard(ask.id)
            case Ack():
                assert ask.good == (command == "ACK")
            case Disconnect():
                self.gone = True

    @rule()
    def log_in(self) -> None:
        self.say("CONNECT", {"accept-version": "1.1,1.2"})

    @invariant()
    def knows_its_subscriptions(self) -> None:
        assert self.protocol.open == self.open


class Given:
    """A message of a stream."""

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        self.at = datetime(2026, 1, 1, tzinfo=UTC)
        self.post = Post(uuid4(), "/queue/x", {"kind": "ab"[sequence % 2]}, b"", self.at)
        stored = self.post.stored("x", "x")
        self.headers = stored.headers
        self.data = stored.data


class Hand:
    """Takes some messages."""

    def __init__(self, most: int, kind: str) -> None:
        self.most = most
        self.kind = kind
        self.has: list[Held] = []

    @property
    def choosy(self) -> bool:
        return bool(self.kind)

    def room(self) -> bool:
        return len(self.has) < self.most

    def wants(self, post: Post) -> bool:
        return self.kind in ("", post.headers["kind"])

    def take(self, held: Held) -> None:
        self.has.append(held)


class Still:
    """A queue that is read by hand, and whoever is told what is done with."""

    def __init__(self) -> None:
        self.gone: dict[int, str] = {}

    async def read(self, _: Callable[[Any], None]) -> None:
        await asyncio.Event().wait()

    async def settled(self) -> None:
        pass

    def done(self, message: Given, reason: str = "") -> None:
        assert message.sequence not in self.gone, "settled twice"
        self.gone[message.sequence] = reason


class Queueing(RuleBasedStateMachine):
    """Any crowd at a queue: each message has one place, and none is lost, doubled or given to who does not want it."""

    hands = Bundle("hands")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.still = Still()
        self.backlog = Backlog(self.still, self.still, Counts(), Tried())  # type: ignore[arg-type]
        self.messages: list[Given] = []
        self.there: list[Hand] = []
        self.refusals: dict[int, int] = {}

    def do(self, work: Callable[[], None]) -> None:
        async def now() -> None:
            work()
            await asyncio.sleep(0)

        self.loop.run_until_complete(now())

    @rule(target=hands, most=st.integers(1, 3), kind=st.sampled_from(["", "a", "b"]))
    def join(self, most: int, kind: str) -> Hand:
        hand = Hand(most, kind)
        if not self.there:
            # Who comes to an empty place makes everything come again.
            self.do(lambda: self.backlog.join(hand))
            for message in self.messages:
                if message.sequence not in self.still.gone:
                    self.do(lambda message=message: self.backlog._arrived(message))  # type: ignore[misc]
        else:
            self.do(lambda: self.backlog.join(hand))
        self.there.append(hand)
        return hand

    @rule()
    def arrive(self) -> None:
        message = Given(len(self.messages) + 1)
        self.messages.append(message)
        if self.there:
            self.do(lambda: self.backlog._arrived(message))  # type: ignore[arg-type]

    @precondition(lambda self: self.there and self.messages)
    @rule(data=st.data())
    def come_again(self, data: Any) -> None:
        left = [message for message in self.messages if message.sequence not in self.still.gone]
        if left:
            message = data.draw(st.sampled_from(left))
            self.do(lambda: self.backlog._arrived(message))

    @rule(hand=hands, good=st.booleans(), data=st.data())
    def settle(self, hand: Hand, good: bool, data: Any) -> None:
        if hand.has:
            held = hand.has.pop(data.draw(st.integers(0, len(hand.has) - 1)))
            if not good:
                number = held.message.sequence
                self.refusals[number] = self.refusals.get(number, 0) + 1
            self.do(lambda: (self.backlog.done if good else self.backlog.refuse)(held))
            self.do(self.backlog.dispatch)

    @rule(hand=consumes(hands))
    def leave(self, hand: Hand) -> None:
        def go() -> None:
            for held in hand.has:
                self.backlog.back(held)
            hand.has.clear()
            self.backlog.leave(hand)

        self.there.remove(hand)
        self.do(go)

    @invariant()
    def each_message_has_one_place(self) -> None:
        had = [held.message.sequence for hand in self.there for held in hand.has]
        assert len(had) == len(set(had))
        assert not set(had) & self.still.gone.keys()
        for hand in self.there:
            assert len(hand.has) <= hand.most
            assert all(hand.wants(held.post) for held in hand.has)

    @invariant()
    def nobody_with_room_waits_for_what_he_wants(self) -> None:
        if not self.there:
            return
        had = {held.message.sequence for hand in self.there for held in hand.has}
        for message in self.messages:
            if message.sequence not in had and message.sequence not in self.still.gone:
                assert not any(hand.room() and hand.wants(message.post) for hand in self.there)

    @invariant()
    def only_what_was_refused_too_often_is_parked(self) -> None:
        for sequence, reason in self.still.gone.items():
            assert bool(reason) == (self.refusals.get(sequence, 0) >= TRIES)

    def teardown(self) -> None:
        async def end() -> None:
            self.backlog.close()
            await asyncio.sleep(0)

        self.loop.run_until_complete(end())
        self.loop.close()


# A long fuzz has its own profile.
BRIEF = settings(max_examples=40, deadline=None)
TestConversation = Conversation.TestCase
TestQueueing = Queueing.TestCase
if settings.get_current_profile_name() != "long":
    TestConversation.settings = TestQueueing.settings = BRIEF


@pytest.mark.parametrize(("begin", "more"), [(b"SEND\n", b"a:b\n"), (b"SEND\n\n", b"x"), (b"SEND\na:", b"x")])
def test_an_endless_frame_is_refused_as_soon_as_its_limit_is_reached(begin: bytes, more: bytes) -> None:
    parser = Parser(LIMITS)
    assert list(parser.feed(begin + more * (1900 // len(more)))) == []
    with pytest.raises(BadFrame):
        list(parser.feed(more * 200))
