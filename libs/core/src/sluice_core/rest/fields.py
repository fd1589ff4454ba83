"""The kinds of fields: what each accepts, what it refuses and how it is stored (contract 2.3, 2.4, 2.6)."""

import ipaddress
import json
import math
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from sluice_core.rest.resource import Resource

__all__ = [
    "Boolean",
    "Choice",
    "DateTime",
    "Derived",
    "Field",
    "FieldError",
    "Float",
    "ForeignKey",
    "Integer",
    "Ip",
    "Json",
    "Text",
    "Url",
    "Uuid",
]

NOT_NULL = "This field may not be null."
NOT_BLANK = "This field may not be blank."
LONG_NUMBER = "String value too large."
SURROGATE = re.compile("[\ud800-\udfff]")
# A NUL inside a JSON text, and not a backslash that happens to stand before `u0000`.
JSON_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
# PostgreSQL writes exponents out, and so makes 300 characters of six: 4 MB of them would be an answer of 200 MB.
EXPONENT = re.compile(r"[0-9]e[+-]([0-9]{2,3})(?![0-9])")
LONGEST_JSON = 16 * 2**20


class FieldError(Exception):
    """A value that a field refuses; ``args`` are the messages of contract 2.6."""


@dataclass(frozen=True)
class Field:
    """What all kinds have in common.

    Attributes
    ----------
    name
        Key on the wire, and the column unless the kind says otherwise.
    required
        Must be there on POST and PUT.
    null
        ``null`` is accepted and returned.
    default
        What an absent key becomes on POST; a callable is called for each row.
    read_only
        Ignored on input.
    blank
        The empty text is a value of its own (texts and choices of texts only).
    unique
        No two rows share it; the database holds the constraint.
    auto
        The server sets it: at creation, or at each write.
    help
        A sentence for OPTIONS and OpenAPI.
    """

    name: str
    required: bool = field(default=False, kw_only=True)
    null: bool = field(default=False, kw_only=True)
    default: Any = field(default=None, kw_only=True)
    read_only: bool = field(default=False, kw_only=True)
    blank: bool = field(default=False, kw_only=True)
    unique: bool = field(default=False, kw_only=True)
    auto: Literal["create", "update"] | None = field(default=None, kw_only=True)
    help: str = field(default="", kw_only=True)

    option_type: ClassVar[str] = "field"

    @property
    def column(self) -> str:
        """The column that holds it."""
        return self.name

    @property
    def writable(self) -> bool:
        """Whether clients may set it."""
        return not self.read_only and self.auto is None

    def initial(self) -> Any:
        """Return the value of an absent key on POST."""
        return self.default() if callable(self.default) else self.default

    def parse(self, raw: Any, zone: tzinfo) -> Any:
        """Turn a value of a request into what is stored.

        Raises
        ------
        FieldError
            With every message that applies.
        """
        if raw is None:
            if not self.null:
                raise FieldError(NOT_NULL)
            return None
        return self.convert(raw, zone)

    def convert(self, raw: Any, zone: tzinfo) -> Any:
        """Turn a value that is not null into what is stored."""
        raise NotImplementedError

    def filter_value(self, raw: str, zone: tzinfo) -> Any:
        """Turn the text of a query parameter into what the column is compared with."""
        return self.convert(raw, zone)

    def schema(self) -> dict[str, Any]:
        """Describe the value as JSON schema."""
        raise NotImplementedError

    def limits(self) -> dict[str, Any]:
        """Return the limits that OPTIONS shows."""
        return {}


def printable(text: str) -> str:
    """Replace lone surrogates, which no answer can carry."""
    return SURROGATE.sub("\ufffd", text)


def _text(raw: Any) -> str:
    if isinstance(raw, str):
        return raw
    if isinstance(raw, bool) or not isinstance(raw, int | float) or raw in (math.inf, -math.inf):
        raise FieldError("Not a valid string.")
    return str(raw)


