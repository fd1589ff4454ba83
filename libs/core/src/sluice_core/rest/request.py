"""A request and an answer, as handlers see them."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec
from starlette.types import Receive, Scope, Send

from sluice_core.auth import Identity
from sluice_core.http import absolute_url, read_body
from sluice_core.rest.body import parse

__all__ = ["JSON", "Reply", "Request"]

JSON = "application/json"


class Reply(msgspec.Struct, frozen=True):
    """An answer.

    Attributes
    ----------
    status
        HTTP status.
    content
        Bytes are sent as they are; anything else is encoded as JSON.
    headers
        Further headers.
    media_type
        ``Content-Type``.
    stream
        Sends an endless body instead of the content, once the head is out; with the request's scope and channels.
    """

    status: int
    content: Any = b""
    headers: Mapping[str, str] = {}
    media_type: str = JSON
    stream: Callable[[Scope, Receive, Send], Awaitable[None]] | None = None

    @property
    def body(self) -> bytes:
        """The content, encoded."""
        return self.content if isinstance(self.content, bytes) else msgspec.json.encode(self.content)


class Request:
    """One HTTP request.

    Attributes
    ----------
    identity
        Who calls; None where no credential was needed and none was given.
    arguments
        Values of the placeholders of the endpoint's path.
    query
        The query parameters; of a repeated one the last.
    receive
        The ASGI channel, for what is no ordinary answer.
    """

    def __init__(self, scope: Scope, receive: Receive, *, body_limit: int) -> None:
        self.scope = scope
        self.identity: Identity | None = None
        self.arguments: Mapping[str, str] = {}
        self.body_limit = body_limit
        self.receive = receive
        raw: bytes = scope["query_string"]
        self.query = _last(raw) if raw else {}

    @property
    def method(self) -> str:
        """The HTTP method."""
        method: str = self.scope["method"]
        return method

    def header(self, name: str) -> str:
        """Return a header, or the empty string."""
        wanted = name.encode()
        for key, value in self.scope["headers"]:
            if key == wanted:
                text: str = value.decode("latin-1")
                return text
        return ""

    async def body(self) -> bytes:
        """Read the body.

        Raises
        ------
        sluice_core.http.BodyTooLarge
            It is longer than the limit of the path.
        """
        return await read_body(self.scope, self.receive, self.body_limit)

    async def data(self) -> Any:
        """Read and parse the body; see `sluice_core.rest.body.parse`."""
        return parse(self.header("content-type"), await self.body())

    async def disconnected(self) -> None:
        """Wait until the client is gone."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    def url(self, path: str) -> str:
        """Return the absolute URL of a path of this deployment, prefix included."""
        return absolute_url(self.scope, path)


def _last(query: bytes) -> dict[str, str]:
    return {name: values[-1] for name, values in parse_qs(query.decode("latin-1"), keep_blank_values=True).items()}
