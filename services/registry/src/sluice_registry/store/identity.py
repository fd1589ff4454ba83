"""The tables ``signing_key`` and ``token``, and what they need to know of users."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, Update, and_, delete, exists, func, or_, select, text, tuple_, update
from sqlalchemy.dialects.postgresql import insert

from sluice_registry.tables import signing_key, token, user_account

__all__ = ["IdentityStore", "StoredKey"]

Row = dict[str, Any]

# Any number that no other advisory lock of this database has.
_KEYS_LOCK = 0x51C1CE01
SHOWN = (
    token.c.id,
    token.c.name,
    token.c.kind,
    token.c.subject,
    token.c.roles,
    token.c.scopes,
    token.c.namespaces,
    token.c.created_at,
    token.c.created_by,
    token.c.expires_at,
    token.c.revoked_at,
)
# What has expired is still told for so long: the clock of a service may be behind, and it allows some seconds itself.
_GRACE = timedelta(minutes=5)
_LIVES = or_(token.c.expires_at.is_(None), token.c.expires_at > func.now() - _GRACE)
_GOOD = and_(token.c.revoked_at.is_(None), or_(token.c.expires_at.is_(None), token.c.expires_at > func.now()))


class StoredKey(NamedTuple):
    """A private key as it is stored.

    Attributes
    ----------
    published_at
        Since when the other services can know its public part.
    """

    kid: str
    pem: bytes
    published_at: datetime | None


class IdentityStore:
    """Keys and tokens. Never commits.

    Parameters
    ----------
    connection
        In a transaction of the caller's, where something is written.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    # Keys

    def lock_keys(self) -> None:
        """Let nobody else make or change keys until the transaction ends."""
        self._connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _KEYS_LOCK})

    def private_keys(self) -> list[StoredKey]:
        """Return the private keys, the newest first."""
        statement = select(signing_key.c.kid, signing_key.c.private_pem, signing_key.c.published_at)
        rows = self._connection.execute(statement.order_by(signing_key.c.created_at.desc(), signing_key.c.kid))
        return [StoredKey(kid, bytes(pem), published_at) for kid, pem, published_at in rows]

    def put_key(self, kid: str, pem: bytes) -> None:
        """Store a private key, new or written in another way."""
        statement = insert(signing_key).values(kid=kid, private_pem=pem)
        statement = statement.on_conflict_do_update(index_elements=["kid"], set_={"private_pem": pem})
        self._connection.execute(statement)

    def publish_keys(self, kids: Collection[str]) -> None:
        """Note that the other services can know these keys from now on; what was noted before stays."""
        unknown = (signing_key.c.kid.in_(kids), signing_key.c.published_at.is_(None))
        self._connection.execute(update(signing_key).where(*unknown).values(published_at=func.now()))

    def drop_unused_keys(self, kids: Collection[str]) -> Sequence[str]:
        """Delete those of these keys by which no token that still counts was signed; return them."""
        needed = exists().where(token.c.kid == signing_key.c.kid, _LIVES)
        statement = delete(signing_key).where(signing_key.c.kid.in_(kids), ~needed).returning(signing_key.c.kid)
        return self._connection.execute(statement).scalars().all()

    # Tokens

    def add_token(self, **columns: Any) -> Row | None:
        """Store a token and return it; None when one of this hash exists, which stays as it is."""
        statement = insert(token).values(**columns).on_conflict_do_nothing(index_elements=["sha256"])
        row = self._connection.execute(statement.returning(*SHOWN)).mappings().one_or_none()
        return None if row is None else dict(row)

    def add_tokens(self, rows: Sequence[Row]) -> int:
        """Store opaque tokens but those of which one of the same hash exists; return how many were new."""
        statement = insert(token).values(rows).on_conflict_do_nothing(index_elements=["sha256"])
        return len(self._connection.execute(statement.returning(token.c.id)).all())

    def tokens(
        self,
        after: str | None,
        limit: int,
        *,
        subject: str | None = None,
        kinds: Collection[str] = ("signed", "opaque"),
        active: bool | None = None,
    ) -> Sequence[Row] | None:
        """Return the newest tokens, or those older than the one with the id ``after``; None when there is no such."""
        statement = select(*SHOWN).where(token.c.kind.in_(kinds))
        if subject is not None:
            statement = statement.where(token.c.subject == subject)
        if active is not None:
            statement = statement.where(_GOOD if active else ~_GOOD)
        if after is not None:
            place = (token.c.created_at, token.c.id)
            found = self._connection.execute(select(*place).where(token.c.id == after)).one_or_none()
            if found is None:
                return None
            statement = statement.where(tuple_(*place) < tuple_(*found))
        statement = statement.order_by(token.c.created_at.desc(), token.c.id.desc()).limit(limit)
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def token(self, token_id: str) -> Row | None:
        """Return one token or session."""
        row = self._connection.execute(select(*SHOWN).where(token.c.id == token_id)).mappings().one_or_none()
        return None if row is None else dict(row)

    def revoke(self, token_id: str) -> bool:
        """Revoke one token or session; whether it was not before."""
        return self._connection.execute(_revocation().where(token.c.id == token_id)).rowcount > 0

    def speaks(self, subject: str) -> bool:
        """Whether a token was ever made or imported for a user of this name."""
        statement = select(token.c.id).where(token.c.subject == subject, token.c.kind != "session").limit(1)
        return self._connection.execute(statement).first() is not None

    def revoke_all(self, subject: str, *, sessions_only: bool = False) -> None:
        """Revoke what a user has."""
        statement = _revocation().where(token.c.subject == subject, _LIVES)
        self._connection.execute(statement.where(token.c.kind == "session") if sessions_only else statement)

    def prolong(self, session_id: str, *, kid: str, lifetime: timedelta, longest: timedelta) -> datetime | None:
        """Let a session live on, though not beyond its longest life; return when it ends, None when it has ended."""
        expires = func.least(func.now() + lifetime, token.c.created_at + longest)
        statement = update(token).where(token.c.id == session_id, token.c.kind == "session", _GOOD)
        statement = statement.where(token.c.created_at + longest > func.now())
        return self._connection.execute(
            statement.values(expires_at=expires, kid=kid).returning(token.c.expires_at)
        ).scalar_one_or_none()

    def forget(self, *, tokens: timedelta, sessions: timedelta) -> int:
        """Delete what expired so long ago; return how many. What is still told to other services stays."""
        tokens, sessions = max(tokens, _GRACE), max(sessions, _GRACE)
        age = func.now() - token.c.expires_at
        old = or_(and_(token.c.kind == "session", age > sessions), and_(token.c.kind != "session", age > tokens))
        return self._connection.execute(delete(token).where(old)).rowcount

    # What every service must know

    def opaque(self) -> Sequence[Row]:
        """Return the opaque tokens that are good, or would be if their user was not switched off: ``disabled``."""
        disabled = func.coalesce(~user_account.c.is_active, False)
        statement = select(*SHOWN, token.c.sha256, disabled.label("disabled"))
        statement = statement.select_from(
            token.outerjoin(user_account, user_account.c.username == token.c.subject)
        ).where(token.c.sha256.is_not(None), _LIVES, or_(token.c.revoked_at.is_(None), disabled))
        return [dict(row) for row in self._connection.execute(statement).mappings()]

    def revoked(self) -> dict[str, datetime]:
        """Return the ids of tokens that were revoked and have not expired, and when it was."""
        statement = select(token.c.id, token.c.revoked_at).where(token.c.revoked_at.is_not(None), _LIVES)
        return {row.id: row.revoked_at for row in self._connection.execute(statement)}

    def inactive_users(self) -> Sequence[str]:
        """Return the names of the users who are switched off."""
        statement = select(user_account.c.username).where(~user_account.c.is_active)
        return self._connection.execute(statement).scalars().all()


def _revocation() -> Update:
    return update(token).where(token.c.revoked_at.is_(None)).values(revoked_at=func.now())
