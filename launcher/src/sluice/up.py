"""The whole platform in one process, with a PostgreSQL and a nats-server of its own."""

import asyncio
import json
import os
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import uvloop
from fastapi import FastAPI
from pydantic import SecretStr, ValidationError
from sqlalchemy import make_url

from sluice import tls
from sluice.data import DataDirectory
from sluice.router import PathRouter
from sluice.services import Installed, chosen, wrong_settings
from sluice.starting import without_garbage_collection
from sluice_core.bus import KEYS, REVOKED, TOKENS, Bus, BusAway, permissions
from sluice_core.cli import Failure, console, data_directory
from sluice_core.database import DatabaseAway, SchemaOutdated, migrate
from sluice_core.database.provision import AdminRefused, create_database
from sluice_core.health import Report
from sluice_core.http.admin import Observed, combined_admin_app
from sluice_core.http.server import Listener, PortBusy, Server, ServiceDied, Tls, serve, stop_on_signals
from sluice_core.logging import configure_logging
from sluice_core.settings import Shared, nats_url, postgres_url

if TYPE_CHECKING:
    from sluice_embedded import Nats, Postgres

__all__ = ["Options", "run"]

POOL = 4
"""Connections of each service: all of them share one PostgreSQL with its 100."""
READY_TIMEOUT = 20.0
REGISTRY = "registry"
STREAM = "stream"
STOMP_PORT = 61613
SCHEMES = {"stomp": "stomp", "stomp_tls": "stomp+ssl"}
BUCKETS = (KEYS, TOKENS, REVOKED)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What the command line of ``sluice up`` says."""

    data: Path
    host: str
    http: int
    https: int
    admin: int
    nats_port: int
    stomp: int | None
    stomp_tls: int | None
    tls_cert: Path | None
    tls_key: Path | None
    postgres: str | None
    nats: str | None
    only: Sequence[str]
    as_json: bool


@dataclass(frozen=True, kw_only=True)
class Ports:
    """What the platform listens on."""

    http: Listener
    https: Listener
    admin: Listener
    stomp: Listener | None = None
    stomp_tls: Listener | None = None

    def stomps(self) -> dict[str, Listener]:
        """Return those where the stream service is a STOMP broker, by their names in ``up.json``."""
        found = {"stomp": self.stomp, "stomp_tls": self.stomp_tls}
        return {name: listener for name, listener in found.items() if listener is not None}

    def close(self) -> None:
        """Give all ports back."""
        for listener in (self.http, self.https, self.admin, self.stomp, self.stomp_tls):
            if listener is not None:
                listener.close()


class Progress:
    """Says on standard error what takes time."""

    def __init__(self) -> None:
        self._console = console(stderr=True)
        self.began = time.monotonic()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something is being done, and how long it took."""
        began = time.monotonic()
        if self._console.is_terminal:
            with self._console.status(f"{text} …"):
                yield
        else:
            yield
        self._console.print(f"{text}: {time.monotonic() - began:.1f} s", highlight=False)


def run(options: Options) -> None:
    """Run the platform until it is told to stop.

    Raises
    ------
    Failure
        It cannot start, or something that it needs ended; one sentence says what.
    """
    # Until the event loop takes over, a signal unwinds the stack, which ends PostgreSQL and NATS properly.
    signal.signal(signal.SIGTERM, _leave)
    services = chosen(options.only)
    _check_url("--postgres", options.postgres, postgres_url)
    _check_url("--nats", options.nats, nats_url)
    progress = Progress()
    with DataDirectory(options.data) as data, ExitStack() as stack:
        _forget_ourselves(data)
        ports = _bind(options)
        stack.callback(ports.close)
        shared = _shared(ports)
        configure_logging(shared.log_level if "SLUICE_LOG_LEVEL" in os.environ else "warning", stream=sys.stderr)
        certificate = _certificate(options, data)
        stomp = _stomp_settings(ports, certificate)
        postgres = _start_postgres(options, data, stack, progress)
        nats = _start_nats(options, data, stack, progress, services)
        admin_url = postgres.admin_url if postgres else str(options.postgres)
        os.environ["SLUICE_REGISTRY_ADMIN_TOKEN_FILE"] = str(data.admin_token_file)
        apps: dict[str, FastAPI] = {}
        for service in services:
            with progress.step(f"Migrating {service.name}"):
                url = _database(service, admin_url, data)
            bus = _bus_url(service.name, nats, options, data)
            with without_garbage_collection():
                mine = shared.model_copy(update={"nats_url": SecretStr(bus)})
                apps[service.name] = _application(service, url, mine, **(stomp if service.name == STREAM else {}))
        children = {"PostgreSQL": postgres, "NATS": nats}
        bus = _bus_url(permissions.ADMIN, nats, options, data)
        up = _Up(options, data, ports, certificate, shared, bus, services, apps, children, progress)
        asyncio.Runner(loop_factory=uvloop.new_event_loop).run(up.serve())


