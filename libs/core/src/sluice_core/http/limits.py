"""Bodies are bounded before they are kept in memory (DECISIONS 3)."""

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["BODY_LIMIT", "BodyLimit", "BodyTooLarge", "read_body"]

BODY_LIMIT = 4 * 1024 * 1024
"""Bytes of a request body where nothing else is said."""


class BodyTooLarge(Exception):
    """The body is longer than the limit; answered 413.

    Attributes
    ----------
    limit
        Bytes allowed.
    """

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body is longer than {limit} bytes.")
        self.limit = limit


def _refuse_declared(scope: Scope, limit: int) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit() and int(value[:20]) > limit:
            raise BodyTooLarge(limit)


async def read_body(scope: Scope, receive: Receive, limit: int = BODY_LIMIT) -> bytes:
    """Read a request's body.

    Parameters
    ----------
    limit
        Bytes. A longer body is refused by its ``Content-Length``, or as soon as that much has come.

    Raises
    ------
    BodyTooLarge
        It is longer.
    ClientDisconnect
        The client went away.
    """
    _refuse_declared(scope, limit)
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit)
        if not message.get("more_body", False):
            return b"".join([*parts, part]) if parts else part
        parts.append(part)


class BodyLimit:
    """Keep long bodies from an application that reads them by itself (FastAPI).

    The refusal is raised where the application reads, so it is answered by the application's exception handlers.
    """

    def __init__(self, app: ASGIApp, limit: int = BODY_LIMIT) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        size = 0

        async def limited() -> Message:
            nonlocal size
            try:
                if size == 0:
                    _refuse_declared(scope, self.limit)
                message = await receive()
                size += len(message.get("body", b""))
                if size > self.limit:
                    raise BodyTooLarge(self.limit)
            except BodyTooLarge as exc:
                # FastAPI makes a 400 of everything else that is raised while it reads.
                raise HTTPException(413, str(exc)) from None
            return message

        await self.app(scope, limited, send)
