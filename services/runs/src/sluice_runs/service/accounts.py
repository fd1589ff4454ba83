"""Timelines and reports of runs."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from sluice_core.database import Database
from sluice_runs.errors import RunStateUnknown, RunUnknown
from sluice_runs.store.accounts import Accounts
from sluice_runs.store.life import Life

__all__ = ["Reports"]

Line = dict[str, Any]


class Reports:
    """Answers questions about one run; its methods block."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def timeline(self, run_id: int, limit: int, after: Sequence[Any] | None = None) -> list[Line]:
        """Return what happened in a run in order of time; see `Accounts.timeline`.

        Raises
        ------
        RunUnknown
            There is none.
        """

        def work(connection: Connection) -> list[Line]:
            accounts = Accounts(connection)
            return accounts.timeline(run_id, _run(accounts, run_id)["run_number"], limit, after)

        return self._database.read(work)

    def report(self, run_id: int) -> dict[str, Any]:
        """Return the figures of a run.

        Returns
        -------
        dict
            Counts, bytes, rates per second between the first and the last file, and seconds from registration to the
            end of the work on an STF file.

        Raises
        ------
        RunUnknown
            There is none.
        """

        def work(connection: Connection) -> dict[str, Any]:
            accounts = Accounts(connection)
            run = _run(accounts, run_id)
            stfs, tfs = accounts.files(run_id)
            statuses = accounts.statuses(run_id, run["run_number"])
            span = (stfs["last_at"] - stfs["first_at"]).total_seconds() if stfs["count"] > 1 else 0.0
            return {
                "run_id": run_id,
                "run_number": run["run_number"],
                "start_time": run["start_time"],
                "end_time": run["end_time"],
                "seconds": (run["end_time"] - run["start_time"]).total_seconds() if run["end_time"] else None,
                "stf_files": {
                    "count": stfs["count"],
                    "bytes": int(stfs["bytes"]),
                    "by_status": statuses["stf_files"],
                    # A file more than intervals.
                    "files_per_second": (stfs["count"] - 1) / span if span else None,
                    "bytes_per_second": float(stfs["bytes"]) / span if span else None,
                    "seconds_to_processed": {
                        name: None if stfs[name] is None else float(stfs[name])
                        for name in ("mean", "p50", "p95", "max")
                    },
                },
                "tf_files": {"count": tfs["count"], "bytes": int(tfs["bytes"]), "by_status": statuses["tf_files"]},
                "slices": {"count": sum(statuses["slices"].values()), "by_status": statuses["slices"]},
                "messages": {"count": sum(statuses["messages"].values()), "by_type": statuses["messages"]},
                "failures": sum(statuses[each].get("failed", 0) for each in ("stf_files", "tf_files", "slices")),
            }

        return self._database.read(work)

    def history(self, number: int, limit: int, as_of: Any = None) -> list[Line]:
        """Return what decided where a run stands, in order of time, or what decided it at an instant.

        Raises
        ------
        RunStateUnknown
            Nothing ever did.
        """

        def work(connection: Connection) -> list[Line]:
            life = Life(connection)
            if life.latest(number) is None:
                raise RunStateUnknown(f"There is no state of run {number}.")
            if as_of is None:
                return life.history(number, limit)
            found = life.decisive(number, as_of)
            return [] if found is None else [found._asdict()]

        return self._database.read(work)


def _run(accounts: Accounts, run_id: int) -> Line:
    run = accounts.run(run_id)
    if run is None:
        raise RunUnknown(f"There is no run {run_id}.")
    return run
