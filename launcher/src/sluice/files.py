"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

__all__ = ["write_private", "write_whole"]


def write_whole(path: Path, content: bytes, mode: int = 0o644) -> None:
    """Write a file so that a reader, or a crash, never sees half of it."""
    handle, scratch = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, mode)
            file.write(content)
            file.flush()
            os.fsync(handle)
        os.replace(scratch, path)
    except BaseException:
        os.unlink(scratch)
        raise


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read."""
    write_whole(path, content, 0o600)
