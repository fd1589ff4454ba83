"""The one question that every door asks: who is it?"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Literal, Protocol

from sluice_core.audit import note
from sluice_core.auth.credentials import MAX_LENGTH, Basic, Token, read
from sluice_core.auth.facility import Facility
from sluice_core.auth.identity import INACTIVE, INVALID, WRONG_PASSWORD, Identity, Refused, Throttled, TokensAway
from sluice_core.auth.keyring import REVOKED, TOKENS, Keyring, digest
from sluice_core.auth.sessions import SAFE, SESSION_COOKIE, Session, cookie, insist_on_csrf
from sluice_core.auth.tokens import AUDIENCE, ISSUER, LEEWAY, SESSION_AUDIENCE, Verified, Verifier

__all__ = ["Authenticator", "Passwords"]

Headers = Sequence[tuple[bytes, bytes]]


class Passwords(Protocol):
    """Whoever can tell a right password from a wrong one."""

    async def check(self, basic: Basic, scope: Mapping[str, Any]) -> Identity:
        """Return whose password was sent with the request of this ASGI scope.

        Raises
        ------
        Refused
            It is none.
        Throttled, PasswordsAway
            It was not looked at.
        """
        ...


class Authenticator:
    """Turns a request into an identity; without I/O, but for the first use of a password or of a facility's key.

    What it finds is left in the `sluice_core.audit.note` of the request.

    Parameters
    ----------
    keyring
        Asked at every request, so a revocation, a disabled user or a removed key counts at once.
    issuer, audience
        What a signed token must say.
    facility
        Whose tokens are accepted too; None: nobody else's.
    cached
        How many verified tokens are remembered, and how many sessions, the least recently used leaving first. Only the
        signature's verdict is: it cannot become untrue.

    Attributes
    ----------
    passwords
        Who checks them; None where none is right.
    """

    def __init__(
        self,
        keyring: Keyring,
        *,
        issuer: str = ISSUER,
        audience: str = AUDIENCE,
        facility: Facility | None = None,
        cached: int = 4096,
    ) -> None:
        self.keyring = keyring
        self.passwords: Passwords | None = None
        self._facility = facility
        if facility is not None:
            self._foreign = lru_cache(cached)(facility.verify)
        self._token = lru_cache(cached)(Verifier(keyring, issuer=issuer, audience=audience).verify)
        self._session = lru_cache(cached)(Verifier(keyring, issuer=issuer, audience=SESSION_AUDIENCE).verify)

    async def identify(
        self, scope: Mapping[str, Any], *, only: Literal["token", "session"] | None = None
    ) -> Identity | None:
        """Who sent the request of this ASGI scope; None when it holds no credential.

        A good session wins over whatever else is there, and a bad one is as if it were absent (contract 5.3).

        Parameters
        ----------
        only
            Look at nothing but this kind of credential.

        Raises
        ------
        Refused
            The credential is not good (swf-monitor.md 5.2), or `CsrfFailed`.
        Throttled, PasswordsAway
            A password was sent and not looked at.
        TokensAway
            A token or session was sent, and what decides about it was not read yet.
        """
        try:
            identity = await self._identify(scope, only)
        except (Refused, Throttled):
            note().refused = True
            raise
        note().identity = identity
        return identity

    async def _identify(self, scope: Mapping[str, Any], only: Literal["token", "session"] | None) -> Identity | None:
        headers: Headers = scope["headers"]
        if only != "token" and (session := self.session(headers)) is not None:
            if scope["method"] not in SAFE:
                note().identity = session.identity
                insist_on_csrf(headers, session)
            return session.identity
        credential = None if only == "session" else read(headers)
        if isinstance(credential, Basic):
            if only == "token":
                return None
            if self.passwords is None:
                raise Refused(WRONG_PASSWORD)
            return await self.passwords.check(credential, scope)
        if credential is None:
            return None
        await self._learn(credential.value)
        return self._known(credential.value)

    async def prepare(self, headers: Headers) -> None:
        """Learn what `authenticate` may need to know about the token in these ASGI headers; never refuses it."""
        with suppress(Refused):
            if isinstance(credential := read(headers), Token):
                await self._learn(credential.value)

    def authenticate(self, headers: Headers) -> Identity | None:
        """Whose token is in these ASGI headers; None when they hold none (`credentials.read` says what wins).

        For what is no ordinary request, such as the handshake of a WebSocket, where a cookie would prove nothing.

        Raises
        ------
        Refused
            The token is not good, or a password came instead of it.
        TokensAway
            What decides about it was not read yet.
        """
        try:
            credential = read(headers)
            if isinstance(credential, Basic):
                raise Refused(WRONG_PASSWORD)
            identity = None if credential is None else self._known(credential.value)
        except Refused:
            note().refused = True
            raise
        note().identity = identity
        return identity

    def session(self, headers: Headers) -> Session | None:
        """Return the session in these ASGI headers, if it counts now.

        Raises
        ------
        TokensAway
            What decides about it was not read yet.
        """
        sent = cookie(headers, SESSION_COOKIE)
        if not sent or len(sent) > MAX_LENGTH or not sent.isascii():
            return None
        try:
            verified = self._session(sent)
            identity = self._counting(verified, self.keyring.key)
            return Session(identity, verified.expires, verified.csrf)
        except Refused:
            return None

    async def _learn(self, token: str) -> None:
        if self._facility is not None:
            await self._facility.learn(token)

    def _known(self, token: str) -> Identity:
        if known := self._opaque(token):
            return known
        try:
            return self._signed(token)
        except Refused:
            if self.keyring.lacks(TOKENS):
                raise TokensAway from None
            raise

    def _signed(self, token: str) -> Identity:
        if self._facility is not None and self._facility.issued(token):
            return self._counting(self._foreign(token), self._facility.provider.key)
        return self._counting(self._token(token), self.keyring.key)

    def _opaque(self, token: str) -> Identity | None:
        known = self.keyring.opaque(digest(token))
        if known is None:
            return None
        if known.expires is not None and known.expires <= time.time():
            raise Refused(INVALID)
        if known.disabled or self.keyring.inactive(known.identity.subject):
            raise Refused(INACTIVE)
        if self.keyring.revoked(known.id):
            raise Refused(INVALID)
        if self.keyring.lacks(REVOKED):
            raise TokensAway
        return known.identity

    def _counting(self, verified: Verified, key: Callable[[str], object]) -> Identity:
        """Return whose token was verified, if it counts now."""
        if verified.expires <= time.time() - LEEWAY or key(verified.kid) != verified.key:
            raise Refused(INVALID)
        if self.keyring.inactive(verified.identity.subject):
            raise Refused(INACTIVE)
        if self.keyring.revoked(verified.token_id):
            raise Refused(INVALID)
        if self.keyring.lacks(REVOKED):
            raise TokensAway
        return verified.identity
