"""Kinds of fields that only physics configurations have."""

import re
from dataclasses import dataclass, field
from datetime import date, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any, ClassVar

from sluice_core.rest import Field, FieldError, Json, Text

__all__ = ["Date", "DecimalNumber", "Name", "Object"]

# What Rucio takes in the name of a data set.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
BAD_NAME = "Only letters, digits, dots, underscores and hyphens, beginning with a letter or digit."


@dataclass(frozen=True)
class Name(Text):
    """A part of the name of a data set, in the characters that Rucio takes."""

    def convert(self, raw: Any, zone: tzinfo) -> str:
        value = super().convert(raw, zone)
        if value and not NAME.fullmatch(value):
            raise FieldError(BAD_NAME)
        return value

    def schema(self) -> dict[str, Any]:
        pattern = f"^({NAME.pattern}){'?' if self.blank else ''}$"
        return {**super().schema(), "pattern": pattern}


@dataclass(frozen=True)
class Object(Json):
    """A JSON object."""

    def convert(self, raw: Any, zone: tzinfo) -> Any:
        if not isinstance(raw, dict):
            raise FieldError(f'Expected a dictionary of items but got type "{type(raw).__name__}".')
        return super().convert(raw, zone)

    def schema(self) -> dict[str, Any]:
        return {"type": "object"}


@dataclass(frozen=True)
class DecimalNumber(Field):
    """A number of so many digits, shown as text: ``"2.00"``.

    Attributes
    ----------
    digits
        In total.
    places
        Behind the point.
    """

    digits: int = field(kw_only=True)
    places: int = field(kw_only=True)

    option_type: ClassVar[str] = "decimal"

    def convert(self, raw: Any, zone: tzinfo) -> Decimal:
        if isinstance(raw, str) and len(raw) > 1000:
            raise FieldError("String value too large.")
        try:
            value = Decimal(str(raw).strip())
        except InvalidOperation:
            raise FieldError("A valid number is required.") from None
        if isinstance(raw, bool) or not value.is_finite():
            raise FieldError("A valid number is required.")
        _, numbers, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        places = max(0, -exponent)
        total = len(numbers) + exponent if exponent >= 0 else max(len(numbers), places)
        if total > self.digits:
            raise FieldError(f"Ensure that there are no more than {self.digits} digits in total.")
        if places > self.places:
            raise FieldError(f"Ensure that there are no more than {self.places} decimal places.")
        if total - places > self.digits - self.places:
            before = self.digits - self.places
            raise FieldError(f"Ensure that there are no more than {before} digits before the decimal point.")
        return value.quantize(Decimal(1).scaleb(-self.places))

    def schema(self) -> dict[str, Any]:
        # Numbers are taken too.
        whole = self.digits - self.places
        return {"type": "string", "pattern": rf"^-?[0-9]{{1,{whole}}}(\.[0-9]{{0,{self.places}}})?$"}


@dataclass(frozen=True)
class Date(Field):
    """A day."""

    option_type: ClassVar[str] = "date"

    def convert(self, raw: Any, zone: tzinfo) -> date:
        try:
            if isinstance(raw, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", raw, re.ASCII):
                return date.fromisoformat(raw)
        except ValueError:
            pass
        raise FieldError("Date has wrong format. Use one of these formats instead: YYYY-MM-DD.")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date"}
