"""One engine a service, and the two ways to use it: a transaction, or a read."""

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import QueuePool

from sluice_core.database.pulse import Pulse

__all__ = ["Database", "DatabaseAway", "after_commit"]

T = TypeVar("T")

# A transaction that PostgreSQL itself rolled back (deadlock, serialization) is run again this often.
ATTEMPTS = 4
# Work that may wait for a thread; beyond it the caller is told to come back later instead of queueing without end.
WAITING = 4096
# read_only_sql_transaction
READ_ONLY = "25006"
_AFTER_COMMIT = "sluice.after_commit"


class DatabaseAway(Exception):
    """PostgreSQL cannot be reached, or cannot take more work now; the caller may try again later."""


def after_commit(connection: Connection, callback: Callable[[], None]) -> None:
    """Call back once the transaction of this connection is committed, and never if it is not.

    Parameters
    ----------
    connection
        A connection handed out by `Database.transact`.
    callback
        Runs in the worker thread; must not block or raise. Registered twice, it runs once.
    """
    callbacks: list[Callable[[], None]] = connection.info.setdefault(_AFTER_COMMIT, [])
    if callback not in callbacks:
        callbacks.append(callback)


def encode_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Database:
    """PostgreSQL as one service sees it.

    Parameters
    ----------
    url
        SQLAlchemy URL with the driver named (``postgresql+psycopg2://``).
    pool_size
        Connections kept, and worker threads that use them: as many threads as connections, so that no
        thread waits for a connection that another thread holds.
    timezone
        IANA name. It is the time zone of every session, so date-times leave the driver in the server's zone
        (contract 2.3) and nothing has to convert them.
    application_name
        Shown in ``pg_stat_activity``.
    """

    def __init__(self, url: str, *, pool_size: int, timezone: str = "UTC", application_name: str = "sluice") -> None:
        self.pool_size = pool_size
        connect = {
            "connect_timeout": 2,
            "application_name": application_name,
            "options": f"-c TimeZone={timezone}",
            # A peer that vanished without a word gives its threads back after some seconds, not after a quarter of an
            # hour.
            "tcp_user_timeout": 10_000,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
        }
        self.engine: Engine = create_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=1.5,
            pool_use_lifo=True,
            # Where SQLAlchemy does not make one statement of many rows (ON CONFLICT), each would wait for the answer to
            # the one before it.
            executemany_mode="values_plus_batch",
            json_serializer=encode_json,
            json_deserializer=msgspec.json.decode,
            connect_args=connect,
        )
        self._pulse = Pulse(create_engine(url, pool_size=1, max_overflow=0, connect_args=connect))
        self._threads = ThreadPoolExecutor(pool_size, thread_name_prefix=f"{application_name}-db")
        self._waiting: dict[asyncio.Future[Any], float] = {}

    def transact(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` in one transaction and commit it.

        Parameters
        ----------
        work
            Gets the connection. May run more than once: when the pooled connection turned out to be dead, or
            when PostgreSQL rolled the transaction back to resolve a deadlock. So its only effects are on the
            connection.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached. When it went away during COMMIT nobody knows whether the
            transaction holds; the caller must be able to repeat it.
        """
        return self._attempt(work, commit=True)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work`` without a transaction: each statement sees what is committed.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached.
        """
        return self._attempt(partial(_without_transaction, work), commit=False)

    def single(self, work: Callable[[Connection], T]) -> T:
        """Run ``work``, which is one statement and so a transaction of its own: one round trip instead of three.

        Raises
        ------
        DatabaseAway
            PostgreSQL cannot be reached. Nobody knows whether the statement was carried out; the caller must be able
            to repeat it.
        """
        return self.read(work)

    async def run(self, fn: Callable[..., T], *args: Any) -> T:
        """Run a blocking function in one of this database's threads.

        Raises
        ------
        DatabaseAway
            Too much work waits already, or PostgreSQL hangs (noticed only while `watch` runs). What ``fn`` does then
            may still come about.
        """
        if self._pulse.hangs:
            raise DatabaseAway("PostgreSQL does not answer")
        if len(self._waiting) >= WAITING:
            raise DatabaseAway("too many requests wait for the database")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        self._waiting[answer] = loop.time()
        work = self._threads.submit(contextvars.copy_context().run, fn, *args)
        work.add_done_callback(partial(_hand_over, loop, answer))
        try:
            return await answer
        finally:
            del self._waiting[answer]
            work.cancel()

    async def watch(self) -> None:
        """Notice when PostgreSQL hangs, for ever; a long-lived task."""
        await self._pulse.watch(lambda: next(iter(self._waiting.values()), None), self._give_up)

    def check(self) -> None:
        """Ask PostgreSQL something.

        Raises
        ------
        DatabaseAway
            It did not answer.
        """
        self.read(lambda connection: connection.execute(text("SELECT 1")))

    @property
    def in_use(self) -> int:
        """Connections in somebody's hands now."""
        pool = self.engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    def close(self) -> None:
        """Give all connections back to PostgreSQL; what runs is left to end."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.engine.dispose()
        self._pulse.close()

    def _give_up(self) -> None:
        for answer in self._waiting:
            if not answer.done():
                answer.set_exception(DatabaseAway("PostgreSQL does not answer"))

    def _attempt(self, work: Callable[[Connection], T], *, commit: bool) -> T:
        for attempt in range(ATTEMPTS):
            committing = False
            try:
                with self.engine.connect() as connection:
                    connection.info.pop(_AFTER_COMMIT, None)
                    result = work(connection)
                    if commit:
                        committing = True
                        connection.commit()
                        for callback in connection.info.pop(_AFTER_COMMIT, ()):
                            callback()
                    return result
            except PoolTimeout as exc:
                raise DatabaseAway("all database connections are in use") from exc
            except DBAPIError as exc:
                stale = exc.connection_invalidated and attempt == 0 and not committing
                undone = _code(exc).startswith("40")
                if attempt + 1 < ATTEMPTS and (stale or undone):
                    continue
                if _code(exc) == READ_ONLY:
                    # The server has become a standby: the next connection finds the one that writes now.
                    self.engine.dispose()
                    raise DatabaseAway("PostgreSQL takes no writes now") from exc
                if _is_away(exc):
                    raise DatabaseAway("PostgreSQL cannot be reached") from exc
                raise
        raise AssertionError("unreachable")  # pragma: no cover


def _hand_over(loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], work: Future[T]) -> None:
    """Bring what a thread has done to whoever awaits it, if somebody still does."""

    def settle() -> None:
        if answer.done():
            return
        if (failure := work.exception()) is not None:
            answer.set_exception(failure)
        else:
            answer.set_result(work.result())

    if not work.cancelled():
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle)


def _without_transaction(work: Callable[[Connection], T], connection: Connection) -> T:
    """Save a read its BEGIN and ROLLBACK.

    The driver is asked, as isolation levels of SQLAlchemy cost a read more than the transaction that they save.
    """
    driver = connection.connection.driver_connection
    assert driver is not None
    driver.autocommit = True
    try:
        return work(connection)
    finally:
        if not driver.closed:
            driver.autocommit = False


def _code(exc: DBAPIError) -> str:
    return getattr(exc.orig, "pgcode", None) or ""


def _is_away(exc: DBAPIError) -> bool:
    """Whether PostgreSQL is gone or full, in contrast to having refused what it was asked."""
    code = _code(exc)
    if exc.connection_invalidated or code.startswith(("08", "53", "57P")):
        return True
    return not code and isinstance(exc, OperationalError | InterfaceError)
