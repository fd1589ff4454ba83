"""Log records of OpenTelemetry: from the OTLP protocol to ours (OTLP 1.x, "OTLP/HTTP" and the log data model)."""

import base64
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import DecodeError, Message
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord

from sluice_logs.days import utc_now
from sluice_logs.tables import LEVELS

__all__ = ["JSON", "PROTOBUF", "Malformed", "decode", "encode", "outcome", "records", "refusal"]

PROTOBUF = "application/x-protobuf"
JSON = "application/json"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# What a record must have and OpenTelemetry may leave out.
NOTHING = "-"
# SystemError: what protobuf makes of a key with half a surrogate pair.
UNREADABLE = (
    DecodeError,
    json_format.ParseError,
    ValueError,
    TypeError,
    AttributeError,
    RecursionError,
    SystemError,
)
# Errors of single records that the answer repeats.
SHOWN = 3
IDS = (("traceId", 16), ("spanId", 8))


class Malformed(Exception):
    """The body is not what its media type says."""


def decode(media: str, body: bytes) -> ExportLogsServiceRequest:
    """Read a request; blocks for as long as a large one takes.

    Raises
    ------
    Malformed
        It cannot be read.
    """
    try:
        if media == PROTOBUF:
            return ExportLogsServiceRequest.FromString(body)
        data = json.loads(body)
        _ids_as_base64(data)
        return json_format.ParseDict(data, ExportLogsServiceRequest(), ignore_unknown_fields=True)
    except UNREADABLE as exc:
        raise Malformed(str(exc)[:200]) from None


def encode(media: str, message: Message) -> bytes:
    """Write an answer in the media type of its request."""
    if media == PROTOBUF:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None).encode()


def outcome(errors: Mapping[int, Mapping[str, list[str]]]) -> ExportLogsServiceResponse:
    """Return the answer for a request of which some records are refused, by their places."""
    answer = ExportLogsServiceResponse()
    if errors:
        first = [
            f"record {at}: {name}: {' '.join(texts)}" for at, found in errors.items() for name, texts in found.items()
        ]
        answer.partial_success.rejected_log_records = len(errors)
        answer.partial_success.error_message = "; ".join(first[:SHOWN])
    return answer


def refusal(code: int, message: str) -> Status:
    """Return the answer for a request that is refused as a whole, with a code of gRPC."""
    return Status(code=code, message=message)


def records(request: ExportLogsServiceRequest) -> Iterator[dict[str, Any]]:
    """Yield the records of a request in the form of contract 3.2.

    Attributes of a record are the fields of its ``extra_data``, so ``execution_id`` is found where agents have it;
    what else OpenTelemetry knows is below ``otel`` there.
    """
    for resource_logs in request.resource_logs:
        resource = _object(resource_logs.resource.attributes)
        for scope_logs in resource_logs.scope_logs:
            for record in scope_logs.log_records:
                yield _record(resource, scope_logs.scope, record)


def _record(resource: Mapping[str, Any], scope: InstrumentationScope, record: LogRecord) -> dict[str, Any]:
    own = _object(record.attributes)
    app = _first(resource, "service.name") or "unknown_service"
    level = _level(record.severity_number)
    more = {
        "resource": dict(resource),
        "scope": scope.name,
        "trace_id": record.trace_id.hex(),
        "span_id": record.span_id.hex(),
        "event_name": record.event_name,
        "severity_text": record.severity_text,
    }
    return {
        "app_name": app[:100],
        "instance_name": (_first(resource, "service.instance.id", "host.name") or app)[:100],
        "timestamp": _moment(record.time_unix_nano or record.observed_time_unix_nano),
        "level": level,
        # By number where there is one, as languages spell their levels differently and the summary goes by name.
        "levelname": LEVELS[level] if record.severity_number else (record.severity_text[:50].strip() or LEVELS[0]),
        "message": _text(_value(record.body)).strip() or record.event_name or NOTHING,
        "module": (_first(own, "code.file.path", "code.filepath", "code.namespace") or scope.name or NOTHING)[-255:],
        "funcname": (_first(own, "code.function.name", "code.function") or NOTHING)[-255:],
        "lineno": _number(own, "code.line.number", "code.lineno"),
        "process": _number(resource, "process.pid"),
        "thread": _number(own, "thread.id", bits=64),
        "extra_data": {**own, "otel": {key: value for key, value in more.items() if value}},
    }


def _level(severity: int) -> int:
    """Return the level of a severity number: four of these make one of ours, traces count as DEBUG."""
    return 0 if severity <= 0 else min(50, 10 * max(1, (severity - 1) // 4))


def _moment(nanoseconds: int) -> str:
    at = EPOCH + timedelta(microseconds=nanoseconds // 1000) if nanoseconds else utc_now()
    return at.isoformat()


def _first(attributes: Mapping[str, Any], *names: str) -> str:
    return next((text for name in names if (text := _text(attributes.get(name)).strip())), "")


def _number(attributes: Mapping[str, Any], *names: str, bits: int = 32) -> int:
    for name in names:
        value = attributes.get(name)
        if isinstance(value, int) and -(2 ** (bits - 1)) <= value < 2 ** (bits - 1):
            return value
    return 0


def _text(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _object(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {each.key: _value(each.value) for each in attributes}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "kvlist_value":
        return _object(value.kvlist_value.values)
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "bytes_value":
        return base64.b64encode(value.bytes_value).decode()
    if kind == "double_value":
        # JSON has no words for the others.
        return value.double_value if math.isfinite(value.double_value) else str(value.double_value)
    return None if kind is None else getattr(value, kind)


def _ids_as_base64(data: Any) -> None:
    """Write ids as protobuf's JSON does: OTLP has them in hexadecimal digits."""
    for resource_logs in data.get("resourceLogs") or ():
        for scope_logs in resource_logs.get("scopeLogs") or ():
            for record in scope_logs.get("logRecords") or ():
                for name, length in IDS:
                    if digits := record.get(name):
                        raw = bytes.fromhex(digits)
                        if len(raw) != length:
                            raise Malformed(f"{name} has {2 * length} hexadecimal digits")
                        record[name] = base64.b64encode(raw).decode()
