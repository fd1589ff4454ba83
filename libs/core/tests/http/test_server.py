"""Servers started from code: kernel-chosen ports, one end for all, and that in bounded time."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI
from starlette.responses import StreamingResponse

from sluice_core.http.server import (
    Listener,
    PortBusy,
    Server,
    ServiceDied,
    lifespan,
    serve,
    stop_on_signals,
)
from sluice_core.supervise import Supervisor
from sluice_core.testing import eventually_async


class FakeService:
    """As much of a service as `serve` sees."""

    def __init__(self, name: str = "demo") -> None:
        self.name = name
        self.supervisor = Supervisor()
        self.draining = asyncio.Event()

    def drain(self) -> None:
        self.draining.set()


class Running:
    """A service behind a public and an admin port."""

    def __init__(self, *apps: FastAPI) -> None:
        self.public = Listener("127.0.0.1", 0)
        self.admin = Listener("127.0.0.1", 0)
        self.stop = asyncio.Event()
        self.ready = asyncio.Event()
        self.apps = apps

    async def run(self) -> None:
        servers = [Server(self.apps[0], self.public)]
        await serve(self.apps, servers, admin=Server(self.apps[0], self.admin), stop=self.stop, on_ready=self.ready.set)


def application(service: FakeService | None = None, log: list[str] | None = None) -> FastAPI:
    log = [] if log is None else log
    service = service or FakeService()

    @asynccontextmanager
    async def span(app: FastAPI) -> AsyncIterator[None]:
        log.append(f"{service.name} starts")
        yield
        log.append(f"{service.name} ends")

    app = FastAPI(lifespan=span)
    app.state.service = service

    @app.get("/")
    async def root() -> str:
        return service.name

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        async def events() -> AsyncIterator[bytes]:
            yield b"data: 1\n\n"
            await service.draining.wait()
            yield b"data: bye\n\n"

        return StreamingResponse(events(), media_type="text/event-stream")

    @app.get("/hangs")
    async def hangs() -> None:
        await asyncio.Event().wait()

    return app


def test_a_busy_port_is_said_in_one_sentence() -> None:
    first = Listener("127.0.0.1", 0)
    with pytest.raises(PortBusy, match=rf"port {first.port} of 127.0.0.1 is in use"):
        Listener("127.0.0.1", first.port)
    first.close()


def test_an_address_of_another_machine_is_said_in_one_sentence() -> None:
    with pytest.raises(PortBusy, match=r"cannot listen on port 0 of 192\.0\.2\.1"):
        Listener("192.0.2.1", 0)


def test_the_url_of_a_listener_can_be_asked_from_this_machine() -> None:
    everywhere = Listener("0.0.0.0", 0)
    assert everywhere.url("https") == f"https://127.0.0.1:{everywhere.port}"
    everywhere.close()


async def test_requests_are_answered_between_start_and_stop_and_no_server_is_named() -> None:
    log: list[str] = []
    running = Running(application(log=log))
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    async with httpx2.AsyncClient(trust_env=False) as http:
        reply = await http.get(running.public.url())
        assert reply.json() == "demo"
        assert "server" not in reply.headers
        began = time.monotonic()
        running.stop.set()  # the client's connection is still open
        await asyncio.wait_for(task, 5)
    assert time.monotonic() - began < 2
    assert log == ["demo starts", "demo ends"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", running.public.port))


async def test_connections_made_before_the_service_is_ready_are_served_when_it_is() -> None:
    running = Running(application())
    async with httpx2.AsyncClient(trust_env=False) as http:
        early = asyncio.create_task(http.get(running.public.url()))
        await asyncio.sleep(0)
        task = asyncio.create_task(running.run())
        assert (await early).status_code == 200
    running.stop.set()
    await asyncio.wait_for(task, 5)


async def test_streams_end_and_hanging_requests_are_cut_when_the_process_stops() -> None:
    running = Running(application())
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    async with httpx2.AsyncClient(trust_env=False) as http:
        hanging = asyncio.create_task(http.get(f"{running.public.url()}/hangs"))
        async with http.stream("GET", f"{running.public.url()}/stream") as stream:
            lines = stream.aiter_lines()
            assert await anext(lines) == "data: 1"
            began = time.monotonic()
            running.stop.set()
            rest = [line async for line in lines if line]
        await asyncio.wait_for(task, 5)
        with pytest.raises(httpx2.HTTPError):
            (await hanging).raise_for_status()
    assert rest == ["data: bye"]
    assert time.monotonic() - began < 4


async def test_a_dead_task_ends_the_process_with_its_reason() -> None:
    async def broken() -> None:
        raise ValueError("no such stream")

    service = FakeService("logs")
    running = Running(application(service))
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    service.supervisor.spawn("consumer", broken)
    with pytest.raises(ServiceDied, match=r"logs: consumer: ValueError\('no such stream'\)"):
        await asyncio.wait_for(task, 5)


async def test_one_service_that_cannot_start_ends_all_with_its_own_reason() -> None:
    @asynccontextmanager
    async def refuses(app: FastAPI) -> AsyncIterator[None]:
        raise LookupError("the schema is old")
        yield

    @asynccontextmanager
    async def slow(app: FastAPI) -> AsyncIterator[None]:
        await asyncio.Event().wait()
        yield

    log: list[str] = []
    broken, waiting = FastAPI(lifespan=refuses), FastAPI(lifespan=slow)
    broken.state.service = waiting.state.service = FakeService()
    running = Running(application(log=log), waiting, broken)
    with pytest.raises(LookupError, match="the schema is old"):
        await asyncio.wait_for(running.run(), 5)
    assert log == ["demo starts", "demo ends"]
    assert not running.ready.is_set()


async def test_a_process_can_be_stopped_while_it_still_starts() -> None:
    entered = asyncio.Event()

    @asynccontextmanager
    async def slow(app: FastAPI) -> AsyncIterator[None]:
        entered.set()
        await asyncio.Event().wait()
        yield

    app = FastAPI(lifespan=slow)
    app.state.service = FakeService()
    running = Running(app)
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(entered.wait(), 5)
    running.stop.set()
    await asyncio.wait_for(task, 5)


async def test_the_admin_port_answers_while_the_service_still_starts() -> None:
    release = asyncio.Event()

    @asynccontextmanager
    async def slow(app: FastAPI) -> AsyncIterator[None]:
        await release.wait()
        yield

    app = application()
    app.router.lifespan_context = slow
    running = Running(app)
    task = asyncio.create_task(running.run())
    async with httpx2.AsyncClient(trust_env=False) as http:
        assert (await http.get(running.admin.url())).status_code == 200
    assert not running.ready.is_set()
    release.set()
    await asyncio.wait_for(running.ready.wait(), 5)
    running.stop.set()
    await task


async def test_a_failure_at_the_end_is_told() -> None:
    @asynccontextmanager
    async def fails(app: FastAPI) -> AsyncIterator[None]:
        yield
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        async with lifespan(FastAPI(lifespan=fails)):
            pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_set_the_stop_event(number: signal.Signals) -> None:
    stop = asyncio.Event()
    with stop_on_signals(stop):
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 2)


async def test_a_broken_answer_closes_the_connection() -> None:
    app = application()

    @app.get("/list")
    async def broken_list() -> StreamingResponse:
        async def pages() -> AsyncIterator[bytes]:
            yield b"[1,"
            raise ValueError("page 2")

        return StreamingResponse(pages(), media_type="application/json")

    running = Running(app)
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    async with httpx2.AsyncClient(trust_env=False) as http:
        with pytest.raises(httpx2.RemoteProtocolError):
            await http.get(f"{running.public.url()}/list")
    running.stop.set()
    await task
    await eventually_async(lambda: running.public.socket.fileno() == -1)


def data_packets(writer: asyncio.StreamWriter) -> int:
    """Return how many packets with data have come (``tcpi_data_segs_in``)."""
    packets: int = struct.unpack_from(
        "I", writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256), 152
    )[0]
    return packets


async def test_head_and_body_of_an_answer_are_one_packet() -> None:
    running = Running(application())
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.public.port)
    for number, connection in enumerate((b"keep-alive", b"close"), start=1):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: " + connection + b"\r\n\r\n")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200")
        assert await asyncio.wait_for(reader.readexactly(6), 5) == b'"demo"'
        assert data_packets(writer) == number
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    running.stop.set()
    await task


async def test_a_connection_without_a_whole_request_head_ends_and_others_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluice_core.http.server.HEAD_TIME", 0.3)
    running = Running(application())
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    head = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    silent, half, again, well = [await asyncio.open_connection("127.0.0.1", running.public.port) for _ in range(4)]
    half[1].write(head[:10])
    for reader, writer in (again, well):
        writer.write(head)
        await reader.readuntil(b"\r\n\r\n")
    again[1].write(head[:10])
    for reader, _ in (silent, half, again):
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 5)
    well[1].write(head)
    assert b"HTTP/1.1 200" in await asyncio.wait_for(well[0].readuntil(b"\r\n\r\n"), 5)
    for _, writer in (silent, half, again, well):
        writer.close()
    running.stop.set()
    await task


async def test_a_connection_whose_body_pauses_ends_and_a_body_in_pieces_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sluice_core.http.server.BODY_TIME", 1.5)
    running = Running(application())
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    half, slow = [await asyncio.open_connection("127.0.0.1", running.public.port) for _ in range(2)]
    for _, writer in (half, slow):
        writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n")
    for _ in range(20):
        slow[1].write(b"a")
        await asyncio.sleep(0.1)
    assert (await asyncio.wait_for(slow[0].readline(), 5)).startswith(b"HTTP/1.1 ")
    with contextlib.suppress(ConnectionError):
        await asyncio.wait_for(half[0].read(), 5)
    for _, writer in (half, slow):
        writer.close()
    running.stop.set()
    await task


async def test_a_request_head_without_end_is_refused_and_a_long_one_is_not() -> None:
    running = Running(application())
    task = asyncio.create_task(running.run())
    await asyncio.wait_for(running.ready.wait(), 5)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.public.port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 40_000 + b"\r\n\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 200")
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: ")
    with contextlib.suppress(ConnectionError):
        for _ in range(200):
            writer.write(b"a" * 10_000)
            await writer.drain()
    with contextlib.suppress(ConnectionError):
        assert b"HTTP/1.1 400" in await reader.read()
    writer.close()
    running.stop.set()
    await task
