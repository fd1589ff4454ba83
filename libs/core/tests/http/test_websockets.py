"""What a WebSocket can cost the server, and how it ends."""

import asyncio
import base64
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from fastapi import FastAPI, WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from sluice_core.http import server
from sluice_core.http.server import MAX_FRAGMENTS, MAX_MESSAGE, UNSENT, Listener, Server


class Peer:
    """An application that sends back what it gets, and twenty megabytes when it is asked to."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.app = FastAPI()
        self.app.add_api_websocket_route("/", self.talk)
        self.listener = Listener("127.0.0.1", 0)

    async def talk(self, websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                text = await websocket.receive_text()
                for _ in range(20 if text == "much" else 1):
                    await websocket.send_text(text if text != "much" else "x" * 1_000_000)
        except WebSocketDisconnect:
            self.ended.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[str]:
        served = Server(self.app, self.listener)
        await served.start()
        try:
            yield self.listener.url("ws")
        finally:
            await served.stop()


@asynccontextmanager
async def connected() -> AsyncIterator[ClientConnection]:
    async with Peer().running() as url, connect(url, compression=None) as client:
        yield client


async def test_the_longest_message_passes_and_a_longer_one_ends_the_connection() -> None:
    async with connected() as client:
        await client.send("a" * MAX_MESSAGE)
        assert len(await client.recv()) == MAX_MESSAGE
        await client.send("a" * (MAX_MESSAGE + 1))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_a_message_of_fragments_without_end_ends_the_connection() -> None:
    def fragments(number: int) -> Iterator[str]:
        return iter(["a", *[""] * (number - 1)])

    async with connected() as client:
        await client.send(fragments(MAX_FRAGMENTS - 1))
        assert await client.recv() == "a"
        with contextlib.suppress(ConnectionClosed):
            await client.send(fragments(3 * MAX_FRAGMENTS))
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1009


async def test_nothing_is_unpacked() -> None:
    async with Peer().running() as url, connect(url) as client:
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


async def test_answers_to_pings_that_nobody_reads_do_not_pile_up() -> None:
    ping = b"\x89\xfd" + bytes(4) + b"p" * 125
    async with Peer().running() as url:
        reader, writer = await _raw(url)
        sent = 0
        # The kernel alone keeps some megabytes for each side.
        while sent < 64 * 2**20:
            writer.write(ping * 500)
            sent += len(ping) * 500
            await writer.drain()
        writer.write(b"\x81\x83" + bytes(4) + b"end")
        came = bytearray()
        while not came.endswith(b"\x81\x03end"):
            came += await reader.read(2**20)
        writer.close()
    assert len(came) < sent / 4


async def test_a_peer_that_reads_no_answers_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "PING", 0.2)
    peer = Peer()
    async with peer.running() as url:
        _, writer = await _raw(url)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"\x81\x84" + bytes(4) + b"much")
        await asyncio.wait_for(peer.ended.wait(), 10)
        writer.close()


async def _raw(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Shake hands as a client without a library, which would read on by itself; it takes little ahead."""
    host, port = url.removeprefix("ws://").split(":")
    end = socket.socket()
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, UNSENT)
    end.setblocking(False)
    await asyncio.get_running_loop().sock_connect(end, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=end, limit=UNSENT)
    head = (
        "GET / HTTP/1.1",
        f"Host: {host}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        "",
        "",
    )
    writer.write("\r\n".join(head).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
    return reader, writer
