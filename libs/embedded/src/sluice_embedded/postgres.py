"""A real PostgreSQL in a folder."""

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import psycopg2

from sluice_embedded import binaries
from sluice_embedded.errors import StartFailed, WrongVersion
from sluice_embedded.process import LOCALHOST, Owner, Server, processes_in, wait_until

__all__ = ["Postgres"]

SUPERUSER = "postgres"
UNPRIVILEGED = "nobody"
HERE = "/proc/self/cwd"
"""How PostgreSQL is told its data directory: as its working directory.

Root's home is closed to the user that PostgreSQL runs as, and this name needs no way through the folders above.
"""


class Postgres(Server):
    """PostgreSQL on 127.0.0.1, by password (SCRAM) only, with durable commits unless `settings` say otherwise.

    Run by root, it becomes the owner of `data`, or ``nobody`` where that is root.

    Parameters
    ----------
    data
        Folder of this server alone: ``cluster`` (PostgreSQL's own), ``password``, ``log``, ``lock``.
    port, timeout
        As in `Server`.
    settings
        More of PostgreSQL's configuration, as name and value.
    """

    program = "postgres"
    stop_signal = signal.SIGINT  # "fast shutdown": ends sessions and leaves nothing to recover

    def __init__(
        self, data: Path, *, port: int = 0, timeout: float = 60, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(data, port=port, timeout=timeout)
        self._settings = dict(settings or {})
        self._programs: binaries.PostgresPrograms | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam(UNPRIVILEGED)
            self.owner = Owner(nobody.pw_uid, nobody.pw_gid)
            if self.data.exists() and (folder := self.data.stat()).st_uid != 0:
                self.owner = Owner(folder.st_uid, folder.st_gid)

    @property
    def workdir(self) -> Path:
        """PostgreSQL's own data directory."""
        return self.data / "cluster"

    @property
    def password(self) -> str:
        """That of the superuser ``postgres``, kept in the file ``password`` (mode 0600)."""
        return (self.data / "password").read_text()

    @property
    def admin_url(self) -> str:
        """SQLAlchemy URL of the superuser; holds the password."""
        return self.url(SUPERUSER, SUPERUSER, self.password)

    def url(self, database: str, role: str, password: str) -> str:
        """SQLAlchemy URL of `database` for `role`."""
        user, secret, name = (quote(part, safe="") for part in (role, password, database))
        return f"postgresql+psycopg2://{user}:{secret}@{LOCALHOST}:{self.port}/{name}"

    def _prepare(self) -> None:
        programs = binaries.postgres_programs()
        version = self.workdir / "PG_VERSION"
        if version.exists() and (major := version.read_text().strip()) != programs.major:
            raise WrongVersion(
                f"{self.data} holds data of PostgreSQL {major}, and this is {programs.major}; "
                "choose another folder or bring the data over with a dump."
            )
        self._programs = binaries.reachable(programs, self.owner)
        if not self.workdir.exists():
            self._make_cluster()
        # Nothing of this cluster lives (Server.start has looked), so this file of a killed server is stale, and
        # PostgreSQL would refuse to start where its process id has been given to somebody else.
        (self.workdir / "postmaster.pid").unlink(missing_ok=True)

    def _make_cluster(self) -> None:
        """Run initdb in a folder beside, so that a half-made cluster is never taken for a whole one."""
        assert self._programs is not None
        password = self.data / "password"
        password.touch(mode=0o600)
        password.write_text(secrets.token_urlsafe(24))
        self.owner.own(password)
        scratch = self.data / "cluster.new"
        # the end of an initdb whose parent was killed
        wait_until(lambda: not processes_in(scratch, "initdb") and not processes_in(scratch, "postgres"), self.timeout)
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        self.owner.own(scratch)
        initdb = self._spawn(
            [
                self._programs.initdb,
                f"--pgdata={HERE}",
                f"--username={SUPERUSER}",
                "--pwfile=../password",
                "--auth-host=scram-sha-256",
                "--auth-local=reject",
                "--encoding=UTF8",
                "--locale=C",
                "--no-instructions",
                "--no-sync",
            ],
            cwd=scratch,
        )
        try:
            initdb.wait(self.timeout)
        except subprocess.TimeoutExpired as exc:
            raise StartFailed(f"PostgreSQL's initdb takes longer than {self.timeout:.0f} s.") from exc
        finally:
            initdb.kill()
            initdb.wait()
        if initdb.returncode != 0:
            raise StartFailed(f"PostgreSQL's initdb failed.\n{self._log_tail()}")
        scratch.rename(self.workdir)

    def _command(self) -> list[str]:
        assert self._programs is not None
        settings = {
            "listen_addresses": LOCALHOST,
            "port": str(self.port),
            "unix_socket_directories": "",  # a path of a socket has at most 107 bytes, a data directory has not
            "cluster_name": "sluice",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "log",  # failed statements are told to who sent them; their values stay out of the log
            "log_checkpoints": "off",
            **self._settings,
        }
        return [str(self._programs.postgres), "-D", HERE] + [
            argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")
        ]

    def _ready(self, timeout: float) -> bool:
        """Whether the server that we started takes our password; SCRAM proves that it knows it, too."""
        try:
            state = (self.workdir / "postmaster.pid").read_text().split()
        except FileNotFoundError:
            return False
        if state[:1] != [str(self.pid)] or state[-1] != "ready":
            return False
        try:
            connection = psycopg2.connect(
                host=LOCALHOST,
                port=self.port,
                dbname=SUPERUSER,
                user=SUPERUSER,
                password=self.password,
                connect_timeout=max(2, int(timeout)),
            )
        except psycopg2.OperationalError as exc:
            if not self.running:
                return False
            raise StartFailed(f"PostgreSQL started but does not let us in: {exc}") from exc
        connection.close()
        return True
