"""Tokens for tests of a service, whose registry is not there."""

from collections.abc import Iterable
from datetime import timedelta
from uuid import uuid4

import msgspec

from sluice_core.auth import BUCKETS, KEYS, Keyring, Signer, digest, generate_key
from sluice_core.bus import KEYS as KEYS_BUCKET
from sluice_core.bus import REVOKED, TOKENS, Bus

__all__ = ["Tokens", "read_keyring"]


def read_keyring() -> Keyring:
    """Return an empty keyring that was read to its end."""
    keyring = Keyring()
    for bucket in BUCKETS:
        keyring.mark_read(bucket)
    return keyring


class Tokens:
    """Signs tokens, as the registry does."""

    def __init__(self) -> None:
        self._signer = Signer(generate_key())
        self._jwk = msgspec.json.encode(self._signer.jwk)

    def header(self, *scopes: str, namespaces: Iterable[str] | None = None, seconds: float = 3600) -> dict[str, str]:
        """Return the header of a caller, ``ada``, who holds these scopes.

        Parameters
        ----------
        namespaces
            The only ones whose rows he may write; None: all.
        seconds
            Until the token expires; a negative number: since when it has been.
        """
        life = timedelta(seconds=seconds)
        token, _ = self._signer.sign("ada", expires_in=life, scopes=scopes, namespaces=namespaces)
        return {"Authorization": f"Token {token}"}

    def session(self, *roles: str, proven: bool = True, seconds: float = 3600) -> dict[str, str]:
        """Return the headers of a browser in which ``ada``, who has these roles, is logged in.

        Parameters
        ----------
        proven
            With the header that shows that a page of ours asks.
        seconds
            As `header`.
        """
        csrf, life = uuid4().hex, timedelta(seconds=seconds)
        session = self._signer.sign_session(
            "ada", session_id=uuid4().hex, expires_in=life, roles=roles, csrf=digest(csrf)
        )
        headers = {"Cookie": f"sessionid={session}; csrftoken={csrf}"}
        return {**headers, "X-CSRFToken": csrf} if proven else headers

    def teach(self, keyring: Keyring) -> None:
        """Let a service without a bus verify these tokens, as if it had read all buckets."""
        keyring.apply_key(self._signer.kid, self._jwk)
        for bucket in BUCKETS:
            keyring.mark_read(bucket)

    async def publish(self, nats_url: str) -> None:
        """Make the registry's buckets, with the public key in its own."""
        bus = Bus(nats_url, name="registry")
        await bus.open()
        try:
            await bus.ensure(buckets=[KEYS_BUCKET, TOKENS, REVOKED])
            await bus.put(KEYS, self._signer.kid, self._jwk)
        finally:
            await bus.close()