def _forbidden(value: str, max_length: int | None) -> list[str]:
    errors = []
    if max_length is not None and len(value) > max_length:
        errors.append(f"Ensure this field has no more than {max_length} characters.")
    if "\x00" in value:
        errors.append("Null characters are not allowed.")
    if found := SURROGATE.search(value):
        errors.append(f"Surrogate characters are not allowed: U+{ord(found[0]):X}.")
    return errors


@dataclass(frozen=True)
class Text(Field):
    """A string; numbers become text.

    Attributes
    ----------
    max_length
        In characters; None for unlimited.
    trim
        White space around it is taken away.
    """

    max_length: int | None = field(default=None, kw_only=True)
    trim: bool = field(default=True, kw_only=True)

    option_type: ClassVar[str] = "string"

    def convert(self, raw: Any, zone: tzinfo) -> str:
        value = _text(raw).strip() if self.trim else _text(raw)
        if not value:
            if not self.blank:
                raise FieldError(NOT_BLANK)
            return value
        if errors := _forbidden(value, self.max_length):
            raise FieldError(*errors)
        return value

    def filter_value(self, raw: str, zone: tzinfo) -> str:
        if errors := _forbidden(raw, None):
            raise FieldError(*errors)
        return raw

    def schema(self) -> dict[str, Any]:
        found: dict[str, Any] = {"type": "string"}
        if self.max_length is not None:
            found["maxLength"] = self.max_length
        if not self.blank:
            found["minLength"] = 1
        return found

    def limits(self) -> dict[str, Any]:
        return {} if self.max_length is None else {"max_length": self.max_length}


@dataclass(frozen=True)
class Choice(Field):
    """One of a list of texts or integers.

    Attributes
    ----------
    choices
        The values, or a mapping from value to the name shown to people.
    """

    choices: Sequence[str] | Sequence[int] | Mapping[str, str] | Mapping[int, str] = field(default=())

    option_type: ClassVar[str] = "choice"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_text", {str(value): value for value in self.choices})

    @property
    def shown(self) -> list[dict[str, Any]]:
        """The choices as OPTIONS lists them."""
        names = self.choices if isinstance(self.choices, Mapping) else {value: str(value) for value in self.choices}
        return [{"value": value, "display_name": name} for value, name in names.items()]

    def convert(self, raw: Any, zone: tzinfo) -> Any:
        by_text: dict[str, Any] = self._by_text  # type: ignore[attr-defined]
        text = str(raw)
        if self.blank and text == "":
            return text
        if text not in by_text:
            raise FieldError(f'"{printable(text)}" is not a valid choice.')
        return by_text[text]

    def filter_value(self, raw: str, zone: tzinfo) -> Any:
        # Stored values outside of the list occur (contract 3.1), so a filter may name them.
        if all(isinstance(value, int) for value in self.choices):
            return Integer(self.name).convert(raw, zone)
        return Text(self.name).filter_value(raw, zone)

    def schema(self) -> dict[str, Any]:
        values = list(self.choices)
        return {"type": "integer" if isinstance(values[0], int) else "string", "enum": values}


@dataclass(frozen=True)
class Integer(Field):
    """A whole number; text that looks like one is accepted.

    Attributes
    ----------
    bits
        32 or 64, signed.
    minimum, maximum
        Narrower limits, inclusive.
    """

    bits: Literal[32, 64] = field(default=32, kw_only=True)
    minimum: int | None = field(default=None, kw_only=True)
    maximum: int | None = field(default=None, kw_only=True)

    option_type: ClassVar[str] = "integer"

    @cached_property
    def range(self) -> tuple[int, int]:
        """The smallest and the largest value."""
        edge: int = 2 ** (self.bits - 1)
        low = -edge if self.minimum is None else self.minimum
        return low, edge - 1 if self.maximum is None else self.maximum

    def convert(self, raw: Any, zone: tzinfo) -> int:
        if isinstance(raw, str) and len(raw) > 1000:
            raise FieldError(LONG_NUMBER)
        try:
            # "12.0" and 1e3 are whole; booleans spell themselves and fail.
            value = raw if type(raw) is int else int(re.sub(r"\.0*\s*$", "", str(raw)))
        except ValueError:
            raise FieldError("A valid integer is required.") from None
        low, high = self.range
        if value > high:
            raise FieldError(f"Ensure this value is less than or equal to {high}.")
        if value < low:
            raise FieldError(f"Ensure this value is greater than or equal to {low}.")
        return value

    def schema(self) -> dict[str, Any]:
        low, high = self.range
        return {"type": "integer", "minimum": low, "maximum": high}

    def limits(self) -> dict[str, Any]:
        low, high = self.range
        return {"min_value": low, "max_value": high}


