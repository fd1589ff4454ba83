"""What the log service does."""

from datetime import UTC
from typing import Any

from sluice_core.database import Database
from sluice_logs.store import LogStore

__all__ = ["RECENT", "Logs"]

RECENT = 5
"""Errors that the summary shows of each instance (contract 3.2)."""

SHOWN = ("timestamp", "levelname", "message", "module", "funcname", "lineno")

Summary = dict[str, dict[str, dict[str, Any]]]


class Logs:
    """Log records as a whole; its methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def summary(self) -> Summary:
        """Count the records of every instance by level, and show its newest errors (contract 3.2).

        Returns
        -------
        dict
            App name -> instance name -> ``error_counts`` and ``recent_errors``; times in UTC whatever the server zone.

        Raises
        ------
        sluice_core.database.DatabaseAway
            PostgreSQL cannot be reached.
        """
        # The errors first: what is shown is then counted too, although records come in meanwhile.
        severe, counts = self._database.read(lambda c: (LogStore(c).severe(RECENT), LogStore(c).counts()))
        found: Summary = {}

        def instance_of(app: str, instance: str) -> dict[str, Any]:
            return found.setdefault(app, {}).setdefault(instance, {"error_counts": {}, "recent_errors": []})

        for app, instance, levelname, count in counts:
            instance_of(app, instance)["error_counts"][levelname] = count
        for app, instance, at, *rest in severe:
            error = dict(zip(SHOWN, (at.astimezone(UTC), *rest), strict=True))
            instance_of(app, instance)["recent_errors"].append(error)
        return found
