"""Streams to many readers: framing, what a slow one loses, who is cut off, and the end."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive, Scope, Send

from sluice_core.http import sse
from sluice_core.http.server import Listener, Server
from sluice_core.http.sse import Reader, Readers, encode_event
from sluice_core.testing import eventually_async

HOUR = timedelta(hours=1)
END = b"0\r\n\r\n"
HEAD = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


def decode(stream: bytes) -> list[tuple[str, str, str | None]]:
    """Read events as the WHATWG's algorithm does: name, data, id."""
    found: list[tuple[str, str, str | None]] = []
    name, data, event_id = "", list[str](), None
    for line in stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                found.append((name, "\n".join(data), event_id))
            name, data, event_id = "", list[str](), None
        elif field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            event_id = value
    return found


@given(name=st.text(), data=st.text(), event_id=st.from_regex(r"[0-9a-f]{1,8}-[0-9]{1,9}", fullmatch=True))
def test_no_text_breaks_the_framing(name: str, data: str, event_id: str) -> None:
    frame = encode_event(name, data.encode("utf-8", "replace"), event_id)
    ((_, got, got_id),) = decode(frame)
    assert got == data.encode("utf-8", "replace").decode().replace("\r\n", "\n").replace("\r", "\n")
    assert got_id == event_id
    # What clients split lines with that know more line breaks than the standard.
    assert frame.decode().split("\ndata: ")[0].splitlines() == [frame.decode().split("\ndata: ")[0]]


def test_an_event_without_breaks_has_the_bytes_of_the_contract() -> None:
    assert encode_event("stf_gen", b'{"run_id": "7"}') == b'event: stf_gen\ndata: {"run_id": "7"}\n\n'
    assert encode_event("a", b"{}", "e1-7") == b"event: a\ndata: {}\nid: e1-7\n\n"


class Streams:
    """An application whose every request is a stream; each gets one of the prepared readers."""

    def __init__(self, heartbeat: timedelta = HOUR, *, most: int = 100) -> None:
        self.readers = Readers(heartbeat=heartbeat, beat=lambda: encode_event("heartbeat", b"{}"), most=most)
        self.draining = asyncio.Event()
        self.next = Reader(length=100)
        self.served = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reader = self.next

        async def begin() -> None:
            await reader.write(encode_event("connected", b"{}"))
            reader.live = True

        await send(HEAD)
        await self.readers.serve(reader, scope, receive, send, begin)
        self.served += 1


@asynccontextmanager
async def streaming(streams: Streams) -> AsyncIterator[int]:
    listener = Listener("127.0.0.1", 0)
    server = Server(streams, listener)
    await server.start()
    looking = asyncio.create_task(streams.readers.run(streams.draining))
    try:
        yield listener.port
    finally:
        streams.readers.close()
        await server.stop()
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


