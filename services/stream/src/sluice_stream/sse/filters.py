"""What a reader wants: the query parameters of the stream (contract 6.1, decision 11)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from sluice_core.rest import Invalid
from sluice_stream.sse.event import PARAMETERS, Values

__all__ = ["Filters"]

# Values of one parameter, and characters of one value; none that a message may have is longer.
MOST = 100
LONGEST = 255


@dataclass(frozen=True)
class Filters:
    """Each given parameter with its values; a message has to satisfy all of them.

    Attributes
    ----------
    given
        In the order of `PARAMETERS`; the values as they were sent.
    """

    given: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Self:
        """Read the parameters; one without a value filters nothing.

        Raises
        ------
        Invalid
            Names each parameter that cannot be read.
        """
        given, errors = [], {}
        for parameter in PARAMETERS:
            values = tuple(value for part in query.get(parameter, "").split(",") if (value := part.strip()))
            if error := _error(values):
                errors[parameter] = [error]
            elif values:
                given.append((parameter, tuple(dict.fromkeys(values))))
        if errors:
            raise Invalid(errors)
        return cls(tuple(given))

    @property
    def shown(self) -> dict[str, list[str]]:
        """What the status and the subscriber's row say of them (contract 6.2, 6.3)."""
        return {parameter: list(values) for parameter, values in self.given}

    @cached_property
    def _sets(self) -> tuple[tuple[str, frozenset[str]], ...]:
        return tuple((parameter, frozenset(values)) for parameter, values in self.given)

    def match(self, values: Values | None) -> bool:
        """Whether a message with these values is wanted."""
        if values is None:
            return False
        return all(not wanted.isdisjoint(values[parameter]) for parameter, wanted in self._sets)


def _error(values: tuple[str, ...]) -> str:
    if len(values) > MOST:
        return f"Ensure this field has no more than {MOST} elements."
    if any(len(value) > LONGEST for value in values):
        return f"Ensure this field has no more than {LONGEST} characters."
    if any("\0" in value for value in values):
        return "Null characters are not allowed."
    return ""
