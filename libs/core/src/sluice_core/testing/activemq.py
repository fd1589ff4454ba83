"""A real ActiveMQ Classic for tests: one that is installed here, one in a container, or one that runs somewhere.

An installation is found by ``ACTIVEMQ_HOME``, or by ``activemq`` on ``PATH`` where it lies as Debian or upstream has
it.
"""

import contextlib
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol
from xml.sax.saxutils import quoteattr

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from sluice_core.testing.servers import _Container, images
from sluice_embedded.process import LOCALHOST, Server

__all__ = ["ABSENT", "EXTERNAL", "REQUIRED", "Broker", "Pki", "here", "is_elsewhere", "own"]

EXTERNAL = "SLUICE_TEST_ACTIVEMQ"
REQUIRED = "SLUICE_TEST_ACTIVEMQ_REQUIRED"
"""When set, tests without a broker fail instead of being skipped."""

ABSENT = f"no ActiveMQ: install `activemq`, or name an image in SLUICE_TEST_IMAGES or a broker in {EXTERNAL}"

USER = PASSWORD = "admin"  # noqa: S105 - of a broker that lives as long as the test
STORE = "changeit"
DEBIAN = Path("/usr/share/activemq")
DAY = timedelta(days=1)


class Broker(Protocol):
    """A broker with a STOMP door; its user and password are ``admin``."""

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        ...


@dataclass(frozen=True)
class Pki:
    """PEM files: whom to believe, and a client that the broker believes."""

    ca: Path
    certificate: Path
    key: Path


class ActiveMq(Server):
    """ActiveMQ as a child process, persistent in its folder; a second port speaks TLS and wants a certificate."""

    program = "java"
    stop_signal = signal.SIGTERM

    def __init__(self, data: Path, home: Path) -> None:
        super().__init__(data)
        self._home = home
        self.tls_port = 0
        self.pki = Pki(self.data / "ca.pem", self.data / "client.pem", self.data / "client.key")

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        return LOCALHOST, self.port

    def _reserve_ports(self) -> None:
        super()._reserve_ports()
        self.tls_port = self._reserve(self.tls_port)

    def _prepare(self) -> None:
        if not self.pki.ca.exists():
            _write_certificates(self.data, self.pki)
        (self.data / "activemq.xml").write_text(self._configuration())

    def _command(self) -> list[str]:
        java = shutil.which("java") or "java"
        jars = [
            str(jar) for folder in ("lib", "lib/optional", "lib/extra") for jar in (self._home / folder).glob("*.jar")
        ]
        path = ":".join([str(self.data), *jars])
        options = ["-Xmx256m", f"-Dactivemq.base={self.data}", f"-Dactivemq.home={self._home}", "-cp", path]
        main = "org.apache.activemq.console.Main"
        return [java, *options, main, "start", f"xbean:file:{self.data / 'activemq.xml'}"]

    def _ready(self, timeout: float) -> bool:
        return _greets(self.address) and _listens(self.tls_port)

    def _configuration(self) -> str:
        folder = self.data
        beat = "transport.hbGracePeriodMultiplier=1.5"
        plain, tls = f"stomp://{LOCALHOST}:{self.port}?{beat}", f"stomp+ssl://{LOCALHOST}:{self.tls_port}?{beat}"
        stores = " ".join(
            f'{name}Store={quoteattr(f"file:{folder / file}")} {name}StorePassword="{STORE}" {name}StoreType="PKCS12"'
            for name, file in (("key", "server.p12"), ("trust", "trust.p12"))
        )
        return f"""<beans xmlns="http://www.springframework.org/schema/beans"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
  xsi:schemaLocation="http://www.springframework.org/schema/beans
    http://www.springframework.org/schema/beans/spring-beans.xsd
    http://activemq.apache.org/schema/core http://activemq.apache.org/schema/core/activemq-core.xsd">
  <broker xmlns="http://activemq.apache.org/schema/core" brokerName="test" useJmx="false" schedulerSupport="false"
      dataDirectory={quoteattr(str(folder / "data"))}>
    <persistenceAdapter><kahaDB directory={quoteattr(str(folder / "data/kahadb"))}/></persistenceAdapter>
    <plugins><simpleAuthenticationPlugin anonymousAccessAllowed="false"><users>
      <authenticationUser username="{USER}" password="{PASSWORD}" groups="admins,users"/>
    </users></simpleAuthenticationPlugin></plugins>
    <sslContext><sslContext {stores}/></sslContext>
    <transportConnectors>
      <transportConnector name="stomp" uri={quoteattr(plain)}/>
      <transportConnector name="stomps" uri={quoteattr(f"{tls}&needClientAuth=true")}/>
    </transportConnectors>
  </broker>
</beans>
"""


