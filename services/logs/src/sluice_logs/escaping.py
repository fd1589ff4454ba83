"""COPY's text form: how a value is written in it, and read back."""

import re
from collections.abc import Sequence

__all__ = ["NULL", "escaped", "joined", "unescaped"]

NULL = r"\N"

_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


def escaped(text: str) -> str:
    """Write a text so that COPY reads the same."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def joined(texts: Sequence[str]) -> str:
    """Return the columns of a line, each `escaped`."""
    line = "\t".join(texts)
    # Hardly any record has something to escape, and one look at all columns costs less than one at each.
    if "\\" in line or "\n" in line or "\r" in line or line.count("\t") != len(texts) - 1:
        return "\t".join(map(escaped, texts))
    return line


def unescaped(text: str) -> str:
    """Read what `escaped` has written."""
    return _ESCAPE.sub(lambda found: _UNESCAPED[found[1]], text) if "\\" in text else text
