"""The harness finds what it looks for, with the same requests in every run."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from schemathesis.core.failures import FailureGroup

from sluice_core.testing.fuzz import assert_no_server_error

BODY = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
DOCUMENT = {
    "openapi": "3.1.0",
    "info": {"title": "Things", "version": "1"},
    "paths": {
        "/things/{name}/": {
            "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
            "put": {
                "requestBody": {"required": True, "content": {"application/json": {"schema": BODY}}},
                "responses": {"200": {"description": "Put"}},
            },
            "get": {"responses": {"200": {"description": "One"}}},  # for which any name is good input
        },
        "/things/": {"get": {"responses": {"200": {"description": "All"}}}},
    },
}

Seen = list[tuple[str, str, bytes, str | None]]


@contextmanager
def server(answer: Callable[[str, str, Any], int]) -> Iterator[tuple[str, Seen]]:
    """Answer each request with what ``answer`` says of its method, path and JSON; yield URL and what came."""
    seen: Seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"] or 0))
            seen.append((self.command, self.path, raw, self.headers["Authorization"]))
            try:
                body = json.loads(raw)
            except ValueError:
                body = None
            self.send_response(answer(self.command, self.path, body))
            self.end_headers()

        do_PUT = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as made:
        thread = threading.Thread(target=made.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{made.server_port}", seen
        made.shutdown()
        thread.join()


def fuzz(url: str) -> None:
    assert_no_server_error(url, DOCUMENT, headers={"Authorization": "Token t"}, rows={"name": "bolt"})


def test_a_server_error_behind_a_row_that_exists_is_found_and_can_be_repeated_by_hand() -> None:
    def answer(method: str, path: str, body: Any) -> int:
        if path != "/things/bolt/":
            return 404 if method == "PUT" else 200
        return 500 if isinstance(body, dict) and isinstance(body.get("n"), int) else 400

    with server(answer) as (url, _), pytest.raises(FailureGroup) as caught:
        fuzz(url)
    assert "Server error" in str(caught.value.exceptions[0])
    assert "curl -X PUT" in str(caught.value)


def test_refusals_of_good_input_and_acceptance_of_bad_input_are_no_failures() -> None:
    for status in (200, 400):
        with server(lambda *_, status=status: status) as (url, seen):
            fuzz(url)
        assert {authorization for *_, authorization in seen} == {"Token t"}
        assert ("GET", "/things/") in {(method, path) for method, path, *_ in seen}


def test_two_runs_send_the_same_requests() -> None:
    runs = []
    for _ in range(2):
        with server(lambda *_: 200) as (url, seen):
            fuzz(url)
        runs.append(seen)
    assert runs[0] == runs[1]
    assert 20 < len(runs[0]) < 60
