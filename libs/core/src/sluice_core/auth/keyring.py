"""What a service knows without asking: public keys, opaque tokens, revocations."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated

import msgspec
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from sluice_core import subjects
from sluice_core.auth.identity import Identity
from sluice_core.auth.keys import KeyUnusable, read_public_jwk
from sluice_core.auth.scopes import resolve

__all__ = ["BUCKETS", "KEYS", "REVOKED", "TOKENS", "Keyring", "OpaqueToken", "TokenRecord", "digest", "user_key"]

# The KV buckets, written by the registry alone.
KEYS = "keys"
TOKENS = "tokens"
REVOKED = "revoked"
BUCKETS = (KEYS, TOKENS, REVOKED)

log = structlog.get_logger(__name__)

_Text = Annotated[str, msgspec.Meta(min_length=1)]


class TokenRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An opaque token as the registry projects it: a value of the bucket ``tokens``, under the token's `digest`.

    Attributes
    ----------
    id
        What it is listed and revoked by; shares the bucket ``revoked`` with the ``jti`` of signed tokens.
    subject
        The user name.
    roles, scopes
        What it may.
    expires
        Unix time in seconds; None: never.
    disabled
        Its user is switched off.
    namespaces
        The only ones whose rows it may write; None: all.
    """

    id: _Text
    subject: _Text
    roles: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    expires: float | None = None
    disabled: bool = False
    namespaces: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class OpaqueToken:
    """A `TokenRecord` made ready for requests."""

    id: str
    identity: Identity
    expires: float | None
    disabled: bool


def digest(token: str) -> str:
    """SHA-256 of a token in lower-case hex: the key of the bucket ``tokens``."""
    return hashlib.sha256(token.encode()).hexdigest()


@lru_cache(4096)
def user_key(subject: str) -> str:
    """Key of the bucket ``revoked`` for all that a user has; no ``jti`` of ours begins like that."""
    return f"user={subjects.token(subject)}"


class Keyring:
    """Holds the last known state of the buckets `BUCKETS`; fed by a KV watch, read by every request.

    Nothing here raises or blocks, and reading is safe from any thread. A value that cannot be understood is logged and
    changes nothing, so what was known before still holds.
    """

    def __init__(self) -> None:
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._opaque: dict[str, OpaqueToken] = {}
        self._revoked: set[str] = set()
        self._unread = set(BUCKETS)
        self.feeds: Mapping[str, Callable[[str, bytes | None], None]] = MappingProxyType(
            {KEYS: self.apply_key, TOKENS: self.apply_token, REVOKED: self.apply_revoked}
        )
        """Bucket -> what takes its changes."""

    def apply_key(self, kid: str, value: bytes | None) -> None:
        """Take a public key from its JWK in JSON; None forgets it, and with it all that it signed."""
        if value is None:
            self._keys.pop(kid, None)
            return
        try:
            named, key = read_public_jwk(value)
        except KeyUnusable as exc:
            log.warning("public key ignored", kid=kid, reason=str(exc))
            return
        if named != kid:
            log.warning("public key ignored", kid=kid, reason="it names another kid")
            return
        self._keys[kid] = key

    def apply_token(self, token_digest: str, value: bytes | None) -> None:
        """Take an opaque token from its `TokenRecord` in JSON; None forgets it."""
        if value is None:
            self._opaque.pop(token_digest, None)
            return
        try:
            record = msgspec.json.decode(value, type=TokenRecord)
        except (ValueError, RecursionError) as exc:
            # A short token can be guessed from its digest, so the log gets the beginning only.
            log.warning("opaque token ignored", digest=token_digest[:8], reason=str(exc))
            return
        namespaces = None if record.namespaces is None else frozenset(record.namespaces)
        identity = Identity(record.subject, resolve(record.roles, record.scopes), record.id, namespaces)
        self._opaque[token_digest] = OpaqueToken(record.id, identity, record.expires, record.disabled)

    def apply_revoked(self, key: str, value: bytes | None) -> None:
        """Refuse the token with this ``jti``, or the user of this `user_key`, from now on; None takes that back.

        The key alone counts: a revocation must not fail over what stands in its value.
        """
        if value is None:
            self._revoked.discard(key)
        else:
            self._revoked.add(key)

    def mark_read(self, bucket: str) -> None:
        """Say that `bucket` was read to its end once."""
        self._unread.discard(bucket)

    @property
    def unread(self) -> frozenset[str]:
        """Buckets that were not read yet."""
        return frozenset(self._unread)

    def lacks(self, bucket: str) -> bool:
        """Whether `bucket` was not read yet: what is not found in it may be there."""
        return bucket in self._unread

    @property
    def ready(self) -> bool:
        """Whether every bucket was read once; a service is not ready before (ARCHITECTURE, Identity)."""
        return not self._unread

    def key(self, kid: str) -> Ed25519PublicKey | None:
        """The public key called `kid`."""
        return self._keys.get(kid)

    def opaque(self, token_digest: str) -> OpaqueToken | None:
        """The opaque token with this `digest`."""
        return self._opaque.get(token_digest)

    def revoked(self, token_id: str) -> bool:
        """Whether the token with this ``jti`` was revoked."""
        return token_id in self._revoked

    def inactive(self, subject: str) -> bool:
        """Whether the user of this name was switched off."""
        return user_key(subject) in self._revoked
