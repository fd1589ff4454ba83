"""``GET /api/logs/export/<form>/``: what a list has, as NDJSON or CSV, sent page by page."""

import asyncio
import csv
import io
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import msgspec

from sluice_core.database import Database
from sluice_core.errors import Problem
from sluice_core.rest import Endpoint, Reply, Request
from sluice_core.rest.listing import AT_ONCE, PAGE, PAGE_BYTES, Listing
from sluice_core.rest.resource import Row
from sluice_core.rest.store import Page, ResourceStore
from sluice_logs.answers import FILTERS, answer, operation, refusing
from sluice_logs.bodies import NDJSON
from sluice_logs.resources import LOGS

__all__ = ["Export"]

PATH = "/api/logs/export/{form}/"
CSV = "text/csv; charset=utf-8"
NAMES = [field.name for field in LOGS.fields]
FORM = {"name": "form", "in": "path", "required": True, "schema": {"enum": ["ndjson", "csv"]}}

Encode = Callable[[Sequence[Row]], bytes]


class FormUnknown(Problem):
    """Records are not exported in such a form."""

    status, code, title = 404, "form_unknown", "Records are exported as ndjson or csv"


class Export:
    """Records as a file, newest first; as many pages one after the other as there are.

    Parameters
    ----------
    listing
        Reads the filters.
    """

    def __init__(self, database: Database, store: ResourceStore, listing: Listing) -> None:
        self._database = database
        self._store = store
        self._listing = listing
        # As for complete lists: who writes must not stand in line behind all who export.
        self._turns = asyncio.Semaphore(AT_ONCE)

    def endpoint(self) -> Endpoint:
        """Return what answers the path."""
        contents = {NDJSON: {"type": "string"}, "text/csv": {"type": "string"}}
        document = operation("export", "Records as a file", [FORM, *FILTERS], answer("The records", contents))
        document["responses"]["404"] = {"description": "No such form"}
        return Endpoint(PATH, {"GET": refusing(self.get)}, auth="read", openapi={"get": document})

    async def get(self, request: Request) -> Reply:
        """Answer with the records that the filters leave."""
        form = request.arguments["form"]
        if form not in ("ndjson", "csv"):
            raise FormUnknown(f"There is no form {form!r}.")
        where = self._listing.where(request.query)
        headers = {"Content-Disposition": f'attachment; filename="logs.{form}"'}
        begin, encode, media = (b"", _ndjson, NDJSON) if form == "ndjson" else (_csv_head(), _csv, CSV)
        # The first page before the head, so that what hinders it can still be said.
        text, page = await self._read(encode, where, None)
        if page.more:
            where.append(await self._database.run(self._database.read, self._store.up_to_newest))
        return Reply(200, self._chain(begin + text, page, encode, where), headers, media)

    async def _chain(self, text: bytes, page: Page, encode: Encode, where: list[Any]) -> AsyncIterator[bytes]:
        yield text
        while page.more:
            after = [page.rows[-1][field.name] for field, _ in LOGS.sorting]
            text, page = await self._read(encode, where, after)
            yield text

    async def _read(self, encode: Encode, where: list[Any], after: list[Any] | None) -> tuple[bytes, Page]:
        def work() -> tuple[bytes, Page]:
            page = self._database.read(lambda c: self._store.page(c, where, PAGE, PAGE_BYTES, after=after))
            # Of the rows only the last is needed further on.
            return encode(page.rows), page._replace(rows=page.rows[-1:])

        async with self._turns:
            return await self._database.run(work)


def _ndjson(rows: Sequence[Row]) -> bytes:
    return msgspec.json.Encoder().encode_lines(rows)


def _csv_head() -> bytes:
    return _csv([dict(zip(NAMES, NAMES, strict=True))])


def _csv(rows: Sequence[Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows([_cell(row[name]) for name in NAMES] for row in rows)
    return text.getvalue().encode()


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, str | int):
        return value
    return msgspec.json.encode(value).decode().strip('"')
