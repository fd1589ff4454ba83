"""Every token that was made or imported, and what other services must know of them (ARCHITECTURE, Identity)."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from pydantic import SecretStr
from sqlalchemy import Connection

from sluice_core.audit import note
from sluice_core.auth import KEYS, REVOKED, TOKENS, Identity, Keyring, Scope, TokenRecord, digest, user_key
from sluice_core.auth.credentials import MAX_LENGTH
from sluice_core.auth.fastapi import Forbidden
from sluice_core.auth.scopes import resolve
from sluice_core.database import Database, DatabaseAway, after_commit
from sluice_registry.errors import BeyondOwnRights, NoSuchToken, NotForNamespaces, TokenUnknown, UserInactive
from sluice_registry.service.audit import SERVICE, acted
from sluice_registry.service.signing import Rotation, SigningKeys
from sluice_registry.store.identity import IdentityStore, Row
from sluice_registry.store.users import UserStore

__all__ = ["AdminTokenUnusable", "Grant", "Imported", "Known", "OldToken", "TokenIssuer", "insist_on_rights"]

log = structlog.get_logger(__name__)

Known = Mapping[str, Mapping[str, bytes]]
"""What every service must know of keys and tokens: bucket -> key -> value."""

ADMIN = "admin"
DELAY = timedelta(minutes=2)
RETENTION = timedelta(days=90)
SESSION_RETENTION = timedelta(days=1)
TIDY = 600.0
# Rights over all users and keys, which would be a way out of any namespace.
EVERYWHERE = frozenset({Scope.ADMIN, Scope.TOKENS_ADMIN})


class AdminTokenUnusable(ValueError):
    """The configured admin token could never be sent in a header; the message does not hold it."""


@dataclass(frozen=True)
class Grant:
    """A token to be made.

    Attributes
    ----------
    name
        What people call it.
    subject
        The user name that it speaks for.
    roles, scopes
        What it may.
    lifetime
        Until it expires; whole seconds count.
    namespaces
        The only ones whose rows it may write; None: all.
    """

    name: str
    subject: str
    roles: Sequence[str]
    scopes: Sequence[str]
    lifetime: timedelta
    namespaces: Sequence[str] | None = None


@dataclass(frozen=True)
class OldToken:
    """An opaque token of an older system, to be taken over.

    Attributes
    ----------
    sha256
        `sluice_core.auth.digest` of the token.
    expires_at
        None: never.
    """

    name: str
    subject: str
    sha256: str
    roles: Sequence[str]
    scopes: Sequence[str]
    namespaces: Sequence[str] | None
    expires_at: datetime | None


@dataclass(frozen=True)
class Imported:
    """How many tokens are new, and how many were there before, which stay as they are."""

    imported: int
    present: int


class TokenIssuer:
    """Makes, imports and revokes tokens, and knows all that the other services must know of them.

    Parameters
    ----------
    database
        Where keys and tokens are.
    keyring
        The registry's own. It is fed from the database too, so the registry does not need NATS to know its tokens.
    passphrase
        Encrypts the private keys in the database.
    admin_token
        An opaque token with all rights, imported at start.
    delay
        See `SigningKeys`.
    retention
        Age at which an expired token leaves the list.
    session_retention
        The same of sessions.
    changed
        Called after the commit of what other services must know, from any thread.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        passphrase: SecretStr | None = None,
        admin_token: SecretStr | None = None,
        delay: timedelta = DELAY,
        retention: timedelta = RETENTION,
        session_retention: timedelta = SESSION_RETENTION,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._admin_token = admin_token
        self._retention = retention
        self._session_retention = session_retention
        self._known: Known = {KEYS: {}, TOKENS: {}, REVOKED: {}}
        self._reading = asyncio.Lock()
        self._next: asyncio.Future[Known] | None = None
        self.changed = changed
        self.keys = SigningKeys(database, passphrase=passphrase, delay=delay)

    async def start(self) -> None:
        """Make the first key, import the admin token, and know what there is; any number of replicas may do so.

        Raises
        ------
        KeyUnusable
            The stored key cannot be read, or the passphrase is empty.
        AdminTokenUnusable
            The admin token is no token.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        await self._database.run(lambda: self._database.transact(self._prepare))
        await self.refresh()

    async def refresh(self) -> Known:
        """Read keys and tokens anew and tell the registry's own keyring what changed.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        if self._next is None:
            self._next = asyncio.ensure_future(self._refresh())
            # Who waits for it may go away.
            self._next.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._next)

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWK set (RFC 7517)."""
        return {"keys": [msgspec.Raw(jwk) for jwk in self._known[KEYS].values()]}

    async def create(self, grant: Grant, caller: Identity) -> tuple[str, Row]:
        """Make a token for somebody.

        Returns
        -------
        tuple
            The token, which is kept nowhere, and its record.

        Raises
        ------
        BeyondOwnRights
            The caller does not hold all that it grants.
        NotForNamespaces
            It has namespaces, and a right that knows none.
        UserInactive
            The user whom it would speak for is switched off.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        insist_on_rights(caller, grant.roles, grant.scopes, grant.namespaces)
        return await self._database.run(self._create, grant, caller)

    async def take_over(self, tokens: Sequence[OldToken], caller: Identity) -> Imported:
        """Import opaque tokens, all or none; those of which one of the same hash exists stay as they are.

        Raises
        ------
        BeyondOwnRights, NotForNamespaces
            As `create`.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        for each in tokens:
            insist_on_rights(caller, each.roles, each.scopes, each.namespaces)
        rows = [
            {
                "id": uuid4().hex,
                "name": each.name,
                "kind": "opaque",
                "subject": each.subject,
                "roles": list(each.roles),
                "scopes": list(each.scopes),
                "namespaces": None if each.namespaces is None else list(each.namespaces),
                "sha256": each.sha256,
                "created_by": caller.subject,
                "expires_at": each.expires_at,
            }
            for each in {token.sha256: token for token in tokens}.values()
        ]

        def work(connection: Connection) -> int:
            new = IdentityStore(connection).add_tokens(rows) if rows else 0
            acted(connection, "token.imported", by=caller.subject, tokens=new)
            after_commit(connection, self.changed)
            return new

        new = await self._database.run(self._database.transact, work)
        await self.refresh()
        return Imported(new, len(tokens) - new)

    async def tokens(self, after: str | None, limit: int, **narrowed: Any) -> Sequence[Row]:
        """Return records of tokens, the newest first.

        Parameters
        ----------
        after
            Go on behind the token with this id.
        narrowed
            ``subject``, ``kinds`` and ``active`` of `IdentityStore.tokens`.

        Raises
        ------
        TokenUnknown
            There is no such token.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        rows = await self._database.run(
            lambda: self._database.read(lambda connection: IdentityStore(connection).tokens(after, limit, **narrowed))
        )
        if rows is None:
            raise TokenUnknown(f"No token has the id {after!r}.")
        return rows

    async def revoke(self, token_id: str, caller: Identity) -> None:
        """Make a token or a session worthless at once; one that is already stays so.

        Raises
        ------
        Forbidden
            It is not the caller's, and he does not manage those of others.
        NoSuchToken
            There is none of this id.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        admin = caller.may(Scope.TOKENS_ADMIN)

        def work(connection: Connection) -> None:
            store = IdentityStore(connection)
            row = store.token(token_id)
            # A name that the facility tells need not be the user of that name here.
            if row is not None:
                note().key = token_id
            own = row is not None and row["subject"] == caller.subject and caller.by != "facility"
            if not admin and not own:
                raise Forbidden(f"This needs the scope {Scope.TOKENS_ADMIN}.")
            if row is None:
                raise NoSuchToken(f"No token has the id {token_id!r}.")
            if store.revoke(token_id):
                acted(connection, "token.revoked", by=caller.subject, about=token_id, subject=row["subject"])
                after_commit(connection, self.changed)

        await self._database.run(self._database.transact, work)
        await self.refresh()

    async def rotate(self, caller: Identity) -> Rotation:
        """Make a key that signs once all services had time to learn it; see `SigningKeys`.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        rotation = await self.keys.rotate(caller)
        await self.refresh()
        self.changed()
        return rotation

    async def tidy_regularly(self) -> None:
        """Drop keys and tokens that nobody needs any more, from time to time, for ever; a long-lived task."""
        while True:
            await asyncio.sleep(TIDY)
            try:
                await self.tidy()
            except DatabaseAway as exc:
                log.warning("expired tokens stay for now", reason=str(exc))

    async def tidy(self) -> None:
        """Drop keys and tokens that nobody needs any more.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """

        def work(connection: Connection) -> None:
            self.keys.retire(connection)
            IdentityStore(connection).forget(tokens=self._retention, sessions=self._session_retention)
            after_commit(connection, self.changed)

        await self._database.run(self._database.transact, work)

    async def _refresh(self) -> Known:
        # One after the other: what was read first must not be told last.
        async with self._reading:
            # What changes from now on may be missing in what is read, and needs another look.
            self._next = None
            known = await self._database.run(lambda: self._database.read(self._read))
            for bucket, feed in self._keyring.feeds.items():
                before, after = self._known[bucket], known[bucket]
                for key in before.keys() - after.keys():
                    feed(key, None)
                for key, value in after.items():
                    if before.get(key) != value:
                        feed(key, value)
                self._keyring.mark_read(bucket)
            self._known = known
            return known

    def _prepare(self, connection: Connection) -> None:
        self.keys.prepare(connection)
        if self._admin_token:
            self._import_admin(connection, self._admin_token.get_secret_value())

    def _import_admin(self, connection: Connection, token: str) -> None:
        if not token.isascii() or token.split() != [token] or len(token) > MAX_LENGTH:
            raise AdminTokenUnusable(f"the admin token must be 1 to {MAX_LENGTH} ASCII characters without white space")
        row = IdentityStore(connection).add_token(
            id=uuid4().hex,
            name=ADMIN,
            kind="opaque",
            subject=ADMIN,
            roles=[ADMIN],
            scopes=[],
            sha256=digest(token),
            created_by=ADMIN,
        )
        if row is not None:
            acted(connection, "token.imported", by=SERVICE, about=row["id"], subject=ADMIN)

    def _read(self, connection: Connection) -> Known:
        store = IdentityStore(connection)
        revoked = {token_id: at.astimezone(UTC).isoformat().encode() for token_id, at in store.revoked().items()}
        return {
            KEYS: self.keys.read(connection),
            TOKENS: {row["sha256"]: _record(row) for row in store.opaque()},
            # Nobody has no name; so the bucket is empty only where it was lost.
            REVOKED: revoked | {user_key(username): b"" for username in ("", *store.inactive_users())},
        }

    def _create(self, grant: Grant, caller: Identity) -> tuple[str, Row]:
        signer = self.keys.signer
        expires_at = datetime.now(UTC).replace(microsecond=0) + grant.lifetime
        token, token_id = signer.sign(
            grant.subject,
            expires_in=grant.lifetime,
            roles=grant.roles,
            scopes=grant.scopes,
            namespaces=grant.namespaces,
        )

        def work(connection: Connection) -> Row:
            user = UserStore(connection).standing(grant.subject)
            if user is not None and not user["is_active"]:
                raise UserInactive(f"The user {grant.subject!r} is switched off.")
            row = IdentityStore(connection).add_token(
                id=token_id,
                name=grant.name,
                kind="signed",
                subject=grant.subject,
                roles=list(grant.roles),
                scopes=list(grant.scopes),
                namespaces=None if grant.namespaces is None else list(grant.namespaces),
                created_by=caller.subject,
                expires_at=expires_at,
                kid=signer.kid,
            )
            assert row is not None
            acted(connection, "token.created", by=caller.subject, about=token_id, subject=grant.subject)
            return row

        return token, self._database.transact(work)


