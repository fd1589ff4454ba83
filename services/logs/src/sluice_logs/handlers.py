"""``POST /api/logs/`` and ``GET /api/logs/summary/`` (contract 3.2)."""

import asyncio
from collections.abc import Mapping

import msgspec

from sluice_core.auth import Scope
from sluice_core.database import Database
from sluice_core.http.rate import SourceRate
from sluice_core.rest import Endpoint, Reply, Request
from sluice_core.rest.errors import ApiError, Invalid
from sluice_logs import bodies
from sluice_logs.records import Reader, Record
from sluice_logs.resources import LOGS
from sluice_logs.service import RECENT, Logs
from sluice_logs.writer import LineFull, Stored, Writer

__all__ = ["Records", "endpoints"]

# What is read in the event loop; more would keep other requests waiting for a millisecond.
SMALL = 16 * 1024
REFUSED = {"non_field_errors": ["A value cannot be stored."]}


class Records:
    """The door for new records.

    Parameters
    ----------
    writer, reader
        Who stores and who reads them.
    is_open
        Whether anybody may send records (decision 3).
    rate
        How often one source may; None: as it likes.
    """

    def __init__(self, writer: Writer, reader: Reader, *, is_open: bool, rate: SourceRate | None = None) -> None:
        self._writer = writer
        self._reader = reader
        self._is_open = is_open
        self._rate = rate

    def endpoint(self) -> Endpoint:
        """Return what answers ``POST`` on the path of the list."""
        return Endpoint(
            LOGS.path,
            {"POST": self.post},
            # What is open to everybody is still not open to a page of somebody else (contract 5.3).
            auth="browser" if self._is_open else "session",
            scope=None if self._is_open else Scope.LOGS_WRITE,
            body_limit=bodies.BATCH_LIMIT,
            audited=False,
            openapi={"post": _document_post()},
        )

    async def post(self, request: Request) -> Reply:
        """Store one record, or a batch of them."""
        if self._rate is not None and (wait := self._rate.wait(request.scope)):
            detail = f"Request was throttled. Expected available in {wait} seconds."
            raise ApiError(429, {"detail": detail}, {"Retry-After": str(wait)})
        body = await request.body()
        encoding = request.header("content-encoding")
        if encoding:
            body = await asyncio.to_thread(bodies.unpack, encoding, body)
        content_type = request.header("content-type")
        media = content_type.partition(";")[0].strip().lower()
        if bodies.is_batch(media, body):
            return await self._batch(media, body, together=request.query.get("atomic", "").lower() == "true")
        if len(body) > bodies.RECORD_LIMIT:
            raise bodies.too_large(bodies.RECORD_LIMIT)
        if len(body) > SMALL:
            record = await asyncio.to_thread(self._reader.read, body, content_type)
        else:
            record = self._reader.read(body, content_type)
        stored = await self._write([record])
        if stored.refused:
            raise Invalid(REFUSED)
        return Reply(201, record.answer(stored.first))

    async def _batch(self, media: str, body: bytes, *, together: bool) -> Reply:
        batch = await asyncio.to_thread(bodies.read_batch, self._reader, media, body)
        accepted = 0
        if batch.records and not (together and batch.rejected):
            stored = await self._write([record for _, record in batch.records], together=together)
            for at in stored.refused:
                batch.rejected[batch.records[at][0]] = REFUSED
            accepted = 0 if together and stored.refused else len(batch.records) - len(stored.refused)
        rejected = [{"index": at, "errors": errors} for at, errors in sorted(batch.rejected.items())]
        return Reply(201 if accepted else 400, {"accepted": accepted, "rejected": rejected})

    async def _write(self, records: list[Record], *, together: bool = False) -> Stored:
        try:
            return await self._writer.write(records, together=together)
        except LineFull as exc:
            detail = f"The record is not stored: {exc}. Try again."
            raise ApiError(503, {"detail": detail}, {"Retry-After": "1"}) from None


