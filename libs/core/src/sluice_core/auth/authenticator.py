"""The one question that every door asks: who is it?"""

import time
from collections.abc import Iterable
from functools import lru_cache

from sluice_core.auth.credentials import Basic, read
from sluice_core.auth.identity import INACTIVE, INVALID, WRONG_PASSWORD, Identity, Refused
from sluice_core.auth.keyring import Keyring, digest
from sluice_core.auth.tokens import AUDIENCE, ISSUER, LEEWAY, Verifier

__all__ = ["Authenticator"]


class Authenticator:
    """Turns request headers into an identity, without I/O.

    Parameters
    ----------
    keyring
        Asked at every request, so a revocation, a disabled user or a removed key counts at once.
    issuer, audience
        What a signed token must say.
    cached
        How many verified tokens are remembered, the least recently used leaving first. Only the signature's verdict
        is: it cannot become untrue.
    """

    def __init__(self, keyring: Keyring, *, issuer: str = ISSUER, audience: str = AUDIENCE, cached: int = 4096) -> None:
        self.keyring = keyring
        self._verify = lru_cache(cached)(Verifier(keyring, issuer=issuer, audience=audience).verify)

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> Identity | None:
        """Who sent these ASGI headers; None when they hold no credential (`credentials.read` says what wins).

        Raises
        ------
        Refused
            The credential is not good (swf-monitor.md 5.2).
        """
        credential = read(headers)
        if credential is None:
            return None
        if isinstance(credential, Basic):
            # The place for passwords; there are no users yet whose one could match.
            raise Refused(WRONG_PASSWORD)
        return self._opaque(credential.value) or self._signed(credential.value)

    def _opaque(self, token: str) -> Identity | None:
        known = self.keyring.opaque(digest(token))
        if known is None:
            return None
        expired = known.expires is not None and known.expires <= time.time()
        if expired or self.keyring.revoked(known.id):
            raise Refused(INVALID)
        if known.disabled:
            raise Refused(INACTIVE)
        return known.identity

    def _signed(self, token: str) -> Identity:
        verified = self._verify(token)
        if (
            verified.expires <= time.time() - LEEWAY
            or self.keyring.revoked(verified.token_id)
            or self.keyring.key(verified.kid) != verified.key
        ):
            raise Refused(INVALID)
        return verified.identity
