"""Passwords and sessions: who comes in, for how long, and how he leaves (contract 5.3)."""

import secrets
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from sqlalchemy import Connection

from sluice_core.auth import Identity, Refused, Session, digest
from sluice_core.auth.facility import Person
from sluice_core.auth.identity import INACTIVE, WRONG_PASSWORD
from sluice_core.auth.scopes import resolve
from sluice_core.auth.tries import Tries
from sluice_core.database import Database, after_commit
from sluice_registry.service.audit import acted
from sluice_registry.service.hashes import Hashes
from sluice_registry.service.identity import TokenIssuer
from sluice_registry.store.identity import IdentityStore
from sluice_registry.store.users import Row, UserStore

__all__ = ["Logins", "NameTaken", "Opened"]


class NameTaken(Exception):
    """A user of the facility has the name of another user."""


class Opened(NamedTuple):
    """A session to be handed to a browser.

    Attributes
    ----------
    cookie
        Content of the cookie ``sessionid``.
    csrf
        Content of the cookie ``csrftoken``; None: it stays as it is.
    expires_at
        When it ends unless it is renewed.
    """

    identity: Identity
    cookie: str
    csrf: str | None
    expires_at: datetime


class Logins:
    """Checks passwords, and opens, renews and ends sessions.

    Parameters
    ----------
    issuer
        Has the keys that sign sessions, and knows what other services must know of them.
    lifetime
        Of a session that is not renewed.
    longest
        Of one that is.
    """

    def __init__(
        self, database: Database, issuer: TokenIssuer, hashes: Hashes, *, lifetime: timedelta, longest: timedelta
    ) -> None:
        self._database = database
        self._issuer = issuer
        self._hashes = hashes
        self._lifetime = min(lifetime, longest)
        self._longest = longest
        self._tries = Tries()

    async def verify(self, username: str, password: str, source: str) -> Identity:
        """Return whose password this is: HTTP Basic.

        Raises
        ------
        Refused
            It is none; whether there is such a user is not told, nor can it be measured.
        Throttled, PasswordsAway
            It was not looked at.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        user = await self._user(username, password, source)
        return Identity(username, resolve(user["roles"], ()), None, by="password")

    async def log_in(self, username: str, password: str, source: str) -> Opened:
        """Open a session.

        Raises
        ------
        Refused, Throttled, PasswordsAway, DatabaseAway
            As `verify`.
        """
        await self._user(username, password, source)

        def admit(connection: Connection) -> list[str]:
            user = UserStore(connection).get(username, lock=True)
            if user is None or not user["is_active"]:
                raise Refused(WRONG_PASSWORD)  # since a moment ago
            roles: list[str] = user["roles"]
            return roles

        return await self._open(username, admit)

    async def log_in_by_facility(self, person: Person) -> Opened:
        """Open a session for somebody of the facility, who becomes a user or gets the roles that he has by now.

        A name belongs to whom the provider means by it the first time, and never to somebody who has a password here,
        or to a program that has a token: else who may choose his name there could become anybody.

        Raises
        ------
        Refused
            He is switched off.
        NameTaken
            His name is somebody else's.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        roles = list(person.roles)
        values = {"email": person.email, "roles": roles, "facility_subject": person.subject}

        def admit(connection: Connection) -> list[str]:
            users = UserStore(connection)
            if users.add(username=person.username, is_active=True, password_hash=None, **values) is not None:
                if IdentityStore(connection).speaks(person.username):
                    raise NameTaken(person.username)  # of a program's
                acted(connection, "user.created", by=person.username, about=person.username, roles=roles)
                return roles
            user = users.whole(person.username)
            assert user is not None  # users are never deleted
            unclaimed = user["facility_subject"] is None and user["password_hash"] is None
            if not unclaimed and user["facility_subject"] != person.subject:
                raise NameTaken(person.username)
            if not user["is_active"]:
                raise Refused(INACTIVE)
            users.change(person.username, values if person.email else {**values, "email": user["email"]})
            if user["roles"] != roles:
                IdentityStore(connection).revoke_all(person.username, sessions_only=True)
                acted(connection, "user.changed", by=person.username, about=person.username, changed=["roles"])
                after_commit(connection, self._issuer.changed)
            return roles

        opened = await self._open(person.username, admit)
        await self._issuer.refresh()
        return opened

    async def renew(self, session: Session) -> Opened | None:
        """Let a session whose life is half over live on, with the rights that its user has by now.

        Returns
        -------
        Opened or None
            None when it is too early, or when it cannot live longer.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        left = session.expires - datetime.now(UTC).timestamp()
        if left > self._lifetime.total_seconds() / 2:
            return None
        username, session_id = session.identity.subject, session.identity.token_id
        assert session_id is not None
        signer = self._issuer.keys.signer

        def work(connection: Connection) -> tuple[list[str], datetime] | None:
            user = UserStore(connection).standing(username)
            if user is None or not user["is_active"]:
                return None
            expires_at = IdentityStore(connection).prolong(
                session_id, kid=signer.kid, lifetime=self._lifetime, longest=self._longest
            )
            return None if expires_at is None else (user["roles"], expires_at)

        renewed = await self._database.run(self._database.transact, work)
        if renewed is None:
            return None
        roles, expires_at = renewed
        cookie = signer.sign_session(
            username,
            session_id=session_id,
            expires_in=expires_at - datetime.now(UTC),
            roles=roles,
            csrf=session.csrf,
        )
        return Opened(_identity(username, roles, session_id), cookie, None, expires_at)

    async def log_out(self, session: Session) -> None:
        """End a session, everywhere.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        username, session_id = session.identity.subject, session.identity.token_id
        assert session_id is not None

        def work(connection: Connection) -> None:
            if IdentityStore(connection).revoke(session_id):
                acted(connection, "logout", by=username, about=session_id)
                after_commit(connection, self._issuer.changed)

        await self._database.run(self._database.transact, work)
        await self._issuer.refresh()

    async def refused(self, username: str, **detail: str) -> None:
        """Record a login that failed, before anybody is told.

        Parameters
        ----------
        username
            Empty where nobody knows.
        detail
            What else is worth knowing.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        record = lambda connection: acted(connection, "login", by=username, outcome="refused", **detail)  # noqa: E731
        await self._database.run(self._database.transact, record)

    async def _open(self, username: str, admit: Callable[[Connection], list[str]]) -> Opened:
        """Open a session for a user, with the roles that `admit` tells in the same transaction."""
        session_id, csrf = uuid4().hex, secrets.token_urlsafe(24)
        expires_at = datetime.now(UTC).replace(microsecond=0) + self._lifetime
        signer = self._issuer.keys.signer

        def work(connection: Connection) -> list[str]:
            roles = admit(connection)
            UserStore(connection).came_in(username)
            IdentityStore(connection).add_token(
                id=session_id,
                name="session",
                kind="session",
                subject=username,
                roles=roles,
                scopes=[],
                created_by=username,
                expires_at=expires_at,
                kid=signer.kid,
            )
            acted(connection, "login", by=username, about=session_id)
            return roles

        roles = await self._database.run(self._database.transact, work)
        # The second in which the transaction began may be over.
        left = expires_at - datetime.now(UTC).replace(microsecond=0)
        cookie = signer.sign_session(username, session_id=session_id, expires_in=left, roles=roles, csrf=digest(csrf))
        return Opened(_identity(username, roles, session_id), cookie, csrf, expires_at)

    async def _user(self, username: str, password: str, source: str) -> Row:
        """Return the user whose password this is."""
        self._tries.begin(username, source)
        decided = False
        try:
            user = await self._database.run(self._find, username)
            stored = user["password_hash"] if user is not None and user["is_active"] else None
            right = await self._hashes.match(stored, password) and stored is not None
            decided = True
        finally:
            if not decided:
                self._tries.undecided(username, source)
        if not right or user is None:
            # Whom nobody knows may be a password in the wrong field.
            await self.refused(username if user is not None else "")
            raise Refused(WRONG_PASSWORD)
        self._tries.succeeded(username, source)
        if self._hashes.outdated(user["password_hash"]):
            stronger = {"password_hash": await self._hashes.make(password)}
            keep = lambda connection: UserStore(connection).change(username, stronger)  # noqa: E731
            await self._database.run(self._database.transact, keep)
        return user

    def _find(self, username: str) -> Row | None:
        if "\0" in username:
            return None  # PostgreSQL keeps none
        return self._database.read(lambda connection: UserStore(connection).password(username))


def _identity(username: str, roles: list[str], session_id: str) -> Identity:
    return Identity(username, resolve(roles, ()), session_id, by="session")
