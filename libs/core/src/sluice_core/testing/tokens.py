"""Tokens for tests of a service, whose registry is not there."""

from datetime import timedelta

import msgspec

from sluice_core.auth import KEYS, Keyring, Signer, generate_key
from sluice_core.bus import KEYS as KEYS_BUCKET
from sluice_core.bus import REVOKED, TOKENS, Bus

__all__ = ["Tokens"]


class Tokens:
    """Signs tokens, as the registry does."""

    def __init__(self) -> None:
        self._signer = Signer(generate_key())
        self._jwk = msgspec.json.encode(self._signer.jwk)

    def header(self, *scopes: str) -> dict[str, str]:
        """Return the header of a caller, ``ada``, who holds these scopes."""
        token, _ = self._signer.sign("ada", expires_in=timedelta(hours=1), scopes=scopes)
        return {"Authorization": f"Token {token}"}

    def teach(self, keyring: Keyring) -> None:
        """Let a service without a bus verify these tokens."""
        keyring.apply_key(self._signer.kid, self._jwk)

    async def publish(self, nats_url: str) -> None:
        """Make the registry's buckets, with the public key in its own."""
        bus = Bus(nats_url, name="registry")
        await bus.open()
        try:
            await bus.ensure(buckets=[KEYS_BUCKET, TOKENS, REVOKED])
            await bus.put(KEYS, self._signer.kid, self._jwk)
        finally:
            await bus.close()
