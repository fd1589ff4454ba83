"""COPY's text form: how a value is written in it, and read back."""

import re

__all__ = ["NULL", "escaped", "unescaped"]

NULL = r"\N"

_ESCAPE = re.compile(r"\\(.)")
_UNESCAPED = {"t": "\t", "n": "\n", "r": "\r", "\\": "\\"}


def escaped(text: str) -> str:
    """Write a text so that COPY reads the same."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def unescaped(text: str) -> str:
    """Read what `escaped` has written."""
    return _ESCAPE.sub(lambda found: _UNESCAPED[found[1]], text) if "\\" in text else text