class _Up:
    """The serving part: everything is started but the services."""

    def __init__(
        self,
        options: Options,
        data: DataDirectory,
        ports: Ports,
        certificate: Tls,
        shared: Shared,
        bus_url: str,
        services: Sequence[Installed],
        apps: Mapping[str, FastAPI],
        children: "Mapping[str, Postgres | Nats | None]",
        progress: Progress,
    ) -> None:
        self._options = options
        self._data = data
        self._ports = ports
        self._certificate = certificate
        self._shared = shared
        self._bus_url = bus_url
        self._services = services
        self._apps = apps
        self._children = {name: child for name, child in children.items() if child is not None}
        self._progress = progress
        self._fault = ""

    async def serve(self) -> None:
        """Serve until a signal comes, a service dies or a child ends."""
        stop, serving = asyncio.Event(), asyncio.Event()
        table = PathRouter(
            self._apps,
            {service.name: service.routes for service in self._services},
            default=REGISTRY if REGISTRY in self._apps else next(iter(self._apps)),
            prefix=self._shared.base_path,
        )
        servers = [Server(table, self._ports.http), Server(table, self._ports.https, self._certificate)]
        observed = {name: _observed(app) for name, app in self._apps.items()}
        admin = Server(combined_admin_app(observed), self._ports.admin)
        with self._progress.step("Making streams"):
            await self._make_streams()
        with stop_on_signals(stop), self._watch_children(stop):
            announcing = asyncio.create_task(self._announce(serving, observed))
            try:
                await serve(list(self._apps.values()), servers, admin=admin, stop=stop, on_ready=serving.set)
            except (SchemaOutdated, DatabaseAway, ServiceDied) as exc:
                raise Failure(str(exc)) from exc
            finally:
                announcing.cancel()
        if self._fault:
            raise Failure(self._fault)

    async def _make_streams(self) -> None:
        """Make what services keep on the bus, so that none looks for it in vain while another one starts.

        The buckets of the keyring are made even when the registry is not among the services.
        """
        kept = {each.name: each for app in self._apps.values() for each in (*app.state.service.keeps, *BUCKETS)}
        bus = Bus(self._bus_url, name="sluice up", keeps=tuple(kept.values()))
        await bus.open()
        try:
            await bus.wait_connected(READY_TIMEOUT)
        except BusAway as exc:
            raise Failure(f"NATS cannot be used: {exc}") from exc
        finally:
            await bus.close()

    @contextmanager
    def _watch_children(self, stop: asyncio.Event) -> Iterator[None]:
        """End with PostgreSQL or NATS: who started us starts us anew, and we start them."""
        loop = asyncio.get_running_loop()
        watched: list[int] = []

        def ended(name: str, log: Path) -> None:
            self._fault = self._fault or f"{name} ended; its last words are in {log}"
            stop.set()

        try:
            for name, child in self._children.items():
                handle = os.pidfd_open(child.pid)
                watched.append(handle)
                loop.add_reader(handle, ended, name, child.log_file)
            yield
        finally:
            for handle in watched:
                loop.remove_reader(handle)
                os.close(handle)

    async def _announce(self, serving: asyncio.Event, observed: Mapping[str, Observed]) -> None:
        await serving.wait()
        until = time.monotonic() + READY_TIMEOUT
        reports = await _reports(observed)
        while not all(report.ok for report in reports.values()) and time.monotonic() < until:
            await asyncio.sleep(0.05)
            reports = await _reports(observed)
        facts = self._facts()
        self._data.publish(facts)
        if self._options.as_json:
            # One line: who reads it must not wait for the end of the output.
            print(json.dumps(facts), flush=True)  # noqa: T201
        else:
            self._print(facts, reports)

    def _facts(self) -> dict[str, Any]:
        """Return the content of ``up.json``: no secret, only where secrets are."""
        prefix = self._shared.base_path
        nats = self._children.get("NATS")
        postgres = self._children.get("PostgreSQL")
        return {
            "http": self._ports.http.url() + prefix,
            "https": self._ports.https.url("https") + prefix,
            "admin": self._ports.admin.url(),
            "nats": f"nats://127.0.0.1:{nats.port}" if nats else _without_password(str(self._options.nats)),
            **{name: found.url(SCHEMES[name]) for name, found in self._ports.stomps().items()},
            "postgres": f"127.0.0.1:{postgres.port}" if postgres else make_url(str(self._options.postgres)).host,
            "data": str(self._data.path),
            "token_file": str(self._data.admin_token_file),
            "certificate": str(self._certificate.certificate),
            "services": list(self._apps),
            "pids": {"sluice": os.getpid(), **{name.lower(): child.pid for name, child in self._children.items()}},
        }

    def _print(self, facts: Mapping[str, Any], reports: Mapping[str, Report]) -> None:
        from rich.table import Table
        from rich.text import Text

        out = console()
        title = f"Sluice is up ({time.monotonic() - self._progress.began:.1f} s)"
        table = Table(title=title, title_justify="left", show_header=False)
        chosen_data = "" if self._data.path == data_directory() else f" --data {self._data.path}"
        for label, value in (
            ("HTTP", facts["http"]),
            ("HTTPS", facts["https"]),
            ("  certificate", facts["certificate"]),
            ("Admin", f"{facts['admin']} (/readyz /metrics)"),
            ("NATS", facts["nats"]),
            *((name.upper().replace("_", " "), facts[name]) for name in self._ports.stomps()),
            ("PostgreSQL", facts["postgres"]),
            ("Data", facts["data"]),
            ("Services", " ".join(facts["services"])),
            ("Admin token", self._data.admin_token_file.read_text().strip()),
            ("  kept in", facts["token_file"]),
            ("Clients", f'eval "$(sluice env{chosen_data})"'),
            ("Next token", "sluice token create NAME --create-user"),
        ):
            table.add_row(label, Text(value))
        out.print(table)
        for name, report in reports.items():
            for check, result in report.checks.items():
                if not result.ok:
                    out.print(Text(f"{name} is not ready: {check}: {result.detail}", style="yellow"))


