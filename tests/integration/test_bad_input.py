"""Whatever comes in: a refusal and never a 5xx, over every declared route of every service, byte by byte."""

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from sluice_core.testing import eventually
from tests.integration.platforms import Client, Up

DOCUMENTS = sorted((Path(__file__).parents[2] / "docs" / "openapi").glob("*.json"))
WRITES = {"post", "put", "patch"}
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
# Tags of all kinds have the same fields.
TAGS = ("/pcs/api/simu-tags/", "/pcs/api/reco-tags/", "/pcs/api/background-tags/")
# Served by the same code as others of their kind, that is by nothing but their declaration: their fields are enough.
SAME = (
    *TAGS,
    "/api/system-state-events/",
    "/api/workflow-definitions/",
    "/api/workflow-executions/",
    "/api/message-dispatches/",
)
ROUTES = {
    path: operations
    for document in DOCUMENTS
    for path, operations in json.loads(document.read_text())["paths"].items()
    if not path.startswith(SAME)
}
every_route = pytest.mark.parametrize("template", ROUTES)

METHODS = [
    *("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "TRACE", "CONNECT", "PROPFIND", "MKCOL", "LOCK", "REPORT"),
    *("PURGE", "LINK", "QUERY", "BREW", "get", "PoSt", "G\x00T", "GE(T", "X-1", "M-SEARCH", "G" * 10_000),
]

BODIES: Sequence[tuple[str, bytes]] = [
    *(
        (JSON, body)
        for body in (
            b"",
            b"{",
            b"}",
            b'{"a"',
            b"nul",
            b"null",
            b"true",
            b"1",
            b'"text"',
            b"[]",
            b"[1]",
            b"{}",
            b"{} {}",
            b"{'a': 1}",
            b"\xff\xfe{\x00}\x00",
            b"\xef\xbb\xbf{}",
            b'{"a": "\xff"}',
            b'{"a": "\\ud800"}',
            b'{"a": "\\u0000"}',
            b'{"\\u0000": 1, "\\ud800": 2}',
            b"{" + b'"a":{' * 50_000,
            b"[" * 100_000,
            b"[" * 100_000 + b"]" * 100_000,
            b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
            b'{"a": NaN, "b": Infinity, "c": -Infinity}',
            b'{"a": 1e400}',
            b'{"a": ' + b"9" * 5_000 + b"}",
            b'{"a": -0.0, "a": 2}',
            b"\x00" * 10,
        )
    ),
    *((media, b"{}") for media in ("text/plain", "", "a/b/c", "application", ";", "application/json; charset=utf-7")),
    *((media, b"{}") for media in ("application/json; charset=nonsense", "APPLICATION/JSON", "x" * 5_000, "\xff\xfe")),
    *((FORM, body) for body in (b"%", b"%zz=%zz", b"a=%00&b=%ff", b"&" * 10_000, b"a=" + b"%f0" * 1_000, b"\xff=\xff")),
    *(
        (MULTIPART, body)
        for body in (
            b"",
            b"--b",
            b"--b--",
            b"--b\r\n\r\n--b--\r\n",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n\x00\xff\r\n--b--\r\n',
            b'--b\r\nContent-Disposition: form-data; name="a"; filename="f"\r\n\r\n\x00\xff\r\n--b--\r\n',
            b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n",
            b"--b\r\n" + b"X-A: b\r\n" * 5_000 + b"\r\nx\r\n--b--\r\n",
            b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n' * 3_000 + b"--b--\r\n",
        )
    ),
    *(
        ("multipart/form-data" + rest, b"--b--")
        for rest in ("", "; boundary=", '; boundary="', "; boundary=" + "b" * 300)
    ),
]

VALUES: Sequence[Any] = [
    None,
    True,
    -1,
    1.5,
    2**31,
    2**63,
    10**400,
    1e308,
    "",
    " ",
    "x" * 300,
    "1" * 1_001,
    "\x00",
    "\ud800",
    "a\x00b",
    "NaN",
    "🙂" * 100,
    "2026-13-45T99:99:99",
    "0001-01-01T00:00:00+14:00",
    "9999-12-31T23:59:59-14:00",
    "2026-05-05T10:00:00.123456789012345",
    "http://[::1",
    "http://a b/",
    "::ffff:999.1.1.1",
    [],
    [1],
    {},
    {"a": {"b": [None]}},
    {"\x00": "\ud800"},
    ["x" * 10_000],
]

TEXTS = [
    *("", "%", "%zz", "%00", "%ff", "%ed%a0%80", "-1", "0", "1.5", "9" * 30, "9" * 5_000, "NaN", "true", "x", "'", '"'),
    *("%27%20OR%201=1", "a%2Fb", "..%2f..", "%2e%2e", "2026-05-05", "2026-13-45", "%F0%9F%99%82", "%5C", "%25s", "*"),
    *("&&&", "=", "%26%3D", "a=b=c", "%0d%0aX-A:%20b", "@@", "%3A*%20%7C%20!", "!", "(((", "%22a", "a&", "x" * 3_000),
]

PATHS = [
    *("%", "%z", "%zz/", "%00", "%00/", "%ff/", "%ed%a0%80/", "%2F", "%2f/", "%2e%2e/", "../", "..;/", "./", "//", "/"),
    *("\\", "a/b/c/", ".json", ".json/", ".api", ".xml", "x.json", "x.json/", ".", "..", "~", "*", ":", "@", ";a=b/"),
    *("9" * 30 + "/", "9" * 1_100 + "/", "x" * 5_000 + "/", "%F0%9F%99%82/", "None/", "null/", "-1/", "0/", "1e3/"),
    *("1%20/", "+1/", "1_000/", "heartbeat", "heartbeat/1/", "#", "?", "??", "?#", "?%", "?%ff=%00", "?=&=", "?a[]=1"),
]

HEADERS = [
    "Accept: */*;q=nonsense, , ;;, text/",
    "Accept: application/xml",
    "Accept: " + "a/b," * 3_000,
    "Accept: \xff\xfe",
    "Content-Type: \xff",
    "Authorization: Token",
    "Authorization: Token a b",
    "Authorization: Token \xff\xfe",
    "Authorization: Token " + "x" * 20_000,
    "Authorization: Bearer a.b.c",
    "Authorization: Bearer ....",
    "Authorization: Bearer eyJhbGciOiJub25lIn0..",
    "Authorization: Basic \xff",
    "Authorization: Basic YTpi",
    "Authorization: Digest a",
    "Authorization: \x01",
    "X-Auth-Token: a\r\nX-Auth-Token: b",
    "Token: x",
    "Cookie: sessionid=\xff; csrftoken",
    "Host: \xff\xfe",
    "Host: a b c",
    "Host: http://evil/\r\nHost: other",
    "X-Forwarded-For: 127.0.0.1, \xff",
    "X-Forwarded-Proto: gopher",
    "X-Forwarded-Host: evil",
    "X-Request-ID: " + "x" * 5_000,
    "X-Request-ID: a\tb",
    "traceparent: 00-\xff-x-01",
    "baggage: \xff=;,=",
    "Idempotency-Key: \xff",
    "Range: bytes=9-1",
    "If-Match: \xff",
    "If-Modified-Since: yesterday",
    "Expect: 200-ok",
    "Upgrade: h2c\r\nHTTP2-Settings: x",
    "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x",
    "X-Big: " + "x" * 100_000,
    "\r\n".join(f"X-{number}: y" for number in range(2_000)),
    "no colon",
    ": no name",
    "X-Folded: a\r\n b",
    "X-Null: a\x00b",
]

# After these a server may wait for more; the connection is then closed on our side.
UNFINISHED = [
    "Content-Length: -1",
    "Content-Length: 5",
    "Content-Length: 9" + "9" * 30,
    "Content-Length: 1, 2",
    "Content-Length: x",
    "Transfer-Encoding: nonsense",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 5",
    "Expect: 100-continue\r\nContent-Length: 5",
]


LOG_TEXTS = ("app_name", "instance_name", "levelname", "message", "module", "funcname")
LOG_RECORD = {**dict.fromkeys(LOG_TEXTS, "x"), "lineno": 1, "process": 1, "thread": 1, "timestamp": "2026-05-05"}
# What makes a body whole but for the field that is tried, so that its value gets as far as it can.
BASES: Mapping[str, Mapping[str, Any]] = {
    "/api/systemagents/heartbeat/": {"instance_name": "bad-input"},
    "/api/namespaces/ensure/": {"name": "bad-input", "owner": "ada"},
    "/api/auth/tokens/": {"name": "bad-input"},
    "/api/logs/": LOG_RECORD,
    "/api/messages/": {"message": {"msg_type": "bad-input"}},
    "/api/workflow-messages/": {"message_type": "bad-input", "message_content": {}},
    "/api/runs/": {"run_number": 101, "start_time": "2026-05-05"},
    "/api/run-states/": {
        "run_number": 101,
        "phase": "run",
        "state": "run",
        "state_changed_at": "2026-05-05",
        "target_worker_count": 1,
    },
    "/api/system-state-events/": {
        "timestamp": "2026-05-05",
        "run_number": 101,
        "event_type": "x",
        "state": "run",
        "event_data": {},
    },
    "/api/workflows/": {
        "filename": "bad-input.stf",
        "daq_state": "run",
        "daq_substate": "physics",
        **dict.fromkeys(("generated_time", "stf_start_time", "stf_end_time"), "2026-05-05"),
    },
    "/api/workflow-definitions/": {
        "workflow_name": "bad-input",
        "version": "1",
        "workflow_type": "x",
        "definition": "x",
        "created_by": "ada",
    },
    "/api/tf-slices/": {
        **dict.fromkeys(("slice_id", "tf_first", "tf_last", "tf_count"), 1),
        **dict.fromkeys(("tf_filename", "stf_filename"), "bad-input.tf"),
        "run_number": 101,
    },
}


class Wire:
    """A connection for each request, whose bytes are the test's own."""

    def __init__(self, up: Up) -> None:
        parts = urlsplit(up.http)
        self._address = (parts.hostname or "", parts.port or 0)
        self._token = up.token
        self.faults: list[str] = []

    def send(self, method: str, target: str, *lines: str, body: bytes = b"", unfinished: bool = False) -> None:
        """Send a request, and remember it when it is answered by a 5xx, or not at all and it is not `unfinished`."""
        named = {line.partition(":")[0].lower() for line in "\r\n".join(lines).split("\r\n")}
        head = [f"{method} {target} HTTP/1.1", *lines]
        if "host" not in named:
            head.append("Host: localhost")
        if not named & {"authorization", "x-auth-token", "token"}:
            head.append(f"Authorization: Token {self._token}")
        if not named & {"content-length", "transfer-encoding"}:
            head.append(f"Content-Length: {len(body)}")
        if "connection" not in named:
            head.append("Connection: close")
        raw = "\r\n".join([*head, "", ""]).encode("latin-1") + body
        answer = self._exchange(raw, unfinished)
        good = answer.startswith(b"HTTP/1.1 ") and b"100" <= answer[9:12] < b"500"
        if not good and not (unfinished and not answer):
            self.faults.append(f"{raw[:300]!r} -> {answer[:200]!r}")

    def _exchange(self, raw: bytes, unfinished: bool) -> bytes:
        """Return the beginning of the answer, its status line at the least."""
        answer = b""
        with socket.create_connection(self._address, timeout=20) as connection:
            with contextlib.suppress(OSError):  # it may answer before it has read everything
                connection.sendall(raw)
                if unfinished:
                    connection.shutdown(socket.SHUT_WR)
            try:
                while b"\r\n" not in answer and (part := connection.recv(65536)):
                    answer += part
            except OSError as exc:
                return answer or repr(exc).encode()
        return answer


@pytest.fixture
def wire(platform: Up) -> Iterator[Wire]:
    """What it was answered is looked at when the test is over."""
    wire = Wire(platform)
    yield wire
    assert not wire.faults, f"{len(wire.faults)} faults:\n" + "\n".join(wire.faults[:10])
    assert "Traceback" not in platform.log


@pytest.fixture(scope="module")
def rows(platform: Up) -> Mapping[str, str]:
    """Values of the paths' placeholders that lead to a row."""
    with contextlib.closing(platform.client()) as client:
        worker = {"worker_id": "bad-input", "run_number": 1, "started_at": "2026-05-05"}
        made = {
            "id": client.post("/api/systemagents/", {"instance_name": "bad-input", "agent_type": "test"}),
            "worker_id": client.post("/api/workers/", worker | dict.fromkeys(("panda_job", "location", "status"), "x")),
            "subscriber_id": client.post("/api/subscribers/", {"subscriber_name": "bad-input"}),
            "name": client.post("/api/namespaces/ensure/", {"name": "bad-input", "owner": "ada"}),
            "message_id": client.post("/api/workflow-messages/", BASES["/api/workflow-messages/"]),
        }
        client.post("/api/logs/", LOG_RECORD)
        user = client.post("/api/auth/users/", {"username": "bad-input"})
        token = client.post("/api/auth/tokens/", {"name": "bad-input", "scopes": ["ids:write"]})
        values = {key: answer.json()[key] for key, answer in made.items()}
        values |= {"username": user.json()["username"], "token_id": token.json()["id"]}
        asyncio.run(platform.say("messages.in.bad-input", b"rubbish"))
        values |= run_rows(client)
        values["letter"] = eventually(lambda: client.get("/api/dlq/").json())[0]["id"]
        values["form"] = "ndjson"
        values |= {"digit": 1, "tag_number": 1, "other": 2, "did": "group.EIC:x.b1", "type": "e", "label": "pc1"}
        return {key: quote(str(value), safe="") for key, value in values.items()}


def run_rows(client: Client) -> dict[str, Any]:
    """Make a row of each resource of ``runs``; return the values of its paths' placeholders."""

    def made(name: str, **given: Any) -> dict[str, Any]:
        path = f"/api/{name}/"
        answer = client.post(path, {**BASES.get(path, {}), **given})
        assert answer.status_code == 201, (path, answer.text)
        row: dict[str, Any] = answer.json()
        return row

    run = made("runs")["run_id"]
    file = made("stf-files", run=run, stf_filename="bad-input.stf")["file_id"]
    workflow = made("workflows")["workflow_id"]
    definition = made("workflow-definitions")["id"]
    execution = {"execution_id": "bad-input", "parameter_values": {}, "start_time": "2026-05-05", "executed_by": "ada"}
    made("tf-slices")
    return {
        "run_id": run,
        "run_number": made("run-states")["run_number"],
        "file_id": file,
        "tf_file_id": made("fastmon-files", stf_file="bad-input.stf", tf_filename="bad-input.tf")["tf_file_id"],
        "event_id": made("system-state-events")["event_id"],
        "workflow_id": workflow,
        "stage_id": made("workflow-stages", workflow=workflow, agent_name="x", agent_type="data")["stage_id"],
        "execution_id": made("workflow-executions", workflow_definition=definition, **execution)["execution_id"],
        "dispatch_id": made("message-dispatches", stf_file=file)["dispatch_id"],
    }


def target(template: str, rows: Mapping[str, str]) -> str:
    """Return the path of a route, with a row that exists."""
    for key, value in rows.items():
        template = template.replace(f"{{{key}}}", value)
    assert "{" not in template, f"no row is known for {template}"
    return template


def fields(operation: Mapping[str, Any], document: Mapping[str, Any]) -> list[str]:
    """Return the keys of an operation's JSON body."""
    content = operation.get("requestBody", {}).get("content", {})
    schema = content.get(JSON, {}).get("schema", {})
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return list(schema.get("properties", {}))


@every_route
def test_any_method_is_answered(template: str, wire: Wire, rows: Mapping[str, str]) -> None:
    for method in METHODS:
        wire.send(method, target(template, rows))


@every_route
def test_any_body_is_answered(template: str, wire: Wire, rows: Mapping[str, str]) -> None:
    for method in WRITES & set(ROUTES[template]):
        for media, body in BODIES:
            wire.send(method.upper(), target(template, rows), f"Content-Type: {media}", body=body)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_any_value_of_any_field_is_answered(document: Path, wire: Wire, rows: Mapping[str, str]) -> None:
    known = json.loads(document.read_text())
    for template, operations in known["paths"].items():
        for method in () if template.startswith(TAGS) else ("post", "patch"):
            for name in fields(operations.get(method, {}), known):
                for value in VALUES:
                    body = json.dumps({**BASES.get(template, {}), name: value}).encode()
                    wire.send(method.upper(), target(template, rows), f"Content-Type: {JSON}", body=body)


@every_route
def test_any_query_is_answered(template: str, wire: Wire, rows: Mapping[str, str]) -> None:
    parameters = [*ROUTES[template].get("parameters", ()), *ROUTES[template].get("get", {}).get("parameters", ())]
    declared = sorted(each["name"] for each in parameters if each["in"] == "query")
    for name, text in itertools.product(declared, TEXTS):
        wire.send("GET", f"{target(template, rows)}?{name}={text}")
    for name, text in itertools.product(("format", "offset", "%ff", "", "cursor"), TEXTS[:8]):
        wire.send("GET", f"{target(template, rows)}?{name}={text}&limit=2")


@every_route
def test_any_path_is_answered(template: str, wire: Wire, rows: Mapping[str, str]) -> None:
    for path, method in itertools.product(PATHS, ("GET", "PATCH")):
        wire.send(method, target(template, rows) + path)
        wire.send(method, target(template, rows).rstrip("/") + path)


@every_route
def test_any_header_is_answered(template: str, wire: Wire, rows: Mapping[str, str]) -> None:
    for header, method in itertools.product(HEADERS, ("GET", "POST")):
        wire.send(method, target(template, rows), header)
    for header, method in itertools.product(UNFINISHED, ("GET", "POST", "PATCH")):
        wire.send(method, target(template, rows), header, "Content-Type: application/json", unfinished=True)
