"""``POST`` on the lists of runs, files and slices: one row, perhaps again, or many (decision 16)."""

from functools import partial
from typing import Any

from sluice_core.audit import note
from sluice_core.database import Database
from sluice_core.rest import Endpoint, Reply, Request
from sluice_core.rest.body import MEDIA_TYPES, parse
from sluice_core.rest.errors import ApiError
from sluice_core.rest.resource import BODY_LIMIT
from sluice_runs.service.creation import MOST, Creation

__all__ = ["Rows"]

# Bytes of many rows.
BATCH_LIMIT = 16 * 2**20
LONGEST_KEY = 255
JSON = MEDIA_TYPES[0]


class Rows:
    """The door for new rows of one resource.

    Parameters
    ----------
    creation
        Makes them.
    batches
        Whether many may come at once.
    """

    def __init__(self, creation: Creation, database: Database, *, batches: bool) -> None:
        self._creation = creation
        self._database = database
        self._batches = batches

    def endpoint(self) -> Endpoint:
        """Return what answers ``POST`` on the path of the list."""
        resource = self._creation.resource
        return Endpoint(
            resource.path,
            {"POST": self.post},
            auth="session",
            scope=resource.write,
            body_limit=BATCH_LIMIT if self._batches else BODY_LIMIT,
            openapi={"post": self._document()},
        )

    async def post(self, request: Request) -> Reply:
        """Store one row, or a batch of them."""
        assert request.identity is not None
        body = await request.body()
        content_type = request.header("content-type")
        key = _key(request)
        read = partial(parse, content_type, body)
        media = content_type.partition(";")[0].strip().lower()
        if self._batches and media == JSON and body.lstrip()[:1] == b"[":
            together = request.query.get("atomic", "").lower() == "true"
            batch = await self._database.run(partial(self._creation.many, read, together=together))
            return Reply(201 if batch.accepted else 400, batch._asdict())
        if len(body) > BODY_LIMIT:
            raise ApiError(413, {"detail": f"Request body exceeds {BODY_LIMIT} bytes."}, {"Connection": "close"})
        row, new = await self._database.run(self._creation.one, read, request.identity, key)
        note().key = str(row[self._creation.resource.key])
        return Reply(201 if new else 200, row)

    def _document(self) -> dict[str, Any]:
        resource = self._creation.resource
        one, row, errors, detail = (
            {"$ref": f"#/components/schemas/{name}"}
            for name in (f"{resource.model}Write", resource.model, "FieldErrors", "Detail")
        )
        rejected: dict[str, Any] = {"type": "object", "properties": {"index": {"type": "integer"}, "errors": errors}}
        batch = {
            "type": "object",
            "description": "What became of many rows.",
            "properties": {"accepted": {"type": "integer"}, "rejected": {"type": "array", "items": rejected}},
        }
        many = {"type": "array", "items": one, "maxItems": MOST}
        bodies: dict[str, Any] = {media: {"schema": one} for media in MEDIA_TYPES}
        key = {
            "name": "Idempotency-Key",
            "in": "header",
            "schema": {"type": "string", "maxLength": LONGEST_KEY},
            "description": "Names this request: sent again, it is answered with the row that it has made.",
        }
        atomic = {
            "name": "atomic",
            "in": "query",
            "schema": {"type": "boolean"},
            "description": "Store all rows of a batch or none.",
        }

        def answer(description: str, *schemas: Any) -> dict[str, Any]:
            schema = schemas[0] if len(schemas) == 1 else {"anyOf": list(schemas)}
            return {"description": description, "content": {"application/json": {"schema": schema}}}

        if self._batches:
            bodies[JSON] = {"schema": {"anyOf": [one, many]}}
        return {
            "tags": [resource.name],
            "operationId": f"{resource.name.replace('-', '_')}_create",
            "summary": f"Create one {resource.label}" + (", or many" if self._batches else ""),
            "parameters": [key, *([atomic] if self._batches else [])],
            "requestBody": {"required": True, "content": bodies},
            "responses": {
                "200": answer("The row that is there already and equals the one that was sent", row),
                "201": answer("The new row", row, *([batch] if self._batches else [])),
                "400": answer("Bad values", errors, *([batch] if self._batches else [])),
                "403": answer("No credential, a bad one, or not the scope", detail),
                "413": answer("The body is too long, or the batch too large", detail),
                "415": answer("Not a media type for bodies", detail),
                "503": answer("The database cannot be reached", detail),
            },
        }


def _key(request: Request) -> str:
    key = request.header("idempotency-key").strip()
    if len(key) > LONGEST_KEY:
        raise ApiError(400, {"detail": f"An Idempotency-Key has no more than {LONGEST_KEY} characters."})
    return key