def _leave(number: int, _frame: object) -> NoReturn:
    raise SystemExit(0)


def _check_url(option: str, url: str | None, read: Callable[[str], str]) -> None:
    if url is not None:
        try:
            read(url)
        except ValueError as exc:
            raise Failure(f"{option}: {exc}") from None


def _bind(options: Options) -> Ports:
    bound: dict[str, Listener] = {}
    wanted = {
        "http": options.http,
        "https": options.https,
        "admin": options.admin,
        "stomp": _stomp_port(options),
        "stomp-tls": options.stomp_tls,
    }
    try:
        for name, port in wanted.items():
            if port is not None:
                bound[name] = Listener("127.0.0.1" if name == "admin" else options.host, port)
    except PortBusy as exc:
        for listener in bound.values():
            listener.close()
        raise Failure(f"{exc}; choose another with --{name} (0: any that is free)") from exc
    return Ports(**{name.replace("-", "_"): listener for name, listener in bound.items()})


def _stomp_port(options: Options) -> int | None:
    """Return where to be the broker of the agents; None where they have one, or nobody here could be it."""
    if STREAM not in {service.name for service in chosen(options.only)}:
        if options.stomp is not None or options.stomp_tls is not None:
            raise Failure(f"--stomp and --stomp-tls need the service {STREAM}")
        return None
    if options.stomp is not None:
        return options.stomp
    away = os.environ.get("ACTIVEMQ_HOST") or os.environ.get("SLUICE_STREAM_ACTIVEMQ_HOST")
    return None if away else STOMP_PORT


def _forget_ourselves(data: DataDirectory) -> None:
    """Take no notice of a broker that is this platform: the shell has read ``sluice env``."""
    if os.environ.get("ACTIVEMQ_PASSWORD") == data.admin_token_file.read_text(encoding="utf-8").strip():
        for name in ("HOST", "PORT", "USER", "PASSWORD", "USE_SSL"):
            os.environ.pop(f"ACTIVEMQ_{name}", None)


