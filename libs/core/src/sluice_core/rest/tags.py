"""Entity tags of rows: a change that was meant for another state of the row is refused (RFC 9110, 13.1.1)."""

from hashlib import blake2b

import msgspec

from sluice_core.rest.errors import ApiError
from sluice_core.rest.resource import Row

__all__ = ["insist", "tag"]


def tag(body: bytes) -> str:
    """Return the tag of a row as it is answered."""
    return f'"{blake2b(body, digest_size=12).hexdigest()}"'


def insist(wanted: str, row: Row) -> None:
    """Refuse a write of another state of the row than the one that ``If-Match`` names.

    Parameters
    ----------
    wanted
        The header; empty for any state. A weak tag names none.
    row
        As it is, locked.

    Raises
    ------
    ApiError
        412.
    """
    if not wanted or wanted.strip() == "*":
        return
    if tag(msgspec.json.encode(row)) not in {each.strip() for each in wanted.split(",")}:
        raise ApiError(412, {"detail": "The row is not what If-Match names."})
