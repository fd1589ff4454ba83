"""What a starting process does about its memory."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["without_garbage_collection"]

# Objects between two collections. 64 requests that are being answered have more than the default of 700, so that all of
# them were looked through again and again, for a tenth of the time.
YOUNG = 10_000


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import and build without garbage collection, and leave what was made out of all later ones.

    Nothing of it ever becomes garbage. Looking through it is a tenth of a start, and later halts all requests for tens
    of milliseconds.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(YOUNG)
        gc.enable()
