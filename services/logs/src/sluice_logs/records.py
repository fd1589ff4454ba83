"""A log record from what somebody sent to the line that PostgreSQL copies (contract 3.2, 2.4)."""

import json
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Annotated, Any, Literal

import msgspec

from sluice_core.database.copying import NULL, escaped, joined, unescaped
from sluice_core.rest import Invalid
from sluice_core.rest.body import parse
from sluice_core.rest.fields import whole_minutes
from sluice_core.rest.store import WHOLE_OFFSETS
from sluice_core.rest.validate import created, mapping
from sluice_logs.resources import LOGS

__all__ = ["Reader", "Record", "shown"]

JSON = "application/json"


class Record(msgspec.Struct, frozen=True):
    """A record that PostgreSQL will take, in the two forms that are needed of it.

    Attributes
    ----------
    columns
        All but ``id`` and ``received_on``, in COPY's text form.
    shown
        The rest of its JSON object after ``id``, as it is shown in the server zone.
    """

    columns: bytes
    shown: bytes

    def line(self, key: int, day: date) -> bytes:
        """Return what `sluice_logs.store.RecordStore` copies."""
        return b"%d\t%b\t%b\n" % (key, self.columns, day.isoformat().encode())

    def answer(self, key: int) -> bytes:
        """Return the JSON object of the stored record."""
        return b'{"id":%d,%b' % (key, self.shown)


Text50 = Annotated[str, msgspec.Meta(max_length=50)]
Text100 = Annotated[str, msgspec.Meta(max_length=100)]
Text255 = Annotated[str, msgspec.Meta(max_length=255)]
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Usual(msgspec.Struct):
    """A record in the form that programs send; whatever differs is left to the fields of the resource."""

    app_name: Text100
    instance_name: Text100
    timestamp: str
    levelname: Text50
    message: str
    module: Text255
    funcname: Text255
    lineno: Int32
    process: Int32
    thread: Int64
    level: Literal[0, 10, 20, 30, 40, 50] = 0
    extra_data: Any = None


# What `datetime.fromisoformat` reads as the field does, and far from the ends of the calendar.
_USUAL_TIME = re.compile(
    r"(?:19[89]|2\d\d)\d-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{6}|\.\d{3})?(?:Z|[+-]\d\d:\d\d)?", re.ASCII
)
_usual = msgspec.json.Decoder(_Usual)
_encoder = msgspec.json.Encoder()


class Reader:
    """Reads records.

    Parameters
    ----------
    zone
        Where times without an offset are, and in which records are shown (contract 2.3).
    """

    def __init__(self, zone: tzinfo) -> None:
        self._zone = zone

    def read(self, body: bytes, content_type: str = JSON) -> Record:
        """Read one record from a body.

        Raises
        ------
        ApiError
            The body cannot be parsed, or is not valid, in the words of the contract.
        """
        if content_type == JSON:
            record = self._quickly(body)
            if record is not None:
                return record
        return self.take(parse(content_type, body))

    def take(self, data: Any) -> Record:
        """Make a record of a parsed body.

        Raises
        ------
        Invalid
            Each bad field with its messages.
        """
        values, errors = created(LOGS, mapping(data), self._zone)
        if errors:
            raise Invalid({name: errors[name] for name in LOGS.by_name if name in errors})
        return self._record(values)

    def _quickly(self, body: bytes) -> Record | None:
        """Read a record of the usual form; None when it is another one, right or wrong."""
        try:
            usual = _usual.decode(body)
            values = {name: getattr(usual, name) for name in _NAMES}
            at = usual.timestamp
            if not _USUAL_TIME.fullmatch(at):
                return None
            moment = datetime.fromisoformat(at)
            values["timestamp"] = (moment if moment.tzinfo else moment.replace(tzinfo=self._zone)).astimezone(UTC)
            for name in _TEXTS:
                text = values[name] = values[name].strip()
                if not text:
                    return None
            record = self._record(values)
        except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError):
            return None
        # PostgreSQL has no place for it; the fields know whether it is one and what to say.
        return None if b"\0" in record.columns or b"\\u0000" in record.columns else record

    def _record(self, values: Mapping[str, Any]) -> Record:
        at: datetime = values["timestamp"]
        shown = at.astimezone(self._zone)
        extra = values["extra_data"]
        encoded = None if extra is None else _json(extra)
        row = {**values, "timestamp": whole_minutes(shown) if shown.year < WHOLE_OFFSETS else shown}
        row["extra_data"] = None if encoded is None else msgspec.Raw(encoded)
        columns = joined(
            (
                values["app_name"],
                values["instance_name"],
                at.isoformat(),
                str(values["level"]),
                values["levelname"],
                values["message"],
                values["module"],
                values["funcname"],
                str(values["lineno"]),
                str(values["process"]),
                str(values["thread"]),
            )
        )
        last = NULL if encoded is None else escaped(encoded.decode())
        return Record(f"{columns}\t{last}".encode(), _encoder.encode({name: row[name] for name in _NAMES})[1:])


_NAMES = tuple(field.name for field in LOGS.writable)
_NUMBERS = ("level", "lineno", "process", "thread")
_TEXTS = ("app_name", "instance_name", "levelname", "message", "module", "funcname")


def _json(value: Any) -> bytes:
    try:
        return _encoder.encode(value)
    except (OverflowError, ValueError, RecursionError):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def shown(line: bytes, zone: tzinfo) -> dict[str, Any]:
    """Read a line again that `Record.line` has made.

    Returns
    -------
    dict
        The row as the list has it; ``extra_data`` is `msgspec.Raw`, or None.
    """
    key, *texts = line[:-1].decode().split("\t")
    # Behind them comes only the day of arrival.
    row: dict[str, Any] = {
        name: None if text == NULL else unescaped(text) for name, text in zip(_NAMES, texts[:-1], strict=True)
    }
    at = datetime.fromisoformat(row["timestamp"]).astimezone(zone)
    row["timestamp"] = whole_minutes(at) if at.year < WHOLE_OFFSETS else at
    for name in _NUMBERS:
        row[name] = int(row[name])
    extra = row["extra_data"]
    row["extra_data"] = None if extra is None else msgspec.Raw(extra.encode())
    return {"id": int(key), **row}
