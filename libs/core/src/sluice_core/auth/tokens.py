"""Signed tokens: JWTs with EdDSA over Ed25519 (RFC 8037), read as RFC 8725 advises."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated
from uuid import uuid4

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sluice_core.auth.identity import INVALID, Identity, Refused
from sluice_core.auth.keyring import Keyring
from sluice_core.auth.keys import public_jwk
from sluice_core.auth.scopes import ROLES, resolve

__all__ = ["AUDIENCE", "ISSUER", "LEEWAY", "Signer", "Verified", "Verifier"]

ISSUER = "sluice"
AUDIENCE = "sluice"
LEEWAY = 10
"""Seconds by which the clocks of registry and service may differ."""

_ALGORITHM = "EdDSA"  # never taken from the token
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Claims(msgspec.Struct):
    sub: _Text
    jti: _Text
    exp: int
    scope: str = ""
    roles: tuple[str, ...] = ()


class Signer:
    """Makes tokens with one private key; the registry's.

    Parameters
    ----------
    key
        Its thumbprint becomes the ``kid``.
    """

    def __init__(self, key: Ed25519PrivateKey, *, issuer: str = ISSUER, audience: str = AUDIENCE) -> None:
        self._key = key
        self._issuer = issuer
        self._audience = audience
        self.jwk = public_jwk(key.public_key())
        self.kid = self.jwk["kid"]

    def sign(
        self, subject: str, *, expires_in: timedelta, roles: Iterable[str] = (), scopes: Iterable[str] = ()
    ) -> tuple[str, str]:
        """Make a token.

        Roles are resolved when the token is read, so a token follows what its roles mean by then; scopes are granted
        beyond them.

        Returns
        -------
        tuple
            The token and its ``jti``.

        Raises
        ------
        ValueError
            No subject, an unknown role, or a scope that is empty or contains white space.
        """
        roles, scopes = sorted(set(roles)), sorted(set(scopes))
        if not subject:
            raise ValueError("a token needs a subject")
        if unknown := [role for role in roles if role not in ROLES]:
            raise ValueError(f"no such role: {', '.join(unknown)}")
        if bad := [scope for scope in scopes if scope.split() != [scope]]:
            raise ValueError(f"no scope: {bad[0]!r}")
        now = int(time.time())
        token_id = uuid4().hex
        claims = {
            "iss": self._issuer,
            "aud": self._audience,
            "sub": subject,
            "jti": token_id,
            "iat": now,
            "exp": now + int(expires_in.total_seconds()),
            "scope": " ".join(scopes),
            "roles": roles,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"kid": self.kid}), token_id


@dataclass(frozen=True, slots=True)
class Verified:
    """That `key` signed a token with these claims: true for ever, so it may be cached.

    Whether it counts *now* is another question: `expires`, ``kid`` -> `key` and the revocation list answer it.
    """

    identity: Identity
    token_id: str
    expires: int
    kid: str
    key: Ed25519PublicKey


class Verifier:
    """Reads tokens with the keys of a keyring."""

    def __init__(self, keyring: Keyring, *, issuer: str = ISSUER, audience: str = AUDIENCE) -> None:
        self._keyring = keyring
        self._issuer = issuer
        self._audience = audience

    def verify(self, token: str) -> Verified:
        """Check signature and claims of `token`; revocation is the caller's.

        Raises
        ------
        Refused
            ``Invalid token.``, whatever is wrong.
        """
        try:
            # The header alone: a stranger's 8 kB are not decoded before it names a key of ours.
            kid: str = jwt.get_unverified_header(token.partition(".")[0] + "..").get("kid", "")
            key = self._keyring.key(kid)
            if key is None:
                raise Refused(INVALID)
            payload = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "aud", "iss", "sub", "jti"], "strict_aud": True},
            )
            claims = msgspec.convert(payload, _Claims)
        except (jwt.PyJWTError, msgspec.ValidationError):
            raise Refused(INVALID) from None
        identity = Identity(claims.sub, resolve(claims.roles, claims.scope.split()), claims.jti)
        return Verified(identity, claims.jti, claims.exp, kid, key)
