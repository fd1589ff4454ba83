"""Where in the stream ``MESSAGES`` a reader is: the ``id:`` of its events."""

import re
from dataclasses import dataclass
from typing import Self

__all__ = ["Position"]

_FORM = re.compile(r"([0-9a-f]{1,16})-(0|[1-9][0-9]{0,18})")


@dataclass(frozen=True, slots=True)
class Position:
    """The last message that was read.

    Attributes
    ----------
    epoch
        Of the stream; one that was made anew counts from 1 again, and has another.
    sequence
        In the stream.
    """

    epoch: str
    sequence: int

    def __str__(self) -> str:
        """Return it as an ``id:``."""
        return f"{self.epoch}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read an ``id:``; None when we never gave such a one."""
        found = _FORM.fullmatch(text)
        return cls(found[1], int(found[2])) if found else None
