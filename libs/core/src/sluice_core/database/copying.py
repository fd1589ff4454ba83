"""COPY, the fastest way into a table, and its text form: how a value is written in it, and read back."""

import re
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import psycopg2
import psycopg2.extensions
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

__all__ = ["NULL", "copy", "escaped", "joined", "unescaped"]

NULL = r"\N"

_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


def escaped(text: str) -> str:
    """Write a text so that COPY reads the same."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def joined(texts: Sequence[str]) -> str:
    """Return the columns of a line, each `escaped`."""
    line = "\t".join(texts)
    # Hardly any record has something to escape, and one look at all columns costs less than one at each.
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") != len(texts) - 1:
        return "\t".join(map(escaped, texts))
    return line


def unescaped(text: str) -> str:
    """Read what `escaped` has written."""
    return _ESCAPE.sub(lambda found: _UNESCAPED[found[1]], text) if "\\" in text else text


def copy(connection: Connection, statement: str, lines: bytes, then: tuple[str, Sequence[Any]] | None = None) -> None:
    """Run a ``COPY ... FROM STDIN``, in the transaction of the connection.

    In a connection without a transaction it is one, in a single round trip.

    Parameters
    ----------
    lines
        In COPY's text form.
    then
        A statement and its parameters, which PostgreSQL takes in the same message and goes on with when the lines have
        ended.

    Raises
    ------
    sqlalchemy.exc.DBAPIError
        As PostgreSQL refuses them; with code 22, 23 or 54 for what is in a line.
    """
    driver = connection.connection.driver_connection
    assert isinstance(driver, psycopg2.extensions.connection)
    if not driver.autocommit and not connection.in_transaction():
        # The driver's own cursor tells SQLAlchemy nothing, which would then commit nothing.
        connection.begin()
    try:
        with driver.cursor() as cursor:
            if then is not None:
                statement = f"{statement}; {cursor.mogrify(*then).decode(driver.encoding)}"
            cursor.copy_expert(statement, BytesIO(lines))
    except psycopg2.Error as exc:
        gone = bool(driver.closed)
        if gone:
            connection.invalidate(exc)
            # The others in the pool are as old as this one.
            connection.engine.dispose(close=False)
        raise DBAPIError.instance(
            statement, None, exc, psycopg2.Error, connection_invalidated=gone, dialect=connection.dialect
        ) from exc