def endpoints(database: Database, logs: Logs, records: Records) -> tuple[Endpoint, ...]:
    """Return what the log service answers beyond its resource."""

    async def summary(_: Request) -> Reply:
        # Encoded in the same thread: there may be many instances, and their errors may be long.
        return Reply(200, await database.run(lambda: msgspec.json.encode(logs.summary())))

    return (
        records.endpoint(),
        Endpoint("/api/logs/summary/", {"GET": summary}, auth="read", openapi={"get": _document()}),
    )


def _document_post() -> dict[str, object]:
    one, row = ({"$ref": f"#/components/schemas/{name}"} for name in (f"{LOGS.model}Write", LOGS.model))
    errors = {"$ref": "#/components/schemas/FieldErrors"}
    batch = {
        "type": "object",
        "description": "What became of many records.",
        "properties": {
            "accepted": {"type": "integer"},
            "rejected": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "index": {"type": "integer", "description": "Place in the body, from 0."},
                        "errors": errors,
                    },
                },
            },
        },
    }
    content = {
        "application/json": {"schema": {"anyOf": [one, {"type": "array", "items": one, "maxItems": bodies.MOST}]}},
        bodies.NDJSON: {"schema": {"type": "string", "description": "One record a line."}},
        "application/x-www-form-urlencoded": {"schema": one},
        "multipart/form-data": {"schema": one},
    }

    def answer(description: str, *schemas: Mapping[str, object]) -> dict[str, object]:
        schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
        return {"description": description, "content": {"application/json": {"schema": schema}}}

    detail = {"$ref": "#/components/schemas/Detail"}
    return {
        "tags": ["logs"],
        "operationId": "logs_create",
        "summary": "Store one record, or many: an array, or a line each",
        "description": "4 MB a record, 16 MB a batch, unpacked; the body may be packed with gzip or zstd.",
        "parameters": [
            {
                "name": "atomic",
                "in": "query",
                "schema": {"type": "boolean"},
                "description": "Store all records of a batch or none.",
            },
            {"name": "Content-Encoding", "in": "header", "schema": {"enum": ["identity", "gzip", "zstd"]}},
        ],
        "requestBody": {"required": True, "content": content},
        "responses": {
            "201": answer("The new record, or how many of a batch are stored", row, batch),
            "400": answer("Bad values, or a batch of which nothing is stored", errors, batch),
            "403": answer("A session of another page, or no right to send where that is asked for", detail),
            "413": answer("The body is too long, or the batch too large", detail),
            "415": answer("Not a media type or encoding for bodies", detail),
            "429": answer("The source sends more often than the site allows; `Retry-After` says when to go on", detail),
            "503": answer("Nothing takes it now; `Retry-After` says when to try again", detail),
        },
    }


def _document() -> dict[str, object]:
    texts = ("levelname", "message", "module", "funcname")
    error = {
        "type": "object",
        "properties": {
            "timestamp": {"type": "string", "format": "date-time", "description": "In UTC, with `Z`."},
            **{name: {"type": "string"} for name in texts},
            "lineno": {"type": "integer"},
        },
    }
    instance = {
        "type": "object",
        "properties": {
            "error_counts": {
                "type": "object",
                "additionalProperties": {"type": "integer"},
                "description": "Records of each `levelname`, all of them and not only errors.",
            },
            "recent_errors": {"type": "array", "maxItems": RECENT, "items": error},
        },
    }
    apps = {
        "type": "object",
        "description": "By app name, and in it by instance name.",
        "additionalProperties": {"type": "object", "additionalProperties": instance},
    }
    return {
        "tags": ["logs"],
        "operationId": "logs_summary",
        "summary": "Counts by level and newest errors of every instance",
        "responses": {
            "200": {"description": "The summary", "content": {"application/json": {"schema": apps}}},
            "403": {"description": "A bad credential, or none where reads are closed"},
            "503": {"description": "The database cannot be reached"},
        },
    }
