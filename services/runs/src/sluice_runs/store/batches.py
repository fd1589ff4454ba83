"""Many new rows at once. Never commits; whoever opened the connection does."""

from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import BindParameter, Column, Connection, String, Table, TextClause, bindparam, select, text, tuple_
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB

from sluice_core.database.copying import NULL, copy, escaped
from sluice_runs.tables import run, stf_file

__all__ = ["Target", "insert_missing", "matching", "runs", "stfs"]


class Target(NamedTuple):
    """What a file refers to: the key of that row, and its run."""

    key: Any
    run_id: int


def insert_missing(
    connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], answer: Sequence[str]
) -> list[tuple[Any, ...]]:
    """Insert rows but for those whose unique values are taken.

    Parameters
    ----------
    rows
        Columns of each; all have the same ones.
    answer
        Columns to return of each row that was inserted.
    """
    if not rows:
        return []
    columns = tuple(rows[0])
    make, fill, take = _statements(table, columns, tuple(answer))
    write = [_writer(table.c[name]) for name in columns]
    lines = ["\t".join([to(value) for to, value in zip(write, row.values(), strict=True)]) for row in rows]
    # COPY knows no conflicts, hence the table between; it still takes half as long as one statement with all rows.
    connection.execute(make)
    copy(connection, fill, ("\n".join(lines) + "\n").encode())
    return [tuple(row) for row in connection.execute(take)]


@lru_cache(16)
def _statements(table: Table, columns: tuple[str, ...], answer: tuple[str, ...]) -> tuple[TextClause, str, TextClause]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]
    typed = ", ".join(f'"{name}" {table.c[name].type.compile(dialect)}' for name in columns)
    names = ", ".join(f'"{name}"' for name in columns)
    between = f"incoming_{table.name}"
    return (
        # It lives as long as the connection, since catalogues would grow with each one; all batches have its columns.
        text(f"CREATE TEMPORARY TABLE IF NOT EXISTS {between} ({typed}) ON COMMIT DELETE ROWS"),
        f"COPY {between} ({names}) FROM STDIN",
        text(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM {between} "  # noqa: S608
            f"ON CONFLICT DO NOTHING RETURNING {', '.join(answer)}"
        ),
    )


def _writer(column: Column[Any]) -> Callable[[Any], str]:
    """Return what writes a value of a column in COPY's text form."""
    if isinstance(column.type, JSONB):
        return lambda value: NULL if value is None else escaped(msgspec.json.encode(value).decode())
    if isinstance(column.type, String):
        return lambda value: NULL if value is None else escaped(value)
    return lambda value: NULL if value is None else str(value)


def matching(columns: Sequence[Column[Any]], keys: Collection[tuple[Any, ...]]) -> Any:
    """Return the condition for rows with any of these values."""
    if len(columns) == 1:
        return columns[0].in_([key for (key,) in keys])
    return tuple_(*columns).in_(list(keys))


# Nobody deletes what new rows refer to before they are stored.
_KEYS: BindParameter[Any] = bindparam("keys", expanding=True)
_RUNS = select(run.c.run_id).where(run.c.run_id.in_(_KEYS)).with_for_update(read=True, key_share=True)
_STFS = (
    select(stf_file.c.stf_filename, stf_file.c.file_id, stf_file.c.run_id)
    .where(stf_file.c.stf_filename.in_(_KEYS))
    .with_for_update(read=True, key_share=True)
)


def runs(connection: Connection, keys: Collection[int]) -> dict[int, Target]:
    """Return those of these runs that exist, by key."""
    return {key: Target(key, key) for key in connection.execute(_RUNS, {"keys": list(keys)}).scalars()}


def stfs(connection: Connection, names: Collection[str]) -> dict[str, Target]:
    """Return those of these STF files that exist, by name."""
    return {name: Target(*rest) for name, *rest in connection.execute(_STFS, {"keys": list(names)})}
