"""Bodies over the limit are refused before they are in memory, however they are sent."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request, UploadFile
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.testclient import TestClient
from starlette.types import Message, Scope

from sluice_core import errors
from sluice_core.http import BodyLimit, BodyTooLarge, read_body


class Source:
    """A client that sends parts, and counts how many were asked for."""

    def __init__(self, *parts: bytes, whole: bool = True) -> None:
        self.parts = list(parts)
        self.whole = whole
        self.taken = 0

    async def receive(self) -> Message:
        if self.taken == len(self.parts):
            return {"type": "http.disconnect"}
        part = self.parts[self.taken]
        self.taken += 1
        last = self.whole and self.taken == len(self.parts)
        return {"type": "http.request", "body": part, "more_body": not last}


def scope(length: int | None = None) -> Scope:
    return {"type": "http", "headers": [] if length is None else [(b"content-length", str(length).encode())]}


@pytest.mark.parametrize("parts", [(b"",), (b"abcdef",), (b"abc", b"def"), (b"abc", b"", b"def", b"")])
async def test_a_body_comes_whole_however_it_is_cut(parts: tuple[bytes, ...]) -> None:
    assert await read_body(scope(), Source(*parts).receive, 6) == b"".join(parts)


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    source = Source(b"x" * 7)
    with pytest.raises(BodyTooLarge):
        await read_body(scope(7), source.receive, 6)
    assert source.taken == 0


async def test_an_undeclared_body_is_refused_as_soon_as_it_is_too_long() -> None:
    source = Source(*[b"x" * 4] * 100)
    with pytest.raises(BodyTooLarge):
        await read_body(scope(), source.receive, 6)
    assert source.taken == 2


async def test_a_client_that_goes_away_is_noticed() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(scope(), Source(b"abc", whole=False).receive, 6)


class Note(BaseModel):
    text: str


@pytest.fixture
def client() -> TestClient:
    app = FastAPI()
    errors.install(app)

    @app.post("/json")
    def take_json(note: Note) -> int:
        return len(note.text)

    @app.post("/file")
    def take_file(file: UploadFile) -> int:
        return file.size or 0

    @app.post("/stream")
    async def take_stream(request: Request) -> int:
        return len(await request.body())

    app.add_middleware(BodyLimit, limit=1000)
    return TestClient(app)


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 100):
        yield b"x" * 100


@pytest.mark.parametrize("path", ["/json", "/stream"])
@pytest.mark.parametrize("chunked", [False, True])
def test_long_bodies_of_new_endpoints_are_413_problems(client: TestClient, path: str, chunked: bool) -> None:
    reply = client.post(path, content=chunks(2000) if chunked else b"x" * 2000)
    assert reply.status_code == 413
    assert reply.json()["type"] == "urn:problem:too_large"


def test_a_long_file_is_a_413_problem(client: TestClient) -> None:
    assert client.post("/file", files={"file": b"x" * 2000}).status_code == 413


def test_bodies_within_the_limit_pass(client: TestClient) -> None:
    assert client.post("/json", json={"text": "x" * 900}).json() == 900
    assert client.post("/stream", content=chunks(1000)).json() == 1000
