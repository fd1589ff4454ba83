"""Keys survive their storage, and unusable ones never get as far as signing."""

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from sluice_core.auth import (
    KeyUnusable,
    dump_private_key,
    generate_key,
    load_private_key,
    public_jwk,
    thumbprint,
)
from sluice_core.auth.keys import read_public_jwk

KEY = generate_key()


@pytest.mark.parametrize("passphrase", [None, "pass word é"])
def test_a_private_key_comes_back_from_its_pem(passphrase: str | None) -> None:
    pem = dump_private_key(KEY, passphrase)
    assert load_private_key(pem, passphrase).private_bytes_raw() == KEY.private_bytes_raw()
    assert (b"ENCRYPTED" in pem) == (passphrase is not None)


@pytest.mark.parametrize(
    ("pem", "passphrase"),
    [
        (b"", None),
        (b" \n", None),
        (b"", "secret"),
        (b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", None),
        (b"\xff" * 40, None),
        (dump_private_key(KEY, "secret"), None),
        (dump_private_key(KEY, "secret"), "wrong"),
        (dump_private_key(KEY, "secret"), ""),
        (dump_private_key(KEY), "secret"),
        (Ed448PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), None),
        (KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), None),
    ],
)
def test_an_unusable_private_key_is_refused_without_quoting_it(pem: bytes, passphrase: str | None) -> None:
    with pytest.raises(KeyUnusable) as refused:
        load_private_key(pem, passphrase)
    assert "secret" not in str(refused.value)


def test_an_empty_passphrase_does_not_pretend_to_encrypt() -> None:
    with pytest.raises(KeyUnusable):
        dump_private_key(KEY, "")


def test_the_kid_is_the_thumbprint_of_the_standard() -> None:
    # The example key of RFC 8037, appendices A.2 and A.3.
    raw = bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
    assert thumbprint(Ed25519PublicKey.from_public_bytes(raw)) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_public_jwk_reads_back_and_holds_nothing_private() -> None:
    jwk = public_jwk(KEY.public_key())
    assert read_public_jwk(msgspec.json.encode(jwk)) == (jwk["kid"], KEY.public_key())
    assert "d" not in jwk


@pytest.mark.parametrize(
    "change",
    [
        {"x": ""},
        {"x": "AAAA"},
        {"x": "é"},
        {"x": None},
        {"x": "A" * 43},  # zeroed: forgeable by anybody
        {"kty": "RSA"},
        {"kty": "oct", "k": ""},
        {"crv": "Ed448"},
        {"kid": 5},
        {"d": "AAAA"},
    ],
)
def test_a_public_key_that_cannot_be_trusted_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(KeyUnusable):
        read_public_jwk(msgspec.json.encode(public_jwk(KEY.public_key()) | change))