@dataclass(frozen=True)
class Float(Field):
    """A finite floating-point number."""

    option_type: ClassVar[str] = "float"

    def convert(self, raw: Any, zone: tzinfo) -> float:
        if isinstance(raw, str) and len(raw) > 1000:
            raise FieldError(LONG_NUMBER)
        try:
            value = float(raw)
        except (TypeError, ValueError, OverflowError):
            raise FieldError("A valid number is required.") from None
        if not math.isfinite(value):
            # One stored NaN made every list of the original a 500 (contract 3.8; decision 13).
            raise FieldError("A valid number is required.")
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}


_TRUE = {"t", "T", "y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON", "1", 1}
_FALSE = {"f", "F", "n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF", "0", 0}


@dataclass(frozen=True)
class Boolean(Field):
    """True or false in the many spellings of contract 2.4 and 18.5."""

    option_type: ClassVar[str] = "boolean"

    def parse(self, raw: Any, zone: tzinfo) -> bool | None:
        if self.null and (raw is None or raw in ("", "null", "Null", "NULL")):
            return None
        value: bool | None = super().parse(raw, zone)
        return value

    def convert(self, raw: Any, zone: tzinfo) -> bool:
        if isinstance(raw, str | int | float):
            if raw in _TRUE:
                return True
            if raw in _FALSE:
                return False
        raise FieldError("Must be a valid boolean.")

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


BAD_DATETIME = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
_DATETIME = re.compile(
    r"(?P<date>\d{4}-\d{1,2}-\d{1,2})"
    r"(?:[T ](?P<hour>\d{1,2}):(?P<minute>\d{1,2})"
    r"(?::(?P<second>\d{1,2})(?:[.,](?P<fraction>\d{1,6})\d*)?)?"
    r"\s*(?P<zone>Z|[+-]\d{2}(?::?\d{2}(?::?\d{2})?)?)?)?",
    re.ASCII,
)


def parse_datetime(raw: str, zone: tzinfo) -> datetime | None:
    """Read a date-time in the forms of contract 2.3.

    Parameters
    ----------
    raw
        Text.
    zone
        Where a value without an offset is; a time that a clock change repeats is its first occurrence.

    Returns
    -------
    datetime or None
        In UTC, as PostgreSQL takes no offsets of 16 hours and more; None when the text is no date-time.

    Raises
    ------
    OverflowError
        The instant is before year 1 or after year 9999 in UTC or in ``zone``.
    """
    found = _DATETIME.fullmatch(raw)
    if found is None:
        return None
    year, month, day = map(int, found["date"].split("-"))
    hour, minute, second = int(found["hour"] or 0), int(found["minute"] or 0), int(found["second"] or 0)
    try:
        naive = datetime(year, month, day, hour, minute, second, int((found["fraction"] or "0").ljust(6, "0")))  # noqa: DTZ001
        value = naive.replace(tzinfo=_offset(found["zone"]) if found["zone"] else zone)
    except ValueError:
        return None
    instant = value.astimezone(UTC)
    instant.astimezone(zone)
    return instant


