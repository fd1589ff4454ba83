"""The self-signed certificate of a local platform, kept in its data directory."""

import contextlib
import os
import socket
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from sluice.files import write_private, write_whole
from sluice_core.http.server import Tls

__all__ = ["certificate"]

LIFETIME = timedelta(days=365)
# A platform that runs for weeks must not outlive its certificate unnoticed.
RENEW_BEFORE = timedelta(days=30)


def certificate(directory: Path, host: str) -> Tls:
    """Return the certificate for this machine, made anew when it is missing, expires or lacks a name.

    It is its own root (``ca`` is true), so that a client which is told the one file trusts it.

    Parameters
    ----------
    directory
        Where ``cert.pem`` and ``key.pem`` (0600) are kept.
    host
        The address that is served, which the certificate names besides localhost and this machine.
    """
    kept = Tls(directory / "cert.pem", directory / "key.pem")
    names = _names(host)
    if not _still_good(kept, names):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(kept, names)
    return kept


def _names(host: str) -> list[str]:
    names = ["localhost", "127.0.0.1", "::1", socket.gethostname()]
    if host not in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        names.append(host)
    return [name for name in dict.fromkeys(names) if name]


def _general(names: Iterable[str]) -> list[x509.GeneralName]:
    general: list[x509.GeneralName] = []
    for name in names:
        try:
            general.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            general.append(x509.DNSName(name))
    return general


def _still_good(kept: Tls, names: Iterable[str]) -> bool:
    try:
        found = x509.load_pem_x509_certificate(kept.certificate.read_bytes())
        key = serialization.load_pem_private_key(kept.key.read_bytes(), password=None)
        held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    now = datetime.now(UTC)
    fresh = found.not_valid_before_utc <= now < found.not_valid_after_utc - RENEW_BEFORE
    return fresh and key.public_key() == found.public_key() and set(_general(names)) <= set(held)


def _make(kept: Tls, names: Iterable[str]) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Sluice on this machine")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Clocks of other machines are not exact.
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(_general(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                key_cert_sign=True,
                crl_sign=True,
                content_commitment=False,
                key_encipherment=False,
                data_encipherment=False,
                key_agreement=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(identifier, critical=False)
        # OpenSSL in strict mode, which Python 3.13 asks for, wants it of self-signed certificates too.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(kept.certificate)
    write_private(kept.key, pem)
    write_whole(kept.certificate, made.public_bytes(serialization.Encoding.PEM))
