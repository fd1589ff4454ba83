"""Many rows as one parameter."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Column, TableValuedAlias, bindparam, column, func
from sqlalchemy.dialects.postgresql import JSONB

__all__ = ["recordset"]


def recordset(columns: Iterable[Column[Any]]) -> TableValuedAlias:
    """Return a table made of one JSON parameter, so that any number of rows is one statement that is built once.

    SQLAlchemy makes one statement of many rows only where no conflict is named.

    Parameters
    ----------
    columns
        Names and types of the rows, which come as mappings in the parameter ``rows``. JSON must be able to hold them:
        no bytes.
    """
    typed = [column(each.name, each.type) for each in columns]
    made = func.jsonb_to_recordset(bindparam("rows", type_=JSONB)).table_valued(*typed, name="r")
    return made.render_derived(name="r", with_types=True)
