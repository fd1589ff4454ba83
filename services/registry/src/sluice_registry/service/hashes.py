"""Password hashes: argon2id, in worker threads, a few at a time."""

import asyncio
import secrets
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from sluice_core.auth import PasswordsAway

__all__ = ["Hashes"]

T = TypeVar("T")

# What OWASP recommends as the least; more memory a hash would let a handful of logins fill a small container.
_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
AT_ONCE = 2
WAITING = 32


class Hashes:
    """Makes and compares hashes without holding up anything else.

    Parameters
    ----------
    at_once
        How many are worked on side by side; each takes a processor and 19 MiB.
    """

    def __init__(self, *, at_once: int = AT_ONCE) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._waiting = 0

    async def make(self, password: str) -> str:
        """Return the hash of a new password.

        Raises
        ------
        PasswordsAway
            Too many wait.
        """
        return await self._run(lambda: _HASHER.hash(_bytes(password)))

    async def match(self, stored: str | None, password: str) -> bool:
        """Whether a password belongs to a hash.

        Parameters
        ----------
        stored
            None where there is none; to say no takes as long then.

        Raises
        ------
        PasswordsAway
            Too many wait.
        """
        return await self._run(lambda: _matches(_nobodys() if stored is None else stored, password))

    def outdated(self, stored: str) -> bool:
        """Whether a hash is of another strength than new ones."""
        return _HASHER.check_needs_rehash(stored)

    async def _run(self, work: Callable[[], T]) -> T:
        if self._waiting >= WAITING:
            raise PasswordsAway
        self._waiting += 1
        try:
            async with self._slots:
                working = asyncio.ensure_future(asyncio.to_thread(work))
                try:
                    return await asyncio.shield(working)
                except asyncio.CancelledError:
                    # The thread goes on, and so the slot is taken.
                    await asyncio.wait([working])
                    raise
        finally:
            self._waiting -= 1


def _matches(stored: str, password: str) -> bool:
    try:
        return _HASHER.verify(stored, _bytes(password))
    except (VerificationError, InvalidHashError):
        return False


def _bytes(password: str) -> bytes:
    return password.encode("utf-8", "surrogatepass")


@cache
def _nobodys() -> str:
    return _HASHER.hash(secrets.token_bytes(32))
