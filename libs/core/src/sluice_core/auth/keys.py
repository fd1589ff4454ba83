"""Ed25519 keys: made, kept as PEM, shown as JWK (RFC 8037)."""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Literal

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

__all__ = [
    "KeyUnusable",
    "dump_private_key",
    "generate_key",
    "load_private_key",
    "public_jwk",
    "read_public_jwk",
    "thumbprint",
]


class KeyUnusable(ValueError):
    """A key that must not sign or verify anything; the message says why and holds no secret."""


class _Jwk(msgspec.Struct):
    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    kid: str
    x: str
    d: str | None = None


def generate_key() -> Ed25519PrivateKey:
    """A new private key."""
    return Ed25519PrivateKey.generate()


def load_private_key(pem: bytes, passphrase: str | None = None) -> Ed25519PrivateKey:
    """Read a private key from PKCS 8 PEM.

    Raises
    ------
    KeyUnusable
        Empty, damaged, not Ed25519, or the passphrase does not fit: wrong, missing, or given for a key that has none.
    """
    if not pem.strip():
        raise KeyUnusable("the private key is empty")
    try:
        key = load_pem_private_key(pem, None if passphrase is None else passphrase.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # The library's sentences differ by version, and some quote what they read.
        raise KeyUnusable("the private key cannot be read: damaged, or its passphrase does not fit") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyUnusable("the private key is not an Ed25519 key")
    return key


def dump_private_key(key: Ed25519PrivateKey, passphrase: str | None = None) -> bytes:
    """Write `key` as PKCS 8 PEM, encrypted when a passphrase is given.

    Raises
    ------
    KeyUnusable
        The passphrase is empty: that was meant to encrypt, and would not.
    """
    if passphrase == "":
        raise KeyUnusable("the passphrase is empty")
    protection: KeySerializationEncryption = NoEncryption()
    if passphrase is not None:
        protection = BestAvailableEncryption(passphrase.encode())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection)


def public_jwk(key: Ed25519PublicKey) -> dict[str, str]:
    """The public JWK of `key`, ``kid`` being its thumbprint; goes into the bucket ``keys`` and the JWK set."""
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _base64url(key.public_bytes_raw()),
        "kid": thumbprint(key),
        "alg": "EdDSA",
        "use": "sig",
    }


def thumbprint(key: Ed25519PublicKey) -> str:
    """The JWK thumbprint of `key` (RFC 7638, SHA-256): 43 characters, a valid KV key."""
    required = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(key.public_bytes_raw())}
    return _base64url(hashlib.sha256(msgspec.json.encode(required)).digest())


def read_public_jwk(data: bytes) -> tuple[str, Ed25519PublicKey]:
    """``kid`` and public key of a JWK in JSON.

    Raises
    ------
    KeyUnusable
        Not the public JWK of an Ed25519 key with a ``kid``; or zeroed; or it carries the private part.
    """
    try:
        jwk = msgspec.json.decode(data, type=_Jwk)
        raw = urlsafe_b64decode(jwk.x + "=" * (-len(jwk.x) % 4))
        key = Ed25519PublicKey.from_public_bytes(raw)
    except (ValueError, RecursionError) as exc:
        raise KeyUnusable(f"no public Ed25519 JWK: {exc}") from None
    if not any(raw):
        # 32 zero bytes are a point of order 4: anybody can make signatures that verify against it.
        raise KeyUnusable("the public key is empty")
    if jwk.d is not None:
        raise KeyUnusable("the JWK holds the private part")
    return jwk.kid, key


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
