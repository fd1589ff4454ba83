"""What decided where runs stand, and messages about them. Never commits; whoever opened the connection does."""

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, and_, bindparam, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from sluice_runs.messages import Said
from sluice_runs.tables import run, run_message, run_state, run_state_change, tf_slice

__all__ = ["BY_CLIENT", "Change", "Life", "Slice"]

BY_CLIENT = 9
"""Rank of what clients write: of one instant, the last word."""

_c = run_state_change.c
_ORDER = (_c.at, _c.rank, _c.change_id)


_COUNTERS = [each.name for each in run_state.columns if re.match("slices_|stf_samples_|.*_worker_count", each.name)]


class Change(NamedTuple):
    """One line of a run's history."""

    change_id: UUID
    run_number: int
    at: datetime
    rank: int
    source: str
    message_type: str | None
    phase: str
    state: str
    substate: str | None
    sender: str | None
    execution_id: str | None
    namespace: str | None

    @property
    def ended(self) -> bool:
        """Whether it leaves the run at its end."""
        return self.state == "ended" or self.phase == "completed"


class Slice(NamedTuple):
    """A slice that a message is about, locked."""

    id: int
    status: str
    metadata: Any
    assigned_worker: str | None
    result_status: str | None
    result_at: datetime | None


class Life:
    """Statements about the life of runs.

    Parameters
    ----------
    connection
        The caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def new(self, messages: Sequence[Said]) -> set[UUID]:
        """Note messages; return the ids of those that were not noted before."""
        names = [column.name for column in run_message.columns if column.name != "received_at"]
        rows = [{name: getattr(each, name) for name in names} for each in messages]
        if not rows:
            return set()
        statement = insert(run_message).values(rows).on_conflict_do_nothing().returning(run_message.c.message_id)
        return set(self._connection.execute(statement).scalars())

    def forget(self, messages: Collection[UUID]) -> None:
        """Take messages back that could not be followed, so that they can be sent again."""
        if messages:
            self._connection.execute(delete(run_message).where(run_message.c.message_id.in_(messages)))

    def forget_before(self, moment: datetime) -> None:
        """Forget messages that came earlier."""
        self._connection.execute(delete(run_message).where(run_message.c.received_at < moment))

    def begin(self, said: Said) -> bool:
        """Make the row of a run, if there is none; return whether there was none."""
        assert said.step is not None
        values: dict[str, Any] = {
            **dict.fromkeys(_COUNTERS, 0),
            "run_number": said.run_number,
            "phase": said.step.phase,
            "state": said.step.state,
            "substate": said.step.substate,
            "state_changed_at": said.at,
            "execution_id": said.execution_id,
            "registered": False,
        }
        statement = insert(run_state).values(values).on_conflict_do_nothing().returning(run_state.c.run_number)
        return self._connection.execute(statement).first() is not None

    def belongs(self, run_number: int, execution_id: str) -> None:
        """Note which execution a run belongs to, unless that is known."""
        unknown = and_(run_state.c.run_number == run_number, run_state.c.execution_id.is_(None))
        self._connection.execute(update(run_state).where(unknown).values(execution_id=execution_id))

    def drop_unregistered(self, run_number: int) -> bool:
        """Remove the row of a run that only messages know of; return whether there was one."""
        mine = and_(run_state.c.run_number == run_number, run_state.c.registered.is_(False))
        return self._connection.execute(delete(run_state).where(mine)).rowcount > 0

    def add(self, changes: Sequence[Change]) -> None:
        """Add to the history."""
        if changes:
            rows = [each._asdict() for each in changes]
            self._connection.execute(insert(run_state_change).values(rows).on_conflict_do_nothing())

    def latest(self, run_number: int) -> datetime | None:
        """Return the time of the last change of a run."""
        found = select(func.max(_c.at)).where(_c.run_number == run_number)
        return self._connection.execute(found).scalar()

    def decisive(self, run_number: int, until: datetime | None = None) -> Change | None:
        """Return what decides where a run stands: a function of its history, in whatever order that came.

        The last word of a client or an execution, or the messages after it in the order of their own times, of which
        an end is the last one that counts.

        Parameters
        ----------
        until
            As of this instant.
        """
        mine: list[ColumnElement[bool]] = [_c.run_number == run_number]
        if until is not None:
            mine.append(_c.at <= until)
        told = self._one(*mine, _c.rank == BY_CLIENT)
        if told is not None:
            if told.ended:
                return told
            place = zip(_ORDER, (told.at, told.rank, told.change_id), strict=True)
            mine.append(tuple_(*_ORDER) > tuple_(*(bindparam(None, value, type_=each.type) for each, value in place)))
        end = self._one(*mine, _c.message_type == "end_run")
        return end or self._one(*mine) or told

    def history(self, run_number: int, limit: int) -> list[dict[str, Any]]:
        """Return the first changes of a run in the order of their times."""
        found = select(run_state_change).where(_c.run_number == run_number).order_by(*_ORDER).limit(limit)
        return [dict(row._mapping) for row in self._connection.execute(found)]

    def delete_history(self, run_number: int) -> None:
        """Forget what decided where a run stood."""
        self._connection.execute(delete(run_state_change).where(_c.run_number == run_number))

    def of_execution(self, execution_id: str) -> list[int]:
        """Return the runs of an execution."""
        found = select(run_state.c.run_number).where(run_state.c.execution_id == execution_id)
        return list(self._connection.execute(found.order_by(run_state.c.run_number)).scalars())

    def open_runs(self, numbers: Collection[int]) -> list[int]:
        """Return the keys of those runs that have no end."""
        found = select(run.c.run_id).where(run.c.run_number.in_(numbers), run.c.end_time.is_(None))
        return list(self._connection.execute(found.order_by(run.c.run_id)).scalars())

    def slice(self, run_number: int, name: str, slice_id: int) -> Slice | None:
        """Find the slice that a message names by its own file, or by the TF file that it is a slice of; lock it."""
        own = tf_slice.c.tf_filename == name
        found = (
            select(*(tf_slice.c[each] for each in Slice._fields))
            .where(tf_slice.c.run_number == run_number, tf_slice.c.slice_id == slice_id)
            .where(or_(own, tf_slice.c.fastmon_file == name))
            .order_by(own.desc(), tf_slice.c.id)
            .limit(1)
            .with_for_update()
        )
        row = self._connection.execute(found).first()
        return None if row is None else Slice(*row)

    def count(self, run_number: int, counters: Mapping[str, int]) -> bool:
        """Add to counters of a run, which never fall below zero; return whether there is such a row."""
        values = {name: func.greatest(run_state.c[name] + by, 0) for name, by in counters.items()}
        statement = update(run_state).where(run_state.c.run_number == run_number)
        return self._connection.execute(statement.values(**values, updated_at=func.now())).rowcount > 0

    def _one(self, *where: ColumnElement[bool]) -> Change | None:
        order = [column.desc() for column in _ORDER]
        found = select(*(_c[name] for name in Change._fields)).where(*where).order_by(*order).limit(1)
        row = self._connection.execute(found).first()
        return None if row is None else Change(*row)
