"""The data directory of a local platform: who holds it, its passwords, and what ``up.json`` tells other programs."""

import fcntl
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from sluice.files import write_private
from sluice_core.cli import TOKEN_FILE, UP_FILE, Failure

__all__ = ["PASSWORDS_FILE", "DataDirectory"]

PASSWORDS_FILE = "passwords.json"

VERSION = 1
"""Layout of the directory; what a release cannot read any more gets a new number."""


class DataDirectory:
    """A data directory, held by one process at a time (as a context manager).

    Layout: ``version``, ``lock``, ``passwords.json`` (0600), ``admin-token`` (0600), ``up.json`` while it runs, and the
    folders ``tls``, ``postgres``, ``nats``.

    Raises
    ------
    Failure
        It is in use, belongs to another version, or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = (self.path / "lock").open("a+")
        except OSError as exc:
            raise Failure(f"{self.path} cannot be written ({exc.strerror}); choose another with --data") from exc
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            holder = lock.read().strip()
            lock.close()
            raise Failure(
                f"{self.path} is in use by process {holder}; stop that one, or choose another directory with --data"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        try:
            self._check_version()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _exc: BaseException | None, _where: TracebackType | None
    ) -> None:
        (self.path / UP_FILE).unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _check_version(self) -> None:
        file = self.path / "version"
        try:
            found = file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            write_private(file, f"{VERSION}\n".encode())
            return
        if found != str(VERSION):
            raise Failure(
                f"{self.path} holds data of layout {found}, and this release reads {VERSION}: "
                "use the release that made it, or choose another directory with --data"
            )

    def password(self, name: str) -> str:
        """Return the password of a database role or bus user, random and made when it is first asked for."""
        file = self.path / PASSWORDS_FILE
        known: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            write_private(file, json.dumps(known, indent=2).encode())
        return known[name]

    @property
    def admin_token_file(self) -> Path:
        """The file of the first admin token, made when it is not there."""
        file = self.path / TOKEN_FILE
        if not file.exists():
            # The form of the original's tokens, which is all that some old scripts accept.
            write_private(file, f"{secrets.token_hex(20)}\n".encode())
        return file

    def publish(self, up: Mapping[str, Any]) -> None:
        """Write ``up.json``, by which the command line and tests find the running platform."""
        write_private(self.path / UP_FILE, json.dumps(up, indent=2).encode())
