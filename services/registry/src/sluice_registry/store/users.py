"""The table ``user_account``."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects.postgresql import insert

from sluice_registry.tables import user_account

__all__ = ["UserStore"]

Row = dict[str, Any]

SHOWN = tuple(column for column in user_account.c if column.name not in ("password_hash", "facility_subject"))


class UserStore:
    """Users. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's, where something is written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def add(self, **columns: Any) -> Row | None:
        """Store a user and return him, without his password; None when there is one of this name."""
        statement = insert(user_account).values(**columns).on_conflict_do_nothing(index_elements=["username"])
        return self._one(statement.returning(*SHOWN))

    def get(self, username: str, *, lock: bool = False) -> Row | None:
        """Return a user without his password; with ``lock`` nobody changes him until the transaction ends."""
        statement = select(*SHOWN).where(user_account.c.username == username)
        return self._one(statement.with_for_update() if lock else statement)

    def password(self, username: str) -> Row | None:
        """Return a user with his ``password_hash``."""
        return self._one(select(user_account).where(user_account.c.username == username))

    def whole(self, username: str) -> Row | None:
        """Return all that is known of a user, whom nobody changes until the transaction ends."""
        return self._one(select(user_account).where(user_account.c.username == username).with_for_update())

    def standing(self, username: str) -> Row | None:
        """Return a user, who is not switched off before the transaction ends if he is not now."""
        return self._one(select(*SHOWN).where(user_account.c.username == username).with_for_update(read=True))

    def change(self, username: str, values: Mapping[str, Any]) -> Row | None:
        """Write some columns of a user and return him."""
        if not values:
            return self.get(username)
        statement = update(user_account).where(user_account.c.username == username).values(**values)
        return self._one(statement.returning(*SHOWN))

    def came_in(self, username: str) -> None:
        """Note that a user logs in now."""
        statement = update(user_account).where(user_account.c.username == username)
        self._connection.execute(statement.values(last_login=func.now()))

    def after(self, username: str, limit: int, *, active: bool | None = None, role: str | None = None) -> Sequence[Row]:
        """Return users in the order of their names, from the first one behind ``username`` on."""
        statement = select(*SHOWN).where(user_account.c.username > username)
        if active is not None:
            statement = statement.where(user_account.c.is_active == active)
        if role is not None:
            statement = statement.where(user_account.c.roles.contains([role]))
        rows = self._connection.execute(statement.order_by(user_account.c.username).limit(limit))
        return [dict(row) for row in rows.mappings()]

    def _one(self, statement: Any) -> Row | None:
        row = self._connection.execute(statement).mappings().one_or_none()
        return None if row is None else dict(row)
