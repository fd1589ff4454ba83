"""Tells a PostgreSQL that hangs from a statement that takes long."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import SQLAlchemyError

__all__ = ["Pulse"]

log = structlog.get_logger(__name__)

# Seconds. Together they are less than the 2 s within which a client learns that the database is away.
LOOK, LATE, PATIENCE = 0.1, 0.4, 1.0


class Pulse:
    """Asks PostgreSQL a trivial question, on a connection of its own, when an answer to real work is late.

    A server that was stopped, or sits behind a network that swallows packets, refuses nothing: whoever waits for it
    waits until the sockets give up. A statement that merely takes long must not be mistaken for that.

    Parameters
    ----------
    engine
        With a pool of one, used by nobody else.

    Attributes
    ----------
    hangs
        No answer came to the last question yet.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.hangs = False

    async def watch(self, waiting_since: Callable[[], float | None], give_up: Callable[[], None]) -> None:
        """Look after work in flight, for ever; a long-lived task.

        Parameters
        ----------
        waiting_since
            Loop time at which the oldest piece of work began; None without any.
        give_up
            Called when PostgreSQL hangs: whoever waits is to be told.
        """
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK)
            began = waiting_since()
            if began is None or loop.time() - began < LATE:
                continue
            answered = self._ask(loop)
            await asyncio.wait({answered}, timeout=PATIENCE)
            if not answered.done():
                log.error("PostgreSQL hangs")
                self.hangs = True
                give_up()
                await answered
                self.hangs = False
                log.info("PostgreSQL answers again")

    def close(self) -> None:
        """Give its connection back."""
        self._engine.dispose()

    def _ask(self, loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
        answered: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not answered.done():
                answered.set_result(None)

        def ask() -> None:
            # A refusal is an answer: then the work itself fails, and at once.
            with suppress(SQLAlchemyError), self._engine.connect() as connection:
                connection.execute(text("SELECT 1"))
            with suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                loop.call_soon_threadsafe(settle)

        # A daemon, since the interpreter waits for the threads of executors when it ends, and this one may hang.
        threading.Thread(target=ask, name="database-pulse", daemon=True).start()
        return answered
