"""The tables ``signing_key`` and ``token``."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, or_, select, text, tuple_
from sqlalchemy.dialects.postgresql import insert

from sluice_registry.tables import signing_key, token

__all__ = ["IdentityStore"]

Row = dict[str, Any]

# Any number that no other advisory lock of this database has.
_KEYS_LOCK = 0x51C1CE01
SHOWN = (
    token.c.id,
    token.c.name,
    token.c.subject,
    token.c.roles,
    token.c.scopes,
    token.c.created_at,
    token.c.created_by,
    token.c.expires_at,
    token.c.revoked_at,
)
# What has expired is still told for so long: the clock of a service may be behind, and it allows some seconds itself.
_GRACE = timedelta(minutes=5)
_LIVES = or_(token.c.expires_at.is_(None), token.c.expires_at > func.now() - _GRACE)


class IdentityStore:
    """Keys and tokens. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's, where something is written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock_keys(self) -> None:
        """Let nobody else make or change keys until the transaction ends."""
        self._connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _KEYS_LOCK})

    def private_keys(self) -> dict[str, bytes]:
        """Return the private keys by ``kid`` as they are stored, the newest first."""
        statement = select(signing_key.c.kid, signing_key.c.private_pem)
        rows = self._connection.execute(statement.order_by(signing_key.c.created_at.desc(), signing_key.c.kid))
        return {kid: bytes(pem) for kid, pem in rows}

    def put_key(self, kid: str, pem: bytes) -> None:
        """Store a private key, new or written in another way."""
        statement = insert(signing_key).values(kid=kid, private_pem=pem)
        statement = statement.on_conflict_do_update(index_elements=["kid"], set_={"private_pem": pem})
        self._connection.execute(statement)

    def add_token(self, **columns: Any) -> Row | None:
        """Store a token and return it; None when one of this hash exists, which stays as it is."""
        statement = insert(token).values(**columns).on_conflict_do_nothing(index_elements=["sha256"])
        row = self._connection.execute(statement.returning(*SHOWN)).mappings().one_or_none()
        return None if row is None else dict(row)

    def tokens(self, after: str | None, limit: int) -> Sequence[Row] | None:
        """Return the newest tokens, or those older than the one with the id ``after``; None when there is no such."""
        statement = select(*SHOWN).order_by(token.c.created_at.desc(), token.c.id.desc()).limit(limit)
        if after is not None:
            place = (token.c.created_at, token.c.id)
            found = self._connection.execute(select(*place).where(token.c.id == after)).one_or_none()
            if found is None:
                return None
            statement = statement.where(tuple_(*place) < tuple_(*found))
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def opaque(self) -> Sequence[Row]:
        """Return the opaque tokens that are good."""
        good = (token.c.sha256.is_not(None), token.c.revoked_at.is_(None), _LIVES)
        return [dict(row) for row in self._connection.execute(select(*SHOWN, token.c.sha256).where(*good)).mappings()]

    def revoked(self) -> dict[str, datetime]:
        """Return the ids of tokens that were revoked and have not expired, and when it was."""
        statement = select(token.c.id, token.c.revoked_at).where(token.c.revoked_at.is_not(None), _LIVES)
        return {row.id: row.revoked_at for row in self._connection.execute(statement)}
