"""Names of data sets (contract 5.4, 10.2)."""

import re
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["MOST_CHARACTERS", "Parsed", "compose", "did", "parse", "sample_complaint"]

MOST_CHARACTERS = 255
_SUFFIX = re.compile(r"(try|b)([1-9]\d*)", re.ASCII)
_BACKGROUND = re.compile(r"k\d+", re.ASCII)


class Parsed(NamedTuple):
    """A name in its parts.

    Attributes
    ----------
    base
        The composed name.
    attempt
        1 where the name says nothing.
    block
        None where the name says nothing.
    """

    base: str
    attempt: int = 1
    block: int | None = None

    @property
    def written(self) -> str:
        """The name as it is written: attempt, then block."""
        attempt = f".try{self.attempt}" if self.attempt > 1 else ""
        return f"{self.base}{attempt}{'' if self.block is None else f'.b{self.block}'}"


def compose(scope: str, version: str, config: str, labels: Sequence[str], sample: str = "") -> str:
    """Return the composed name: scope, detector, labels of the tags, sample."""
    return ".".join([scope, version, config, *labels, *([sample] if sample else [])])


def did(scope: str, name: str, block: int) -> str:
    """Return the identifier of a block for Rucio."""
    return f"{scope}:{name}.b{block}"


def parse(name: str) -> Parsed:
    """Take a name apart; what Rucio puts before a colon is dropped."""
    base, attempt, block = name.rpartition(":")[2], 1, None
    while True:
        before, dot, last = base.rpartition(".")
        found = _SUFFIX.fullmatch(last)
        if not dot or not found:
            return Parsed(base, attempt, block)
        base = before
        if found[1] == "b":
            block = int(found[2])
        else:
            attempt = int(found[2])


def sample_complaint(sample: str) -> str | None:
    """Say why the name of a sample would make names that cannot be taken apart again; None when it would not."""
    first, last = sample.partition(".")[0], sample.rpartition(".")[2]
    if _BACKGROUND.fullmatch(first):
        return f"A sample name must not begin like a background tag: {first}."
    if _SUFFIX.fullmatch(last):
        return f"A sample name must not end like an attempt or a block: {last}."
    return None
