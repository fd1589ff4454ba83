"""``POST /v1/logs``: OTLP/HTTP, as any exporter of OpenTelemetry speaks it."""

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response

from sluice_core.auth import Scope
from sluice_core.auth.fastapi import REFUSALS, Browser, require
from sluice_core.http.rate import SourceRate
from sluice_core.rest import Invalid
from sluice_core.rest.errors import ApiError
from sluice_logs import bodies, otlp
from sluice_logs.records import Reader, Record
from sluice_logs.writer import LineFull, Writer

__all__ = ["router"]

INVALID_ARGUMENT, UNAVAILABLE = 3, 14
BINARY = {"schema": {"type": "string", "format": "binary"}}
BODY = {
    "requestBody": {"required": True, "content": {otlp.PROTOBUF: BINARY, otlp.JSON: {"schema": {"type": "object"}}}}
}
ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Stored, but for what `partial_success` counts",
        "content": {otlp.PROTOBUF: BINARY, otlp.JSON: {}},
    },
    400: {"description": "A body that cannot be read", "content": {otlp.PROTOBUF: BINARY, otlp.JSON: {}}},
    413: {"description": "The body is too long, or holds too many records"},
    415: {"description": "Neither protobuf nor JSON, or an unknown encoding"},
    429: {"description": "The source sends more often than the site allows; `Retry-After` says when to go on"},
    503: {"description": "Nothing takes it now; `Retry-After` says when to try again"},
}


def router(writer: Writer, reader: Reader, *, is_open: bool, rate: SourceRate | None = None) -> APIRouter:
    """Return the route.

    Parameters
    ----------
    is_open
        Whether anybody may send records (decision 3).
    rate
        How often one source may; None: as it likes.
    """
    rights = [] if is_open else [require(Scope.LOGS_WRITE)]
    refusals = ANSWERS if is_open else {**ANSWERS, **REFUSALS}
    made = APIRouter(tags=["logs"], dependencies=rights)

    @made.post("/v1/logs", summary="Log records by OTLP/HTTP", responses=refusals, openapi_extra=BODY)
    async def export(request: Request, _: Browser) -> Response:
        if rate is not None and (wait := rate.wait(request.scope)):
            return Response(status_code=429, headers={"Retry-After": str(wait)})
        media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if media not in (otlp.PROTOBUF, otlp.JSON):
            return Response(status_code=415)
        try:
            return await _store(media, await request.body(), request.headers.get("content-encoding", ""))
        except otlp.Malformed as exc:
            return _refuse(media, 400, INVALID_ARGUMENT, str(exc))
        except ApiError as exc:
            return _refuse(media, exc.status, INVALID_ARGUMENT, exc.content["detail"])
        except LineFull as exc:
            return _refuse(media, 503, UNAVAILABLE, str(exc))

    async def _store(media: str, body: bytes, encoding: str) -> Response:
        found, errors = await asyncio.to_thread(_read, reader, media, body, encoding)
        if found:
            stored = await writer.write([record for _, record in found])
            for at in stored.refused:
                errors[found[at][0]] = {"record": ["A value cannot be stored."]}
        return Response(otlp.encode(media, otlp.outcome(errors)), media_type=media)

    return made


def _read(
    reader: Reader, media: str, body: bytes, encoding: str
) -> tuple[list[tuple[int, Record]], dict[int, dict[str, list[str]]]]:
    found: list[tuple[int, Record]] = []
    errors: dict[int, dict[str, list[str]]] = {}
    for at, data in enumerate(otlp.records(otlp.decode(media, bodies.unpack(encoding, body)))):
        if at == bodies.MOST:
            raise ApiError(413, {"detail": f"A request has no more than {bodies.MOST} records."})
        try:
            found.append((at, reader.take(data)))
        except Invalid as exc:
            errors[at] = exc.errors
    return found, errors


def _refuse(media: str, status: int, code: int, message: str) -> Response:
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(otlp.encode(media, otlp.refusal(code, message)), status, headers, media)