def insist_on_rights(
    caller: Identity, roles: Sequence[str], scopes: Sequence[str], namespaces: Sequence[str] | None = None
) -> None:
    """Check that a caller grants no more than he holds.

    Raises
    ------
    BeyondOwnRights
        He would.
    NotForNamespaces
        What is granted for some namespaces concerns all.
    """
    rights = resolve(roles, scopes)
    beyond = sorted(each for each in rights if not caller.may(each))
    if beyond:
        raise BeyondOwnRights(f"You do not hold {', '.join(beyond)}.")
    if namespaces is None:
        if caller.namespaces is not None:
            raise BeyondOwnRights(f"You may write in {', '.join(sorted(caller.namespaces))} only.")
        return
    if outside := sorted(each for each in namespaces if not caller.within(each)):
        raise BeyondOwnRights(f"You may not write in {', '.join(outside)}.")
    if too_wide := sorted(rights & EVERYWHERE):
        raise NotForNamespaces(f"{', '.join(too_wide)} cannot be limited to namespaces.")


def _record(row: Row) -> bytes:
    expires = row["expires_at"]
    return msgspec.json.encode(
        TokenRecord(
            id=row["id"],
            subject=row["subject"],
            roles=tuple(row["roles"]),
            scopes=tuple(row["scopes"]),
            expires=None if expires is None else expires.timestamp(),
            disabled=row["disabled"],
            namespaces=None if row["namespaces"] is None else tuple(row["namespaces"]),
        )
    )
