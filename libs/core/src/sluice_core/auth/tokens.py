"""Signed tokens: JWTs with EdDSA over Ed25519 (RFC 8037), read as RFC 8725 advises."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import uuid4

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from sluice_core.auth.identity import INVALID, Identity, Refused, TokensAway
from sluice_core.auth.keyring import KEYS, Keyring
from sluice_core.auth.keys import public_jwk
from sluice_core.auth.scopes import ROLES, resolve

__all__ = ["ATTEMPT_AUDIENCE", "AUDIENCE", "ISSUER", "LEEWAY", "SESSION_AUDIENCE", "Signer", "Verified", "Verifier"]

ISSUER = "sluice"
AUDIENCE = "sluice"
SESSION_AUDIENCE = "sluice-session"
"""What a session says instead of `AUDIENCE`, so that it is no token, nor a token a session."""
ATTEMPT_AUDIENCE = "sluice-login"
"""What a login says that was begun and is not done yet."""
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
    namespaces: tuple[str, ...] | None = None
    csrf: str = ""


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
        self,
        subject: str,
        *,
        expires_in: timedelta,
        roles: Iterable[str] = (),
        scopes: Iterable[str] = (),
        namespaces: Iterable[str] | None = None,
    ) -> tuple[str, str]:
        """Make a token.

        Roles are resolved when the token is read, so a token follows what its roles mean by then; scopes are granted
        beyond them.

        Parameters
        ----------
        namespaces
            The only ones whose rows it may write; None: all.

        Returns
        -------
        tuple
            The token and its ``jti``.

        Raises
        ------
        ValueError
            No subject, an unknown role, a scope that is empty or contains white space, or an empty list of namespaces.
        """
        scopes = sorted(set(scopes))
        if bad := [scope for scope in scopes if scope.split() != [scope]]:
            raise ValueError(f"no scope: {bad[0]!r}")
        claims: dict[str, Any] = {"scope": " ".join(scopes)}
        if namespaces is not None:
            claims["namespaces"] = sorted(set(namespaces))
            if not claims["namespaces"]:
                raise ValueError("a token for no namespace may do nothing")
        token_id = uuid4().hex
        return self._sign(self._audience, token_id, subject, expires_in, roles, claims), token_id

    def sign_session(
        self, subject: str, *, session_id: str, expires_in: timedelta, roles: Iterable[str], csrf: str
    ) -> str:
        """Make the content of the cookie ``sessionid``.

        Parameters
        ----------
        session_id
            Stays the same when the session is renewed.
        csrf
            `sluice_core.auth.digest` of the cookie ``csrftoken`` that belongs to it.

        Raises
        ------
        ValueError
            No subject, or an unknown role.
        """
        return self._sign(SESSION_AUDIENCE, session_id, subject, expires_in, roles, {"csrf": csrf})

    def sign_attempt(self, attempt: Mapping[str, str], *, expires_in: timedelta) -> str:
        """Make a cookie by which a browser shows that it has begun a login; whoever holds it can read it."""
        return self._sign(ATTEMPT_AUDIENCE, uuid4().hex, "login", expires_in, (), {"attempt": dict(attempt)})

    def _sign(
        self,
        audience: str,
        token_id: str,
        subject: str,
        expires_in: timedelta,
        roles: Iterable[str],
        more: Mapping[str, Any],
    ) -> str:
        roles = sorted(set(roles))
        if not subject:
            raise ValueError("a token needs a subject")
        if unknown := [role for role in roles if role not in ROLES]:
            raise ValueError(f"no such role: {', '.join(unknown)}")
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "sub": subject,
            "jti": token_id,
            "iat": now,
            "exp": now + int(expires_in.total_seconds()),
            "roles": roles,
            **more,
        }
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM, headers={"kid": self.kid})


@dataclass(frozen=True, slots=True)
class Verified:
    """That `key` signed a token with these claims: true for ever, so it may be cached.

    Whether it counts *now* is another question: `expires`, ``kid`` -> `key` and the revocation list answer it.

    Attributes
    ----------
    csrf
        Of a session: the digest of its CSRF token.
    """

    identity: Identity
    token_id: str
    expires: int
    kid: str
    key: object
    csrf: str = ""


class Verifier:
    """Reads tokens, or sessions, with the keys of a keyring.

    Parameters
    ----------
    audience
        What they must say: `AUDIENCE` or `SESSION_AUDIENCE`.
    """

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
        TokensAway
            It names a key that may be among those that were not read yet.
        """
        kid, key, payload = self.claims(token)
        try:
            claims = msgspec.convert(payload, _Claims)
        except msgspec.ValidationError:
            raise Refused(INVALID) from None
        scopes = resolve(claims.roles, claims.scope.split())
        namespaces = None if claims.namespaces is None else frozenset(claims.namespaces)
        by: Literal["token", "session"] = "session" if self._audience == SESSION_AUDIENCE else "token"
        identity = Identity(claims.sub, scopes, claims.jti, namespaces, by)
        return Verified(identity, claims.jti, claims.exp, kid, key, claims.csrf)

    def claims(self, token: str) -> tuple[str, Ed25519PublicKey, dict[str, Any]]:
        """Return ``kid``, key and claims of `token`, whatever they say beside who may read it and for how long.

        Raises
        ------
        Refused, TokensAway
            As `verify`.
        """
        try:
            # The header alone: a stranger's 8 kB are not decoded before it names a key of ours.
            kid: str = jwt.get_unverified_header(token.partition(".")[0] + "..").get("kid", "")
            key = self._keyring.key(kid)
            if key is None and self._keyring.lacks(KEYS):
                raise TokensAway
            if key is None:
                raise Refused(INVALID)
            payload: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=[_ALGORITHM],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": ["exp", "aud", "iss", "sub", "jti"], "strict_aud": True},
            )
        except jwt.PyJWTError:
            raise Refused(INVALID) from None
        return kid, key, payload
