"""What the log service says about all records together."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement

from sluice_core.database import Database
from sluice_logs.store import LogStore
from sluice_logs.tables import LEVELS

__all__ = ["RECENT", "Logs", "Window"]

RECENT = 5
"""Errors that the summary shows of each instance (contract 3.2)."""

SHOWN = ("timestamp", "levelname", "message", "module", "funcname", "lineno")
# Anybody may make up names of instances, and a message may have megabytes.
MOST_INSTANCES = 2000
MOST_CHARACTERS = 8 * 2**20
LONGEST = 10_000
SEVERE = {"ERROR", "CRITICAL"}

Summary = dict[str, dict[str, dict[str, Any]]]


class Window(NamedTuple):
    """Steps of time, from ``begin`` up to but not including the end of the last one."""

    begin: datetime
    step: timedelta
    steps: int


class Logs:
    """Log records as a whole; its methods block.

    Raises
    ------
    sluice_core.database.DatabaseAway
        By each of them: PostgreSQL cannot be reached.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def summary(self) -> Summary:
        """Count the records of every instance by level, and show its newest errors (contract 3.2).

        Of more than `MOST_INSTANCES` instances those that were heard last are there; long messages are cut so that all
        of them have about `MOST_CHARACTERS`.

        Returns
        -------
        dict
            App name -> instance name -> ``error_counts`` and ``recent_errors``; times in UTC whatever the server zone.
        """
        counts = self._read(lambda store: store.counts(MOST_INSTANCES))
        found: Summary = {}
        for app, instance, levelname, count in counts:
            shown = found.setdefault(app, {}).setdefault(instance, {"error_counts": {}, "recent_errors": []})
            shown["error_counts"][levelname] = int(count)
        failing = [
            (app, name)
            for app, instances in found.items()
            for name, shown in instances.items()
            if SEVERE & shown["error_counts"].keys()
        ]
        if failing:
            characters = min(LONGEST, MOST_CHARACTERS // (RECENT * len(failing)))
            for app, instance, at, *rest in self._read(lambda store: store.severe(failing, RECENT, characters)):
                error = dict(zip(SHOWN, (at.astimezone(UTC), *rest), strict=True))
                found[app][instance]["recent_errors"].append(error)
        return found

    def apps(self, most: int) -> list[dict[str, Any]]:
        """Return the names of the apps, with what `LogStore.apps` says of each."""
        names = ("app_name", "instances", "records", "last_arrival")
        return _objects(names, self._read(lambda store: store.apps(most)))

    def instances(self, app: str | None, most: int) -> list[dict[str, Any]]:
        """Return the names of the instances, with what `LogStore.instances` says of each."""
        names = ("app_name", "instance_name", "records", "last_arrival")
        return _objects(names, self._read(lambda store: store.instances(app, most)))

    def histogram(self, where: Sequence[ColumnElement[bool]], window: Window) -> list[dict[str, Any]]:
        """Count records by time and level.

        Returns
        -------
        list
            Of each step its ``start`` and the ``counts`` of those levels that occur in it.
        """
        end = window.begin + window.step * window.steps
        found = self._read(lambda store: store.histogram(where, window.begin, end, window.step))
        buckets: list[dict[str, Any]] = [
            {"start": window.begin + window.step * number, "counts": {}} for number in range(window.steps)
        ]
        for number, level, count in sorted(found):
            buckets[int(number)]["counts"][LEVELS[level]] = count
        return buckets

    def _read(self, question: Callable[[LogStore], Any]) -> Any:
        return self._database.read(lambda connection: question(LogStore(connection)))


def _objects(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[dict[str, Any]]:
    return [{**dict(zip(names, row, strict=True)), "records": int(row[2])} for row in rows]