class Client:
    """A socket on a stream that reads when it is told to."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")

    async def read(self, until: bytes) -> bytes:
        self.socket.setblocking(False)
        loop = asyncio.get_running_loop()
        got = b""
        async with asyncio.timeout(10):
            while until not in got:
                piece = await loop.sock_recv(self.socket, 1 << 20)
                assert piece, f"it ended after {got[-200:]!r}"
                got += piece
        return got


async def test_a_quiet_stream_gets_heartbeats() -> None:
    async with streaming(Streams(timedelta(milliseconds=40))) as port:
        client = Client(port)
        assert (await client.read(b"heartbeat")).count(b"connected") == 1
        await client.read(b"heartbeat")
        client.socket.close()


async def test_a_slow_reader_loses_the_oldest_first_and_is_told_how_many() -> None:
    reader = Reader(length=100, tell_dropped=True)
    sent: list[bytes] = []
    blocked = asyncio.Event()

    async def send(message: Message) -> None:
        await blocked.wait()
        sent.append(message["body"])

    async def begin() -> None:
        for number in range(150):
            reader.offer(encode_event("n", b"%d" % number))
        blocked.set()

    async def receive() -> Message:
        await asyncio.Event().wait()
        return {}

    readers = Readers(heartbeat=HOUR, beat=lambda: b"", most=1)
    serving = asyncio.create_task(readers.serve(reader, {}, receive, send, begin))
    await eventually_async(lambda: b"149" in b"".join(sent))
    reader.end()
    await serving
    events = decode(b"".join(sent))
    assert (reader.sent, reader.dropped) == (150, 50)
    assert events[0][:2] == ("dropped", '{"count": 50}')
    assert [int(data) for _, data, _ in events[1:]] == list(range(50, 150))


async def test_who_does_not_ask_is_not_told_what_it_lost() -> None:
    reader = Reader(length=1)
    for number in range(3):
        reader.offer(encode_event("n", b"%d" % number))
    assert reader._take() == b"event: n\ndata: 2\n\n"


async def test_a_reader_that_takes_nothing_is_cut_off_within_two_heartbeats() -> None:
    streams = Streams(timedelta(seconds=0.5))
    async with streaming(streams) as port:
        client = Client(port)
        await client.read(b"connected")
        event = encode_event("n", b"x" * 20_000)
        # As much as kernels and transport take, and more.
        while streams.next.dropped < 100:
            streams.next.offer(event)
            await asyncio.sleep(0)
        began = asyncio.get_running_loop().time()
        await eventually_async(lambda: streams.served == 1)
        # Two heartbeats are 1 s; the rest is for a busy machine.
        assert asyncio.get_running_loop().time() - began < 3
        client.socket.close()


async def test_memory_of_readers_that_take_nothing_is_bounded() -> None:
    streams = Streams()
    async with streaming(streams) as port:
        clients, readers = [], []
        for _ in range(32):
            streams.next = Reader(length=10)
            readers.append(streams.next)
            clients.append(Client(port))
            await clients[-1].read(b"connected")
        held = []
        for number in range(3000):
            event = encode_event("n", b"%06d" % number + b"x" * 10_000)
            for reader in readers:
                reader.offer(event)
            await asyncio.sleep(0)
        for reader in readers:
            assert reader._transport is not None
            held.append(reader._transport.get_write_buffer_size())
            assert len(reader._queue) <= 10
            assert reader.sent == 3000
            assert reader.dropped > 0
        assert max(held) <= 2 * sse.PIECE + 20_000
        for client in clients:
            client.socket.close()


async def test_a_client_that_leaves_ends_its_stream() -> None:
    streams = Streams()
    async with streaming(streams) as port:
        client = Client(port)
        await client.read(b"connected")
        assert len(streams.readers) == 1
        client.socket.close()
        await eventually_async(lambda: len(streams.readers) == 0)


async def test_the_kernel_gives_up_on_a_peer_that_vanished_before_the_second_heartbeat() -> None:
    streams = Streams(timedelta(seconds=30))
    async with streaming(streams) as port:
        client = Client(port)
        await client.read(b"connected")
        transport = streams.next._transport
        assert transport is not None
        option = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        assert 20_000 <= option < 30_000
        client.socket.close()


async def test_a_credential_that_is_no_more_good_ends_the_stream() -> None:
    streams = Streams(timedelta(milliseconds=40))
    good = [True]
    streams.next = Reader(length=100, allowed=lambda: good[0])
    async with streaming(streams) as port:
        client = Client(port)
        await client.read(b"heartbeat")
        good[0] = False
        await client.read(END)
        client.socket.close()


async def test_when_the_process_ends_all_streams_end_at_once_with_what_was_queued() -> None:
    streams = Streams()
    async with streaming(streams) as port:
        reading = Client(port)
        await reading.read(b"connected")
        first = streams.next
        streams.next = Reader(length=100)
        stuck = Client(port)
        await stuck.read(b"connected")
        while streams.next.dropped < 100:
            streams.next.offer(encode_event("n", b"x" * 20_000))
            await asyncio.sleep(0)
        first.offer(encode_event("last", b"{}"))
        streams.draining.set()
        assert b"event: last" in await reading.read(END)
        await eventually_async(lambda: len(streams.readers) == 0, timeout=1.5)
        assert not streams.readers.has_room
        reading.socket.close()
        stuck.socket.close()


async def test_there_are_never_more_readers_than_may_be() -> None:
    streams = Streams(most=1)
    async with streaming(streams) as port:
        assert streams.readers.has_room
        client = Client(port)
        await client.read(b"connected")
        assert not streams.readers.has_room
        client.socket.close()


@pytest.mark.parametrize("name", ["a\nb", "a\rb", "a\r\nb", "a\u2028b", "a\x85b"])
def test_a_line_break_in_a_name_is_a_space(name: str) -> None:
    assert encode_event(name, b"{}") == b"event: a b\ndata: {}\n\n"


async def test_the_option_is_set_where_the_loop_shows_a_socket_without_options() -> None:
    import uvloop

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test_a_reader_that_takes_nothing_is_cut_off_within_two_heartbeats())

    await asyncio.to_thread(run)


def test_json_is_one_line() -> None:
    text = json.dumps({"a": "x\ny\r\u2028"}).encode()
    assert encode_event("n", text).count(b"\n") == 3
