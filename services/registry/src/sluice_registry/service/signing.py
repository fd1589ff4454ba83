"""The keys that sign: made, kept, made known before they are used, and dropped when nothing needs them any more."""

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import SecretStr
from sqlalchemy import Connection

from sluice_core.auth import (
    Identity,
    KeyUnusable,
    Signer,
    dump_private_key,
    generate_key,
    load_private_key,
    public_jwk,
    thumbprint,
)
from sluice_core.database import Database
from sluice_registry.service.audit import SERVICE, acted
from sluice_registry.store.identity import IdentityStore

__all__ = ["Rotation", "SigningKeys"]

log = structlog.get_logger(__name__)

# A replica looks at the keys every minute; what it signed with a key that it took for the newest must still be good.
SETTLED = timedelta(minutes=10)


class Rotation(NamedTuple):
    """A new key, and the time before which it signs nothing."""

    kid: str
    not_before: datetime


class _Key(NamedTuple):
    private: Ed25519PrivateKey
    signer: Signer
    published_at: datetime | None


class SigningKeys:
    """The private keys of all replicas.

    A new key is told to the other services first and signs after a while, so none of them ever meets a token of a key
    that it does not know. While NATS is away the others cannot learn a key, and the old one goes on.

    Parameters
    ----------
    database
        Where they are.
    passphrase
        Encrypts them there.
    delay
        From the moment when a key stands in its bucket until it signs.
    """

    def __init__(self, database: Database, *, passphrase: SecretStr | None, delay: timedelta) -> None:
        self._database = database
        self._passphrase = None if passphrase is None else passphrase.get_secret_value()
        self._delay = delay
        # The newest first.
        self._keys: dict[str, _Key] = {}

    def prepare(self, connection: Connection) -> None:
        """Make the first key, and encrypt those that are in clear; any number of replicas may do so.

        Raises
        ------
        KeyUnusable
            A stored key cannot be read, or the passphrase is empty.
        """
        store = IdentityStore(connection)
        store.lock_keys()
        stored = store.private_keys()
        if not stored:
            acted(connection, "key.created", by=SERVICE, about=self._add(store))
        for key in stored:
            if self._passphrase is not None and not _encrypted(key.pem):
                store.put_key(key.kid, dump_private_key(self._unlock(key.pem), self._passphrase))

    def read(self, connection: Connection) -> dict[str, bytes]:
        """Read all keys anew; return their public parts as JWKs in JSON.

        Raises
        ------
        KeyUnusable
            A stored key cannot be read.
        """
        keys = {}
        for kid, pem, published_at in IdentityStore(connection).private_keys():
            # A key that is open stays so: opening an encrypted one takes a tenth of a second.
            private = self._keys[kid].private if kid in self._keys else self._unlock(pem)
            keys[kid] = _Key(private, Signer(private), published_at)
        self._keys = keys
        return {kid: msgspec.json.encode(public_jwk(key.private.public_key())) for kid, key in keys.items()}

    @property
    def signer(self) -> Signer:
        """The newest key that all services had time to learn; while there is none, the oldest."""
        keys = list(self._keys.values())
        known = [key for key in keys if key.published_at is not None and key.published_at + self._delay <= _now()]
        return (known[0] if known else keys[-1]).signer

    async def rotate(self, caller: Identity) -> Rotation:
        """Make a key that shall sign from now on.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """

        def work(connection: Connection) -> str:
            store = IdentityStore(connection)
            store.lock_keys()
            kid = self._add(store)
            acted(connection, "key.rotated", by=caller.subject, about=kid)
            return kid

        kid = await self._database.run(self._database.transact, work)
        return Rotation(kid, _now().replace(microsecond=0) + self._delay)

    async def published(self, kids: Collection[str]) -> None:
        """Note that these keys stand in their bucket.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        new = [kid for kid in kids if (key := self._keys.get(kid)) is not None and key.published_at is None]
        if new:
            note = lambda connection: IdentityStore(connection).publish_keys(new)  # noqa: E731
            await self._database.run(self._database.transact, note)
            await self._database.run(self._database.read, self.read)

    def retire(self, connection: Connection) -> None:
        """Drop the keys that no longer sign, and by which nothing was signed that has not expired."""
        signing = self.signer.kid
        since = self._keys[signing].published_at
        if since is None or since + self._delay + SETTLED > _now():
            return
        kids = list(self._keys)
        store = IdentityStore(connection)
        store.lock_keys()
        for kid in store.drop_unused_keys(kids[kids.index(signing) + 1 :]):
            acted(connection, "key.retired", by=SERVICE, about=kid)

    def _add(self, store: IdentityStore) -> str:
        key = generate_key()
        kid = thumbprint(key.public_key())
        store.put_key(kid, dump_private_key(key, self._passphrase))
        return kid

    def _unlock(self, pem: bytes) -> Ed25519PrivateKey:
        encrypted = _encrypted(pem)
        if encrypted and self._passphrase is None:
            raise KeyUnusable("the signing key is encrypted, and no passphrase is set")
        return load_private_key(pem, self._passphrase if encrypted else None)


def _encrypted(pem: bytes) -> bool:
    return pem.startswith(b"-----BEGIN ENCRYPTED")


def _now() -> datetime:
    return datetime.now(UTC)
