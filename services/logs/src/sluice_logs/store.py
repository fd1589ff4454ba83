"""The ``log_record`` table, beyond what the list and single records need."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, bindparam, func, select

from sluice_logs.tables import SEVERE, log_record

__all__ = ["LogStore"]

_c = log_record.c
INSTANCE = (_c.app_name, _c.instance_name)

COUNTS = select(*INSTANCE, _c.levelname, func.count()).group_by(*INSTANCE, _c.levelname)
COUNTS = COUNTS.order_by(*INSTANCE, _c.levelname)

_place = func.row_number().over(partition_by=INSTANCE, order_by=(_c.timestamp.desc(), _c.id.desc())).label("place")
_ranked = select(log_record, _place).where(SEVERE).subquery()
_r = _ranked.c
SEVERE_NEWEST = (
    select(_r.app_name, _r.instance_name, _r.timestamp, _r.levelname, _r.message, _r.module, _r.funcname, _r.lineno)
    .where(_r.place <= bindparam("most"))
    .order_by(_r.app_name, _r.instance_name, _r.place)
)


class LogStore:
    """Questions about all log records. Never commits.

    Parameters
    ----------
    connection
        The caller's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def counts(self) -> Sequence[Row[str, str, str, int]]:
        """Count records by ``app_name``, ``instance_name`` and ``levelname``; the number comes last."""
        return self._connection.execute(COUNTS).all()

    def severe(self, most: int) -> Sequence[Row[str, str, datetime, str, str, str, str, int]]:
        """Return the newest errors of each instance, newest first, ``most`` of each.

        Each row is ``app_name`` and ``instance_name``, then what the summary shows of the record.
        """
        return self._connection.execute(SEVERE_NEWEST, {"most": most}).all()
