"""The signing key, and every token that was made with it or imported (ARCHITECTURE, Identity; decision 5)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr
from sqlalchemy import Connection

from sluice_core.auth import (
    KEYS,
    REVOKED,
    TOKENS,
    Identity,
    Keyring,
    KeyUnusable,
    Signer,
    TokenRecord,
    digest,
    dump_private_key,
    generate_key,
    load_private_key,
    public_jwk,
    thumbprint,
)
from sluice_core.auth.credentials import MAX_LENGTH
from sluice_core.auth.scopes import resolve
from sluice_core.database import Database
from sluice_registry.errors import BeyondOwnRights, TokenUnknown
from sluice_registry.store.identity import IdentityStore, Row

__all__ = ["AdminTokenUnusable", "Grant", "Known", "TokenIssuer"]

log = structlog.get_logger(__name__)

Known = Mapping[str, Mapping[str, bytes]]
"""What every service must know of keys and tokens: bucket -> key -> value."""

ADMIN = "admin"


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
    """

    name: str
    subject: str
    roles: Sequence[str]
    scopes: Sequence[str]
    lifetime: timedelta


class TokenIssuer:
    """Makes tokens, and knows all that the other services must know of them.

    Parameters
    ----------
    database
        Where keys and tokens are.
    keyring
        The registry's own. It is fed from the database too, so the registry does not need NATS to know its tokens.
    passphrase
        Encrypts the private key in the database.
    admin_token
        An opaque token with all rights, imported at start.
    """

    def __init__(
        self,
        database: Database,
        keyring: Keyring,
        *,
        passphrase: SecretStr | None = None,
        admin_token: SecretStr | None = None,
    ) -> None:
        self._database = database
        self._keyring = keyring
        self._passphrase = None if passphrase is None else passphrase.get_secret_value()
        self._admin_token = admin_token
        self._loaded: dict[str, Ed25519PrivateKey] = {}
        self._known: Known = {KEYS: {}, TOKENS: {}, REVOKED: {}}

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
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        beyond = sorted(each for each in resolve(grant.roles, grant.scopes) if not caller.may(each))
        if beyond:
            raise BeyondOwnRights(f"You do not hold {', '.join(beyond)}.")
        token, row = await self._database.run(self._create, grant, caller)
        log.info("token created", token_id=row["id"], token_name=grant.name, subject=grant.subject, by=caller.subject)
        return token, row

    async def tokens(self, after: str | None, limit: int) -> Sequence[Row]:
        """Return records of tokens, the newest first.

        Parameters
        ----------
        after
            Go on behind the token with this id.

        Raises
        ------
        TokenUnknown
            There is no such token.
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        rows = await self._database.run(
            lambda: self._database.read(lambda connection: IdentityStore(connection).tokens(after, limit))
        )
        if rows is None:
            raise TokenUnknown(f"No token has the id {after!r}.")
        return rows

    def _prepare(self, connection: Connection) -> None:
        store = IdentityStore(connection)
        store.lock_keys()
        stored = store.private_keys()
        if not stored:
            key = generate_key()
            store.put_key(thumbprint(key.public_key()), dump_private_key(key, self._passphrase))
        for kid, pem in stored.items():
            if self._passphrase is not None and not _encrypted(pem):
                store.put_key(kid, dump_private_key(self._unlock(pem), self._passphrase))
        if self._admin_token:
            self._import_admin(store, self._admin_token.get_secret_value())

    def _import_admin(self, store: IdentityStore, token: str) -> None:
        if not token.isascii() or token.split() != [token] or len(token) > MAX_LENGTH:
            raise AdminTokenUnusable(f"the admin token must be 1 to {MAX_LENGTH} ASCII characters without white space")
        store.add_token(
            id=uuid4().hex, name=ADMIN, subject=ADMIN, roles=[ADMIN], scopes=[], sha256=digest(token), created_by=ADMIN
        )

    def _read(self, connection: Connection) -> Known:
        store = IdentityStore(connection)
        # A key that is open stays so: opening an encrypted one takes a tenth of a second.
        self._loaded = {kid: self._loaded.get(kid) or self._unlock(pem) for kid, pem in store.private_keys().items()}
        return {
            KEYS: {kid: msgspec.json.encode(public_jwk(key.public_key())) for kid, key in self._loaded.items()},
            TOKENS: {row["sha256"]: _record(row) for row in store.opaque()},
            REVOKED: {token_id: at.astimezone(UTC).isoformat().encode() for token_id, at in store.revoked().items()},
        }

    def _create(self, grant: Grant, caller: Identity) -> tuple[str, Row]:
        # The newest key signs; the others are still believed.
        signer = Signer(next(iter(self._loaded.values())))
        expires_at = datetime.now(UTC).replace(microsecond=0) + grant.lifetime
        token, token_id = signer.sign(grant.subject, expires_in=grant.lifetime, roles=grant.roles, scopes=grant.scopes)
        columns = {
            "id": token_id,
            "name": grant.name,
            "subject": grant.subject,
            "roles": list(grant.roles),
            "scopes": list(grant.scopes),
            "created_by": caller.subject,
            "expires_at": expires_at,
        }
        row = self._database.transact(lambda connection: IdentityStore(connection).add_token(**columns))
        assert row is not None
        return token, row

    def _unlock(self, pem: bytes) -> Ed25519PrivateKey:
        encrypted = _encrypted(pem)
        if encrypted and self._passphrase is None:
            raise KeyUnusable("the signing key is encrypted, and no passphrase is set")
        return load_private_key(pem, self._passphrase if encrypted else None)


def _encrypted(pem: bytes) -> bool:
    return pem.startswith(b"-----BEGIN ENCRYPTED")


def _record(row: Row) -> bytes:
    expires = row["expires_at"]
    return msgspec.json.encode(
        TokenRecord(
            id=row["id"],
            subject=row["subject"],
            roles=tuple(row["roles"]),
            scopes=tuple(row["scopes"]),
            expires=None if expires is None else expires.timestamp(),
        )
    )
