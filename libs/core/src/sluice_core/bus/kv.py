"""Key-value buckets: the last value of each key, and word of every change."""

import re
import secrets
from collections.abc import Callable

from nats.aio.msg import Msg

from .pull import Pull
from .session import Session
from .streams import DAY, ensure_consumer

__all__ = ["DELETE_HEADERS", "key_subject", "read_and_follow"]

# The server keeps the note that a key was deleted for a day. A watcher that was away for longer notices the deletion
# because it reads everything again.
DELETE_HEADERS = {"KV-Operation": "PURGE", "Nats-Rollup": "sub", "Nats-TTL": str(int(DAY))}

_KEY = re.compile(r"[A-Za-z0-9_=-]+")
_BATCH = 500
# Seconds between two looks whether the bucket has been read; only needed when its last keys vanish meanwhile.
_LOOK = 0.5


def key_subject(bucket: str, key: str) -> str:
    """Return the subject of a key.

    Raises
    ------
    ValueError
        The key is not a token.
    """
    if not _KEY.fullmatch(key):
        raise ValueError("a key is a token; see sluice_core.subjects.token")
    return f"$KV.{bucket}.{key}"


async def read_and_follow(
    session: Session,
    bucket: str,
    known: set[str],
    on_change: Callable[[str, bytes | None], None],
    on_ready: Callable[[], None],
    *,
    keep_lost: bool = False,
) -> None:
    """Read all keys, then follow the changes until the connection breaks.

    Parameters
    ----------
    known
        Keys that were told before; those that are gone are told as deleted. Kept up to date.
    keep_lost
        Of a bucket that comes back empty, tell nothing: its server has lost it, and who made it makes it anew.

    Raises
    ------
    ApiError, ConsumerGone, BusAway, StreamRefused
        It cannot go on; read anew.
    """
    stream, prefix = f"KV_{bucket}", f"$KV.{bucket}."
    name = f"watch-{secrets.token_hex(8)}"
    config = {
        "name": name,
        "filter_subject": f"{prefix}>",
        "deliver_policy": "last_per_subject",
        "ack_policy": "none",
        "mem_storage": True,
        # The server forgets it when we are gone.
        "inactive_threshold": int(60e9),
    }
    consumer = await ensure_consumer(session, stream, config)
    seen: set[str] = set()
    ready = False
    # A change is told at once: a revocation does not wait for a message that may never come.
    async with Pull(session, stream, name, batch=_BATCH, rest=0) as pull:
        pending = consumer["num_pending"]
        while True:
            if not ready and pending == 0:
                if seen or not keep_lost:
                    for key in known - seen:
                        on_change(key, None)
                    known &= seen
                ready = True
                on_ready()
            batch = await pull.fetch(60.0 if ready else _LOOK)
            for message in batch:
                key, value = _read(message, prefix)
                (seen.discard if value is None else seen.add)(key)
                (known.discard if value is None else known.add)(key)
                on_change(key, value)
                pending = message.metadata.num_pending
            if not batch and not ready:
                pending = (await session.api(f"CONSUMER.INFO.{stream}.{name}"))["num_pending"]


def _read(message: Msg, prefix: str) -> tuple[str, bytes | None]:
    key = message.subject.removeprefix(prefix)
    headers = message.headers or {}
    deleted = headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers
    return key, None if deleted else message.data
