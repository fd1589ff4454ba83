"""What happened in a run, in order and in figures. Never commits; whoever opened the connection does."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, cast, func, literal, null, select, tuple_, union_all
from sqlalchemy import DateTime as SqlDateTime
from sqlalchemy import Text as SqlText

from sluice_runs.tables import fastmon_file, run, run_message, run_state_change, state_event, stf_file, tf_slice

__all__ = ["Accounts"]

Line = dict[str, Any]
NAMES = ("at", "kind", "what", "name", "by", "key")


class Accounts:
    """Questions about one run.

    Parameters
    ----------
    connection
        The caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def run(self, run_id: int) -> Line | None:
        """Return a run."""
        row = self._connection.execute(select(run).where(run.c.run_id == run_id)).first()
        return None if row is None else dict(row._mapping)

    def timeline(self, run_id: int, number: int, limit: int, after: Sequence[Any] | None) -> list[Line]:
        """Return what happened in a run in order of time.

        Parameters
        ----------
        after
            ``at``, ``kind`` and ``key`` of a line; only those behind it.
        """
        own = union_all(*_lines(run_id, number)).subquery()
        order = (own.c.at, own.c.kind, own.c.key)
        found = select(own).order_by(*order).limit(limit)
        if after is not None:
            at, kind, key = after
            place = (literal(at, SqlDateTime(timezone=True)), literal(kind, SqlText), literal(key, SqlText))
            found = found.where(tuple_(*order) > tuple_(*place))
        return [dict(row._mapping) for row in self._connection.execute(found)]

    def files(self, run_id: int) -> tuple[Line, Line]:
        """Return figures of the STF files and of the TF files of a run."""
        took = func.extract("epoch", stf_file.c.settled_at - stf_file.c.created_at)
        settled = stf_file.c.settled_at.is_not(None)
        stfs = select(
            *_sizes(stf_file),
            func.min(stf_file.c.created_at).label("first_at"),
            func.max(stf_file.c.created_at).label("last_at"),
            func.avg(took).label("mean"),
            *(
                func.percentile_cont(share).within_group(took).filter(settled).label(name)
                for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
            ),
        ).where(stf_file.c.run_id == run_id)
        tfs = select(*_sizes(fastmon_file)).select_from(fastmon_file.join(stf_file)).where(stf_file.c.run_id == run_id)
        return self._first(stfs), self._first(tfs)

    def statuses(self, run_id: int, number: int) -> dict[str, dict[str, int]]:
        """Count STF files, TF files and slices by status, and messages by type."""
        of_run = stf_file.c.run_id == run_id
        questions: dict[str, Select[Any]] = {
            "stf_files": select(stf_file.c.status, func.count()).where(of_run).group_by(stf_file.c.status),
            "tf_files": select(fastmon_file.c.status, func.count())
            .select_from(fastmon_file.join(stf_file))
            .where(of_run)
            .group_by(fastmon_file.c.status),
            "slices": select(tf_slice.c.status, func.count())
            .where(tf_slice.c.run_number == number)
            .group_by(tf_slice.c.status),
            "messages": select(run_message.c.message_type, func.count())
            .where(run_message.c.run_number == number)
            .group_by(run_message.c.message_type),
        }
        return {
            name: {key: count for key, count in self._connection.execute(each)}  # noqa: C416 - rows are no pairs to mypy
            for name, each in questions.items()
        }

    def _first(self, question: Select[Any]) -> Line:
        return dict(self._connection.execute(question).one()._mapping)


def _sizes(table: Table) -> tuple[ColumnElement[Any], ...]:
    return func.count().label("count"), func.coalesce(func.sum(table.c.file_size_bytes), 0).label("bytes")


def _lines(run_id: int, number: int) -> list[Select[Any]]:
    own = run.c.run_id == run_id
    of_run = stf_file.c.run_id == run_id
    message, change, event = run_message.c, run_state_change.c, state_event.c
    return [
        _line(run.c.start_time, "run", "started", null(), null(), run.c.run_id).where(own),
        _line(run.c.end_time, "run", "ended", null(), null(), run.c.run_id).where(own, run.c.end_time.is_not(None)),
        _line(
            change.at, "state", change.phase + "/" + change.state, change.message_type, change.source, change.change_id
        ).where(change.run_number == number),
        _line(event.timestamp, "event", event.event_type, event.state, null(), event.event_id).where(
            event.run_number == number
        ),
        _line(message.at, "message", message.message_type, null(), message.sender, message.message_id).where(
            message.run_number == number
        ),
        _line(stf_file.c.created_at, "stf", "registered", stf_file.c.stf_filename, null(), stf_file.c.file_id).where(
            of_run
        ),
        _line(
            stf_file.c.settled_at, "stf", stf_file.c.status, stf_file.c.stf_filename, null(), stf_file.c.file_id
        ).where(of_run, stf_file.c.settled_at.is_not(None)),
        _line(
            fastmon_file.c.created_at,
            "tf",
            "registered",
            fastmon_file.c.tf_filename,
            null(),
            fastmon_file.c.tf_file_id,
        )
        .select_from(fastmon_file.join(stf_file))
        .where(of_run),
    ]


def _line(at: Any, kind: str, what: Any, name: Any, by: Any, key: Any) -> Select[Any]:
    values: tuple[Any, ...] = (at, kind, what, name, by, key)
    texts = [literal(each) if isinstance(each, str) else each for each in values[1:]]
    columns = [at, *(cast(each, SqlText) for each in texts)]
    return select(*(column.label(label) for column, label in zip(columns, NAMES, strict=True)))
