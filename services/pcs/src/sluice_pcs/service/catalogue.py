"""Production tasks of the public catalogue, each made once (contract 10.4)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import tzinfo
from typing import Any

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, Attempt
from sluice_core.rest.fields import printable
from sluice_core.rest.operations import Operations
from sluice_pcs.service.names import parse as parse_name
from sluice_pcs.service.tasks import Tasks

__all__ = ["Catalogue"]

Row = dict[str, Any]


class _Known(Exception):
    """Somebody else has made the task of the same entry meanwhile."""

    def __init__(self, row: Row) -> None:
        super().__init__()
        self.row = row


class Catalogue:
    """Tasks by the entries of the catalogue that they are for."""

    def __init__(self, database: Database, tasks: Tasks, zone: tzinfo) -> None:
        self._database = database
        self._store = tasks.store
        self._rules = tasks.resource.prepare
        self._operations = Operations(replace(tasks.resource, prepare=self._prepare), database, zone)

    async def take(
        self, given: Mapping[str, Any], body_of: Callable[[int, int], Row], caller: Identity
    ) -> tuple[Row, bool]:
        """Return the task of an entry of the public catalogue, and whether it is new.

        Parameters
        ----------
        given
            ``overrides``, whose fields of the catalogue say which entry it is; ``name``, ``dataset`` (a name or DID)
            and ``prod_config`` (a name), which a new one needs.
        body_of
            Returns the body of a new task for the ids of data set and configuration.

        Raises
        ------
        ApiError
            400: something is missing for a new one, or unknown.
        """
        keys = _key(given["overrides"])

        def look(connection: Connection) -> tuple[Row | None, int | None, int | None]:
            row = self._store.of_catalogue(connection, keys)
            found = parse_name(given.get("dataset") or "")
            return (
                row,
                self._store.dataset_called(connection, found.base, found.block or 1),
                self._store.config_called(connection, given.get("prod_config") or ""),
            )

        row, data, config = await self._database.run(self._database.read, look)
        if row is not None:
            return row, False
        if missing := [name for name in ("name", "dataset", "prod_config") if not given.get(name)]:
            raise ApiError(400, {"detail": f"No existing task for this entry; creation requires: {', '.join(missing)}"})
        if data is None:
            raise ApiError(400, {"detail": f"dataset not found: {printable(given['dataset'])}"})
        if config is None:
            raise ApiError(400, {"detail": f"prod_config not found: {printable(given['prod_config'])}"})
        body = body_of(data, config)
        try:
            return await self._database.run(self._operations.create, lambda: body, caller), True
        except _Known as exc:
            return exc.row, False

    def _prepare(self, connection: Connection, attempt: Attempt) -> None:
        if not attempt.errors:
            keys = _key(attempt.values["overrides"])
            self._store.claim_entry(connection, keys)
            if (row := self._store.of_catalogue(connection, keys)) is not None:
                raise _Known(row)
        if self._rules is not None:
            self._rules(connection, attempt)


def _key(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields by which an entry of the public catalogue is known.

    Raises
    ------
    ApiError
        400: there are none.
    """
    for names in (("public_catalog_issue",), ("public_catalog_csv_path", "public_catalog_row_key")):
        values = {name: overrides.get(name) for name in names}
        if all(isinstance(each, int | str) and each != "" and not isinstance(each, bool) for each in values.values()):
            return values
    detail = "public_catalog_issue, or public_catalog_csv_path and public_catalog_row_key, is required"
    raise ApiError(400, {"detail": detail})
