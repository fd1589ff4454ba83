"""Commands find the platform by themselves, and say in one sentence what is wrong."""

import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sluice_core import cli
from sluice_core.cli import Api, Failure, Refusal


class Platform(BaseHTTPRequestHandler):
    """Tells each caller what it sent; refuses what the path asks for."""

    refusals: dict[str, Any] = {
        "/detail": {"detail": "Invalid token."},
        "/problem": {"detail": "no", "errors": [{"field": "name", "message": "too long"}]},
        "/fields": {"name": ["This field is required.", "Twice."], "kind": ["No."]},
        "/error": {"error": "name is required", "status": "error"},
    }

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        refused = path in self.refusals or path == "/page"
        body = self.refusals.get(path, {"path": self.path, "authorization": self.headers.get("Authorization")})
        raw = b"<html>" if path in ("/page", "/html") else json.dumps(body).encode()
        self.send_response(400 if refused else 200)
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    do_POST = do_GET

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("SLUICE_URL", "SLUICE_TOKEN", "SLUICE_DATA", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Platform)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def write_up(directory: Path, url: str, pid: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "up.json").write_text(json.dumps({"http": url, "pids": {"sluice": pid}}))


def test_the_environment_says_where_the_platform_is(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_URL", f"{url}/swf-monitor/")
    monkeypatch.setenv("SLUICE_TOKEN", "abc")
    assert Api.find().get("/api/", limit=5, skipped=None) == {
        "path": "/swf-monitor/api/?limit=5",
        "authorization": "Bearer abc",
    }


def test_a_local_platform_is_found_with_its_token(url: str, tmp_path: Path) -> None:
    home = tmp_path / ".local/share/sluice"
    write_up(home, url, os.getpid())
    (home / "admin-token").write_text("first\n")
    assert Api.find().get("/")["authorization"] == "Bearer first"


def test_the_data_directory_can_be_named(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_up(tmp_path / "x", url, os.getpid())
    monkeypatch.setenv("SLUICE_DATA", str(tmp_path / "x"))
    assert Api.find().get("/")["authorization"] is None
    assert Api.find(tmp_path / "x").get("/")["path"] == "/"


@pytest.mark.parametrize("content", [None, "{", "{}"])
def test_without_a_platform_the_sentence_says_what_to_do(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "up.json").write_text(content)
    with pytest.raises(Failure, match="start one, or set SLUICE_URL"):
        Api.find(tmp_path)


def test_what_a_killed_platform_left_behind_is_not_believed(tmp_path: Path) -> None:
    child = os.spawnlp(os.P_NOWAIT, "true", "true")
    os.waitpid(child, 0)
    write_up(tmp_path, "http://127.0.0.1:1", child)
    with pytest.raises(Failure, match="no `sluice up` runs"):
        Api.find(tmp_path)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/detail", "Invalid token."),
        ("/problem", "name: too long"),
        ("/fields", "name: This field is required. Twice.; kind: No."),
        ("/error", "name is required"),
        ("/page", "Bad Request"),
    ],
)
def test_a_refusal_is_one_line_whatever_its_shape(url: str, path: str, said: str) -> None:
    with pytest.raises(Refusal) as refused:
        Api(url).post(path, {})
    assert str(refused.value) == f"POST {path}: 400: {said}"
    assert refused.value.code == 1


def test_no_answer_is_a_failure_with_the_address() -> None:
    with pytest.raises(Failure, match=r"http://127\.0\.0\.1:1 does not answer"):
        Api("http://127.0.0.1:1").get("/")


def test_something_else_behind_the_address_is_noticed(url: str) -> None:
    with pytest.raises(Failure, match="does not answer like Sluice"):
        Api(url).get("/html")


def test_tables_show_what_was_said_and_not_its_markup(capsys: pytest.CaptureFixture[str]) -> None:
    cli.print_table(["name", "n"], [["[red]x[/red]", None]], title="t")
    assert "[red]x[/red]" in capsys.readouterr().out