def whole_minutes(moment: datetime) -> datetime:
    """Return the same instant at an offset without seconds; local mean times have some, which no format can say."""
    seconds = (moment.utcoffset() or timedelta()).seconds % 60
    if not seconds:
        return moment
    return moment.astimezone(timezone((moment.utcoffset() or timedelta()) + timedelta(seconds=60 - seconds)))


def _offset(text: str) -> tzinfo:
    # The standard library reads offsets, and knows that they end before 24 hours.
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "")
    spelled = ":".join(digits[at : at + 2] for at in range(0, len(digits), 2))
    parsed = datetime.fromisoformat(f"2000-01-01T00:00:00{text[0]}{spelled}").tzinfo
    assert parsed is not None
    return parsed


@dataclass(frozen=True)
class DateTime(Field):
    """An instant."""

    option_type: ClassVar[str] = "datetime"

    def convert(self, raw: Any, zone: tzinfo) -> datetime:
        try:
            value = parse_datetime(raw, zone) if isinstance(raw, str) else None
        except OverflowError:
            raise FieldError("Datetime value out of range.") from None
        if value is None:
            raise FieldError(BAD_DATETIME)
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "date-time"}


_HOST = re.compile(
    r"(?:[a-z0-9\u00a1-\uffff](?:[a-z0-9\u00a1-\uffff-]{0,61}[a-z0-9\u00a1-\uffff])?\.)*"
    r"[a-z0-9\u00a1-\uffff](?:[a-z0-9\u00a1-\uffff-]{0,61}[a-z0-9\u00a1-\uffff])?\.?",
    re.IGNORECASE,
)
_TOP_LEVEL = re.compile(r"(?:.*\.)?(?:localhost|[a-z\u00a1-\uffff-]{2,63}|xn--[a-z0-9]{1,59})\.?", re.IGNORECASE)


def is_url(text: str) -> bool:
    """Tell whether a text is an absolute http, https, ftp or ftps URL with a sound host."""
    if re.search(r"[\s\x00-\x1f<>]", text):
        return False
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    if (
        parts.scheme not in ("http", "https", "ftp", "ftps")
        or not host
        or (port is None and parts.netloc.endswith(":"))
    ):
        return False
    try:
        ipaddress.ip_address(host)
    except ValueError:
        named = host == "localhost" or "." in host
        return named and len(host) <= 253 and bool(_HOST.fullmatch(host)) and bool(_TOP_LEVEL.fullmatch(host))
    return True


@dataclass(frozen=True)
class Url(Text):
    """An absolute URL."""

    option_type: ClassVar[str] = "url"

    def convert(self, raw: Any, zone: tzinfo) -> str:
        value = _text(raw).strip()
        if not value:
            if not self.blank:
                raise FieldError(NOT_BLANK)
            return value
        errors = _forbidden(value, self.max_length)
        if not is_url(value):
            errors.insert(0, "Enter a valid URL.")
        if errors:
            raise FieldError(*errors)
        return value

    def schema(self) -> dict[str, Any]:
        found = super().schema()
        return {**found, "anyOf": [{"format": "uri"}, {"maxLength": 0}]} if self.blank else {**found, "format": "uri"}


@dataclass(frozen=True)
class Uuid(Field):
    """A UUID, in any of its spellings."""

    option_type: ClassVar[str] = "string"

    def convert(self, raw: Any, zone: tzinfo) -> uuid.UUID:
        try:
            if isinstance(raw, int) and not isinstance(raw, bool):
                return uuid.UUID(int=raw)
            if isinstance(raw, str):
                return uuid.UUID(hex=raw)
        except ValueError:
            pass
        raise FieldError("Must be a valid UUID.")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "format": "uuid"}


@dataclass(frozen=True)
class Ip(Field):
    """An IPv4 or IPv6 address; comes back in its shortest form (contract 18.8)."""

    option_type: ClassVar[str] = "string"

    def convert(self, raw: Any, zone: tzinfo) -> str:
        if isinstance(raw, str) and not raw.strip():
            raise FieldError(NOT_BLANK)
        try:
            address = ipaddress.ip_address(raw.strip() if isinstance(raw, str) else "")
        except ValueError:
            raise FieldError("Enter a valid IPv4 or IPv6 address.") from None
        if isinstance(address, ipaddress.IPv6Address):
            if address.scope_id is not None:
                raise FieldError("Enter a valid IPv4 or IPv6 address.")
            return str(address.ipv4_mapped or address)
        return str(address)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}


