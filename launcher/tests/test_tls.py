"""The self-signed certificate is kept, trusted by who is told, and renewed in time."""

import os
import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import time_machine
from cryptography import x509

from sluice import tls
from sluice.environment import write_bundle


def names(path: Path) -> list[str]:
    found = x509.load_pem_x509_certificate(path.read_bytes())
    held = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [str(each.value) for each in held]


def test_it_names_this_machine_and_is_kept(tmp_path: Path) -> None:
    first = tls.certificate(tmp_path / "tls", "192.0.2.7")
    assert {"localhost", "127.0.0.1", "::1", "192.0.2.7", os.uname().nodename} <= set(names(first.certificate))
    content = first.certificate.read_bytes()
    assert tls.certificate(tmp_path / "tls", "192.0.2.7").certificate.read_bytes() == content
    assert tls.certificate(tmp_path / "tls", "0.0.0.0").certificate.read_bytes() == content
    assert stat.S_IMODE(first.key.stat().st_mode) == 0o600


@pytest.mark.parametrize("damage", ["expired", "no key", "garbage", "new address"])
def test_it_is_made_anew_when_it_cannot_serve(tmp_path: Path, damage: str) -> None:
    kept = tls.certificate(tmp_path, "127.0.0.1")
    before = kept.certificate.read_bytes()
    if damage == "no key":
        kept.key.unlink()
    elif damage == "garbage":
        kept.certificate.write_text("-----BEGIN CERTIFICATE-----\n")
    with time_machine.travel(datetime.now(UTC) + timedelta(days=340 if damage == "expired" else 0)):
        tls.certificate(tmp_path, "192.0.2.7" if damage == "new address" else "127.0.0.1")
        assert kept.certificate.read_bytes() != before


def test_strict_verification_accepts_it(tmp_path: Path) -> None:
    kept = tls.certificate(tmp_path, "127.0.0.1")
    write_bundle(kept.certificate, tmp_path / "bundle.pem")
    client = ssl.create_default_context(cafile=str(tmp_path / "bundle.pem"))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(*kept)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    far = server.wrap_bio(to_server, to_client, server_side=True)
    done = {near: False, far: False}
    for _ in range(10):
        for side in done:
            try:
                side.do_handshake()
                done[side] = True
            except ssl.SSLWantReadError:
                continue
    assert all(done.values())


def test_the_bundle_keeps_the_roots_that_clients_trust_anyway(tmp_path: Path) -> None:
    kept = tls.certificate(tmp_path, "127.0.0.1")
    write_bundle(kept.certificate, tmp_path / "bundle.pem")
    context = ssl.create_default_context(cafile=str(tmp_path / "bundle.pem"))
    assert len(context.get_ca_certs()) > 100
