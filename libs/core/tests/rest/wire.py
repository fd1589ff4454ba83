"""A caller of an ASGI application, as exact as a socket: targets, headers, bodies and chunks stay as they are."""

import asyncio
import json as stdlib_json
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import unquote, urlencode

from starlette.types import ASGIApp, Message, Scope

T = TypeVar("T")
Chunk = Callable[[int, bytes], Awaitable[None]]
DEADLINE = 30.0
ABSENT: Any = object()


class Loop:
    """An event loop in a thread of its own, so that tests stay plain functions and may call from many threads."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asgi", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end; a hang is a failure."""
        return asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, DEADLINE), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@dataclass(frozen=True)
class Answer:
    """What came back.

    Attributes
    ----------
    headers
        By lower-case name; a repeated one is joined by commas.
    chunks
        Body messages that were not empty, in order.
    failed
        What the application raised after it had begun to answer: a server would abort the connection.
    """

    status: int
    headers: Mapping[str, str]
    chunks: tuple[bytes, ...]
    failed: BaseException | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return stdlib_json.loads(self.body)

    def __repr__(self) -> str:
        return f"<Answer {self.status} {self.text[:300]}>"


async def exchange(app: ASGIApp, scope: Scope, body: bytes, on_chunk: Chunk | None) -> Answer:
    """Speak HTTP with an application once, as a server would."""
    incoming = [{"type": "http.request", "body": body, "more_body": False}]
    ended = asyncio.Event()
    status = 0
    headers: dict[str, str] = {}
    chunks: list[bytes] = []

    async def receive() -> Message:
        if incoming:
            return incoming.pop()
        await ended.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            assert not status, "answered twice"
            status = message["status"]
            for raw_name, raw_value in message.get("headers", ()):
                name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            return
        assert status, "a body before its head"
        assert not ended.is_set(), "a body after its end"
        if chunk := bytes(message.get("body", b"")):
            chunks.append(chunk)
            if on_chunk is not None:
                await on_chunk(len(chunks), chunk)
        if not message.get("more_body", False):
            ended.set()

    failed: BaseException | None = None
    try:
        await app(scope, receive, send)
    except Exception as exc:
        if not status:
            raise
        failed = exc
    assert status, "no answer"
    assert failed is not None or ended.is_set(), "the answer does not end"
    if scope["method"] == "HEAD":
        chunks.clear()  # as servers do
    elif "content-length" in headers and failed is None:
        assert int(headers["content-length"]) == sum(map(len, chunks)), "Content-Length lies"
    return Answer(status, headers, tuple(chunks), failed)


class Caller:
    """Somebody who calls the application.

    Parameters
    ----------
    loop
        Where the application runs.
    app
        What is called.
    token
        Sent as ``Authorization: Token ...``; None for nobody in particular.
    root_path
        The prefix that the application is mounted under; callers put it into their targets.
    """

    def __init__(self, loop: Loop, app: ASGIApp, *, token: str | None = None, root_path: str = "") -> None:
        self.loop, self.app, self.token, self.root_path = loop, app, token, root_path

    def with_token(self, token: str | None) -> "Caller":
        return Caller(self.loop, self.app, token=token, root_path=self.root_path)

    def request(
        self,
        method: str,
        target: str,
        *,
        json: Any = ABSENT,
        form: Sequence[tuple[str, str]] | Mapping[str, str] = ABSENT,
        multipart: Mapping[str, str] = ABSENT,
        content: bytes = b"",
        content_type: str | None = None,
        accept: str | None = "*/*",
        headers: Mapping[str, str] | None = None,
        on_chunk: Chunk | None = None,
    ) -> Answer:
        """Send a request; the target's path goes out as it is written here."""
        if json is not ABSENT:
            content, content_type = stdlib_json.dumps(json).encode(), "application/json"
        elif form is not ABSENT:
            content, content_type = (
                urlencode(list(form.items()) if isinstance(form, Mapping) else form).encode(),
                "application/x-www-form-urlencoded",
            )
        elif multipart is not ABSENT:
            content, content_type = encode_multipart(multipart), "multipart/form-data; boundary=mark"
        path, _, query = target.partition("?")
        sent = {"host": "testserver", "accept": accept, "content-type": content_type}
        if content or method not in ("GET", "HEAD", "OPTIONS"):
            sent["content-length"] = str(len(content))
        if self.token is not None:
            sent["authorization"] = f"Token {self.token}"
        sent |= {name.lower(): value for name, value in (headers or {}).items()}
        scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode("ascii"),
            "query_string": query.encode("ascii"),
            "root_path": self.root_path,
            "headers": [(k.encode("latin-1"), v.encode("latin-1")) for k, v in sent.items() if v is not None],
            "client": ("192.0.2.7", 50000),
            "server": ("testserver", 80),
            "state": {},
        }
        return self.loop.run(exchange(self.app, scope, content, on_chunk))

    def get(self, target: str, **kwargs: Any) -> Answer:
        return self.request("GET", target, **kwargs)

    def post(self, target: str, **kwargs: Any) -> Answer:
        return self.request("POST", target, **kwargs)

    def put(self, target: str, **kwargs: Any) -> Answer:
        return self.request("PUT", target, **kwargs)

    def patch(self, target: str, **kwargs: Any) -> Answer:
        return self.request("PATCH", target, **kwargs)

    def delete(self, target: str, **kwargs: Any) -> Answer:
        return self.request("DELETE", target, **kwargs)

    def head(self, target: str, **kwargs: Any) -> Answer:
        return self.request("HEAD", target, **kwargs)

    def options(self, target: str, **kwargs: Any) -> Answer:
        return self.request("OPTIONS", target, **kwargs)


def encode_multipart(fields: Mapping[str, str]) -> bytes:
    parts = (
        f'--mark\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in fields.items()
    )
    return ("".join(parts) + "--mark--\r\n").encode()
