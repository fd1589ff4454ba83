"""``/v1/logs``: what exporters of OpenTelemetry send comes back from the list."""

import gzip
import json
import logging
from typing import Any

import pytest
import requests
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from starlette.testclient import TestClient

from sluice_core.testing.apps import AppMaker, Start
from sluice_core.testing.serving import serving
from sluice_core.testing.tokens import Tokens

from .records import URL

PATH = "/v1/logs"
PROTOBUF = "application/x-protobuf"


@pytest.mark.parametrize("compression", [Compression.NoCompression, Compression.Gzip])
def test_records_of_the_official_sdk_come_back_with_their_attributes(
    make_app: AppMaker, compression: Compression
) -> None:
    resource = Resource({"service.name": "daq_sim", "service.instance.id": "daq-7", "process.pid": 4711})
    with serving(make_app()) as served:
        provider = LoggerProvider(resource, shutdown_on_exit=False)
        exporter = OTLPLogExporter(f"{served.url}{PATH}", compression=compression)
        provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
        provider.get_logger("daq.io").emit(
            timestamp=1_777_975_200_123_456_789,
            severity_number=SeverityNumber.ERROR,
            severity_text="ERR",
            body="lost link",
            attributes={
                "execution_id": "fast-ada-0001",
                "tries": 3,
                "ratio": 0.5,
                "hosts": ("a", "b"),
                "code.lineno": 7,
            },
        )
        provider.shutdown()
        (row,) = requests.get(f"{served.url}{URL}", params={"execution_id": "fast-ada-0001"}, timeout=10).json()
    assert row["app_name"] == "daq_sim"
    assert row["instance_name"] == "daq-7"
    assert (row["level"], row["levelname"], row["message"]) == (40, "ERROR", "lost link")
    assert row["timestamp"] == "2026-05-05T10:00:00.123456Z"
    assert (row["process"], row["lineno"], row["module"]) == (4711, 7, "daq.io")
    extra = row["extra_data"]
    assert (extra["tries"], extra["ratio"], extra["hosts"]) == (3, 0.5, ["a", "b"])
    assert extra["otel"]["resource"]["service.name"] == "daq_sim"
    assert (extra["otel"]["scope"], extra["otel"]["severity_text"]) == ("daq.io", "ERR")


def otlp(*given: dict[str, Any]) -> dict[str, Any]:
    """Return a request in JSON."""
    service = {"key": "service.name", "value": {"stringValue": "a"}}
    return {"resourceLogs": [{"resource": {"attributes": [service]}, "scopeLogs": [{"logRecords": list(given)}]}]}


def rows(client: TestClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = sorted(client.get(URL).json(), key=lambda row: row["id"])
    return found


def test_json_with_hexadecimal_ids_and_numbers_as_text(client: TestClient) -> None:
    record = {
        "timeUnixNano": "1777975200000000000",
        "severityNumber": 9,
        "body": {"kvlistValue": {"values": [{"key": "n", "value": {"intValue": "9007199254740993"}}]}},
        "traceId": "5b8efff798038103d269b633813fc60c",
        "spanId": "eee19b7ec3c1b174",
        "unknown": True,
    }
    reply = client.post(PATH, json=otlp(record))
    assert (reply.status_code, reply.json()) == (200, {})
    (row,) = rows(client)
    assert (row["message"], row["levelname"]) == ('{"n":9007199254740993}', "INFO")
    assert row["extra_data"]["otel"]["trace_id"] == "5b8efff798038103d269b633813fc60c"
    assert row["extra_data"]["otel"]["span_id"] == "eee19b7ec3c1b174"


def test_every_severity_number_has_a_level(client: TestClient) -> None:
    expected = [0] + [10] * 8 + [20] * 4 + [30] * 4 + [40] * 4 + [50] * 4
    client.post(PATH, json=otlp(*({"severityNumber": number} for number in range(25))))
    assert [row["level"] for row in rows(client)] == expected
    assert {row["message"] for row in rows(client)} == {"-"}


def test_a_record_that_cannot_be_stored_is_a_partial_success_and_the_others_are_there(client: TestClient) -> None:
    attributes = [{"key": "x", "value": {"doubleValue": "NaN"}}]
    bad, odd = ({"body": {"stringValue": text}, "attributes": attributes} for text in ("a\0b", "fine"))
    reply = client.post(PATH, json=otlp(bad, odd))
    assert reply.status_code == 200
    assert reply.json()["partialSuccess"]["rejectedLogRecords"] == "1"
    assert "message" in reply.json()["partialSuccess"]["errorMessage"]
    (row,) = rows(client)
    assert (row["message"], row["extra_data"]["x"]) == ("fine", "nan")


def test_an_answer_has_the_type_of_its_request(client: TestClient) -> None:
    reply = client.post(PATH, content=b"", headers={"Content-Type": PROTOBUF})
    assert (reply.status_code, reply.headers["content-type"]) == (200, PROTOBUF)
    assert not ExportLogsServiceResponse.FromString(reply.content).HasField("partial_success")


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"\xff\xff", {"Content-Type": PROTOBUF}, 400),
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"[]", {"Content-Type": "application/json"}, 400),
        (json.dumps({"resourceLogs": 7}).encode(), {"Content-Type": "application/json"}, 400),
        (json.dumps(otlp({"traceId": "xyz"})).encode(), {"Content-Type": "application/json"}, 400),
        (json.dumps(otlp({"traceId": "ab"})).encode(), {"Content-Type": "application/json"}, 400),
        (json.dumps(otlp({"timeUnixNano": "soon"})).encode(), {"Content-Type": "application/json"}, 400),
        (b"[" * 100_000, {"Content-Type": "application/json"}, 400),
        (b'{"\\ud800": 2}', {"Content-Type": "application/json"}, 400),
        (gzip.compress(b"{}", mtime=0)[:-4], {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 400),
        (b"{}", {"Content-Type": "application/json", "Content-Encoding": "br"}, 415),
        (gzip.compress(b" " * 2**25, mtime=0), {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 413),
        (json.dumps(otlp(*[{}] * 10_001)).encode(), {"Content-Type": "application/json"}, 413),
        (b"x", {"Content-Type": "text/plain"}, 415),
        (b"x", {}, 415),
    ],
)
def test_what_cannot_be_read_is_refused_and_nothing_is_stored(
    client: TestClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    assert client.post(PATH, content=content, headers=headers).status_code == status
    assert rows(client) == []


def test_without_postgresql_and_nats_an_exporter_is_told_to_try_again(
    client: TestClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.CRITICAL)
    from sluice_logs.writer import LineFull, Writer

    async def full(*_: object, **__: object) -> None:
        raise LineFull("too many records wait")

    monkeypatch.setattr(Writer, "write", full)
    reply = client.post(PATH, json=otlp({}))
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert reply.json() == {"code": 14, "message": "too many records wait"}


def test_a_site_may_ask_for_the_right_to_write(start: Start, tokens: Tokens) -> None:
    closed = start(anonymous_post=False)
    assert closed.post(PATH, json=otlp({})).status_code == 401
    assert closed.post(PATH, json=otlp({}), headers=tokens.header("agents:write")).status_code == 403
    assert closed.post(PATH, json=otlp({}), headers=tokens.header("logs:write")).status_code == 200


def test_the_rate_of_a_source_counts_here_too(start: Start) -> None:
    client = start(post_rate=0.2)
    statuses = [client.post(PATH, json=otlp({})).status_code for _ in range(5)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