def _stomp_settings(ports: Ports, certificate: Tls) -> dict[str, Any]:
    """Return what the stream service is told about its ports; it listens while its turn lasts."""
    given: dict[str, Any] = {}
    for name, listener in ports.stomps().items():
        given |= {f"{name}_port": listener.port, f"{name}_fd": listener.socket.fileno()}
    if ports.stomp_tls is not None:
        given |= {"stomp_tls_cert": str(certificate.certificate), "stomp_tls_key": str(certificate.key)}
    return given


def _shared(ports: Ports) -> Shared:
    try:
        shared = Shared()
    except ValidationError as exc:
        raise wrong_settings(exc) from None
    return shared.model_copy(update={"peer_url": ports.http.url() + shared.base_path})


def _certificate(options: Options, data: DataDirectory) -> Tls:
    if (options.tls_cert is None) != (options.tls_key is None):
        raise Failure("--tls-cert and --tls-key belong together")
    if options.tls_cert is not None and options.tls_key is not None:
        for file in (options.tls_cert, options.tls_key):
            if not os.access(file, os.R_OK):
                raise Failure(f"{file} cannot be read")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(options.tls_cert, options.tls_key, password=str)
        except (ssl.SSLError, ValueError):
            raise Failure(
                f"{options.tls_cert} and {options.tls_key} are no certificate and its private key, "
                "in PEM and without a passphrase"
            ) from None
        return Tls(options.tls_cert.absolute(), options.tls_key.absolute())
    return tls.certificate(data.path / "tls", options.host)


def _start_postgres(options: Options, data: DataDirectory, stack: ExitStack, progress: Progress) -> "Postgres | None":
    if options.postgres is not None:
        return None
    embedded = _embedded("--postgres")
    with progress.step("Starting PostgreSQL"), _as_failure(embedded.ServerError):
        server: Postgres = stack.enter_context(embedded.Postgres(data.path / "postgres"))
    return server


def _start_nats(
    options: Options, data: DataDirectory, stack: ExitStack, progress: Progress, services: Sequence[Installed]
) -> "Nats | None":
    if options.nats is not None:
        return None
    embedded = _embedded("--nats")
    users = (*(service.name for service in services), permissions.PROGRAMS, permissions.ADMIN)
    passwords = {user: data.password(f"nats {user}") for user in users}
    with progress.step("Starting NATS"), _as_failure(embedded.ServerError):
        server: Nats = stack.enter_context(
            embedded.Nats(
                data.path / "nats", port=options.nats_port, authorization=permissions.authorization(passwords)
            )
        )
    return server


def _bus_url(user: str, nats: "Nats | None", options: Options, data: DataDirectory) -> str:
    return nats.url(user, data.password(f"nats {user}")) if nats else str(options.nats)


def _embedded(option: str) -> Any:
    try:
        import sluice_embedded
    except ImportError as exc:
        raise Failure(f"give a URL with {option}: the package sluice-embedded is not installed") from exc
    return sluice_embedded


@contextmanager
def _as_failure(*kinds: type[Exception]) -> Iterator[None]:
    """Let errors whose message is a sentence for people end the command."""
    try:
        yield
    except kinds as exc:
        raise Failure(str(exc)) from exc


def _database(service: Installed, admin_url: str, data: DataDirectory) -> str:
    """Make the service's database and role where they are missing, and bring the schema up to date."""
    name = f"sluice_{service.name}"
    with _as_failure(DatabaseAway, AdminRefused, SchemaOutdated):
        url = create_database(admin_url, name, name, data.password(f"postgres {service.name}"))
        migrate(url, service.package)
    return url


def _application(service: Installed, url: str, shared: Shared, **given: Any) -> FastAPI:
    given |= {"database_url": SecretStr(url), "shared": shared}
    if f"SLUICE_{service.name.upper()}_POOL_SIZE" not in os.environ:
        given["pool_size"] = POOL
    return service.create_app(service.settings(**given))


def _observed(app: FastAPI) -> Observed:
    return Observed(app.state.service.health, app.state.service.metrics)


async def _reports(observed: Mapping[str, Observed]) -> dict[str, Report]:
    return {name: await each.health.ready() for name, each in observed.items()}


def _without_password(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.rpartition('@')[2]}"