# Made once, as json.dumps makes one a call where it is told anything. What was parsed holds nothing that holds itself.
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False).encode


@dataclass(frozen=True)
class Json(Field):
    """Any JSON value."""

    def convert(self, raw: Any, zone: tzinfo) -> Any:
        try:
            text = _encode(raw)
        except (ValueError, TypeError, RecursionError):
            raise FieldError("Value must be valid JSON.") from None
        errors = []
        if "\\u0000" in text and JSON_NUL.search(text):
            # PostgreSQL's jsonb has no place for it.
            errors.append("Null characters are not allowed.")
        if found := SURROGATE.search(text):
            errors.append(f"Surrogate characters are not allowed: U+{ord(found[0]):X}.")
        if 50 * len(text) > LONGEST_JSON and len(text) + sum(map(int, EXPONENT.findall(text))) > LONGEST_JSON:
            errors.append(f"Ensure this field has no more than {LONGEST_JSON} characters, exponents written out.")
        if errors:
            raise FieldError(*errors)
        return raw

    def schema(self) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class Derived(Field):
    """What the database works out for each row; clients cannot set it.

    Attributes
    ----------
    sql
        Expression over the columns of the row, each spelled with its table.
    kind
        Name of its JSON type.
    """

    sql: str = field(kw_only=True)
    kind: str = field(default="string", kw_only=True)

    @property
    def writable(self) -> bool:
        return False

    def schema(self) -> dict[str, Any]:
        return {"type": self.kind}


@dataclass(frozen=True)
class ForeignKey(Field):
    """A reference to a row of another resource of the same service.

    Attributes
    ----------
    to
        The resource referred to.
    slug
        Name of the unique field that stands for the row on the wire; None for its key.
    stored_as
        Column that holds the key of the row; the field's name unless given.
    """

    to: "Resource" = field(default=None)  # type: ignore[assignment]
    slug: str | None = field(default=None, kw_only=True)
    stored_as: str | None = field(default=None, kw_only=True)

    @property
    def column(self) -> str:
        return self.stored_as or self.name

    @property
    def target(self) -> Field:
        """The field of the other resource whose value is sent."""
        return self.to.field(self.slug or self.to.key)

    def absent(self, raw: Any) -> str:
        """Return the message for a row that does not exist."""
        shown = printable(str(raw))
        if self.slug:
            return f"Object with {self.slug}={shown} does not exist."
        return f'Invalid pk "{shown}" - object does not exist.'

    def parse(self, raw: Any, zone: tzinfo) -> Any:
        return super().parse(None if raw == "" else raw, zone)

    def convert(self, raw: Any, zone: tzinfo) -> Any:
        target = self.target
        if self.slug:
            if isinstance(raw, list | dict) or (isinstance(raw, str) and ("\x00" in raw or SURROGATE.search(raw))):
                raise FieldError("Invalid value.")
            return str(raw)
        wrong = FieldError(f"Incorrect type. Expected pk value, received {type(raw).__name__}.")
        if isinstance(raw, bool | list | dict) or (isinstance(raw, float) and not raw.is_integer()):
            raise wrong
        if isinstance(target, Uuid):
            try:
                return target.convert(raw, zone)
            except FieldError:
                raise FieldError(f"“{printable(str(raw))}” is not a valid UUID.") from None
        if not isinstance(target, Integer):
            return str(raw)
        try:
            value = int(raw)
        except ValueError:
            raise wrong from None
        low, high = target.range
        if not low <= value <= high:
            raise FieldError(self.absent(raw))
        return value

    def schema(self) -> dict[str, Any]:
        return self.target.schema()