class _ActiveMqContainer(_Container):
    port = 61613

    def _answers(self) -> bool:
        return _greets(self.address)


@dataclass(frozen=True)
class _Elsewhere:
    address: tuple[str, int]


@contextlib.contextmanager
def here() -> Iterator[Broker | None]:
    """Run a broker that tests share, or take the one that is named; None where there is neither."""
    external = os.environ.get(EXTERNAL)
    if external:
        host, _, port = external.rpartition(":")
        yield _Elsewhere((host, int(port)))
        return
    image = images().get("activemq")
    if image:
        container = _ActiveMqContainer(image)
        with container.running_once():
            yield container
        return
    with own() as child:
        yield child


@contextlib.contextmanager
def own() -> Iterator[ActiveMq | None]:
    """Run a broker that the test may kill; None where none is installed."""
    home = _home()
    if home is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder, ActiveMq(Path(folder), home) as child:
        yield child


def is_elsewhere() -> bool:
    """Whether a broker is named that is not installed here."""
    return EXTERNAL in os.environ or "activemq" in images()


def _home() -> Path | None:
    named, program = os.environ.get("ACTIVEMQ_HOME"), shutil.which("activemq")
    candidates = [Path(named)] if named else []
    if program is not None:
        candidates += [Path(program).resolve().parent.parent, DEBIAN]
    return next((home for home in candidates if any(home.glob("lib/activemq-broker*.jar"))), None)


def _greets(address: tuple[str, int]) -> bool:
    """Whether a broker takes a login there."""
    hello = f"CONNECT\naccept-version:1.1\nhost:test\nlogin:{USER}\npasscode:{PASSWORD}\n\n\0\n"
    try:
        with socket.create_connection(address, timeout=2) as connection:
            connection.sendall(hello.encode())
            return connection.recv(9) == b"CONNECTED"
    except OSError:
        return False


def _listens(port: int) -> bool:
    try:
        socket.create_connection((LOCALHOST, port), timeout=2).close()
    except OSError:
        return False
    return True


def _write_certificates(folder: Path, pki: Pki) -> None:
    authority_key, authority = _certificate("test authority")
    server_key, server = _certificate("localhost", (authority_key, authority))
    client_key, client = _certificate("sluice", (authority_key, authority))
    pki.ca.write_bytes(authority.public_bytes(Encoding.PEM))
    pki.certificate.write_bytes(client.public_bytes(Encoding.PEM))
    pki.key.write_bytes(client_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    closed = BestAvailableEncryption(STORE.encode())
    store = pkcs12.serialize_key_and_certificates(b"server", server_key, server, [authority], closed)
    (folder / "server.p12").write_bytes(store)
    trusted = [pkcs12.PKCS12Certificate(authority, b"authority")]
    (folder / "trust.p12").write_bytes(pkcs12.serialize_java_truststore(trusted, closed))


Signed = tuple[ec.EllipticCurvePrivateKey, x509.Certificate]


def _certificate(name: str, by: Signed | None = None) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer_key, issuer = (key, subject) if by is None else (by[0], by[1].subject)
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address(LOCALHOST))])
    usage = x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=by is None,
        crl_sign=by is None,
        encipher_only=False,
        decipher_only=False,
    )
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
    )
    if by is not None:
        made = made.add_extension(names, critical=False)
    return key, made.sign(issuer_key, hashes.SHA256())
