"""Contract 5.2 and decisions 1, 2, 5: who may do what, on resources and on single endpoints."""

import socket
import time
from collections.abc import Iterator
from datetime import UTC

import pytest
import sqlalchemy as sa

from sluice_core.database import Database
from sluice_core.rest import Door, Endpoint, Invalid, Reply, Request

from . import widgets
from .conftest import Doorman, World, inner, opened
from .wire import Answer, Caller, Loop

NONE_GIVEN = {"detail": "Authentication credentials were not provided."}
INVALID = {"detail": "Invalid token."}
DENIED = {"detail": "You do not have permission to perform this action."}
READS = [(method, path) for method in ("GET", "HEAD", "OPTIONS") for path in ("/api/widgets/", "/api/widgets/1/")]
WRITES = [
    ("POST", "/api/widgets/"),
    ("PUT", "/api/widgets/1/"),
    ("PATCH", "/api/widgets/1/"),
    ("DELETE", "/api/widgets/1/"),
]


async def whoami(request: Request) -> Reply:
    return Reply(200, {"subject": request.identity and request.identity.subject})


async def echo(request: Request) -> Reply:
    return Reply(201, {"data": await request.data()}, {"X-Answered-By": "echo"})


async def picky(request: Request) -> Reply:
    raise Invalid({"name": ["This field is required."]})


ENDPOINTS = (
    Endpoint("/api/state/session/", {"POST": whoami}, auth="session"),
    Endpoint("/api/state/scoped/", {"POST": whoami}, auth="session", scope="widgets:write"),
    Endpoint("/api/state/token/", {"POST": whoami}, auth="token"),
    Endpoint("/api/state/scoped-token/", {"POST": whoami}, auth="token", scope="widgets:write"),
    Endpoint("/api/state/open/", {"POST": whoami}, auth="open"),
    Endpoint("/api/state/ignored/", {"POST": whoami}, auth="ignored"),
    Endpoint("/api/state/browser/", {"POST": whoami}, auth="browser"),
    Endpoint("/api/state/summary/", {"GET": whoami}, auth="session"),
    Endpoint("/api/state/echo/", {"POST": echo, "PATCH": picky}, auth="open"),
    Endpoint("/api/widgets/heartbeat/", {"POST": whoami}, auth="session"),
    Endpoint("/api/steps/", {"POST": echo}, auth="ignored"),
)


@pytest.fixture(scope="module")
def world(loop: Loop, url: str, engine: sa.Engine) -> Iterator[World]:
    with opened(loop, url, engine, endpoints=ENDPOINTS) as made:
        yield made


def refused(answer: Answer, status: int, body: dict[str, str], challenge: str | None = None) -> bool:
    assert answer.headers["content-type"] == "application/json"
    return (answer.status, answer.json(), answer.headers.get("www-authenticate")) == (status, body, challenge)


# ---- Resources ----


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_writes_need_a_token_with_the_scope(world: World, method: str, path: str) -> None:
    assert refused(world.anonymous.request(method, path, json={}), 403, NONE_GIVEN)
    assert refused(world.api.with_token("bad").request(method, path, json={}), 403, INVALID)
    assert refused(world.api.with_token("bob").request(method, path, json={}), 403, DENIED)
    for token in ("ada", "root"):
        assert world.api.with_token(token).request(method, path, json={}).status in (400, 404)
    assert world.count() == 0


@pytest.mark.parametrize(("method", "path"), READS)
def test_reads_are_open_by_default_and_a_bad_token_is_refused_even_so(world: World, method: str, path: str) -> None:
    expected = 404 if method in ("GET", "HEAD") and path.endswith("1/") else 200
    assert world.anonymous.request(method, path).status == expected
    assert world.api.with_token("bob").request(method, path).status == expected
    bad = world.api.with_token("bad").request(method, path)
    assert bad.status == 403
    if method != "HEAD":
        assert refused(bad, 403, INVALID)


@pytest.mark.parametrize(("method", "path"), READS)
def test_closed_reads_need_a_token_and_no_scope(closed_world: World, method: str, path: str) -> None:
    none = closed_world.anonymous.request(method, path)
    assert (none.status, none.headers.get("www-authenticate")) == (403, None)
    if method != "HEAD":
        assert none.json() == NONE_GIVEN
    assert closed_world.api.with_token("bad").request(method, path).status == 403
    assert closed_world.api.with_token("bob").request(method, path).status in (200, 404)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("path", ["/api/secrets/", "/api/secrets/a/", "/api/secrets.json", "/api/secrets/?limit=1"])
def test_what_is_never_open_stays_closed(world: World, method: str, path: str) -> None:
    assert world.anonymous.request(method, path).status == 403
    assert world.api.with_token("bob").request(method, path).status in (200, 404)


def test_each_resource_has_a_scope_of_its_own(world: World) -> None:
    assert refused(world.api.post("/api/secrets/", json={"label_id": "a"}), 403, DENIED)
    assert world.api.with_token("root").post("/api/secrets/", json={"label_id": "a"}).status == 201


@pytest.mark.parametrize("token", [None, "bad", "bob", "ada"])
def test_an_open_create_looks_at_no_credential(world: World, token: str | None) -> None:
    caller = world.api.with_token(token)
    answer = caller.post("/api/journal/", json={"timestamp": "2026-05-05T10:00:00", "message": "m"})
    assert answer.status == 201
    if token != "ada":
        assert caller.delete(f"/api/journal/{answer.json()['id']}/").status == 403


def test_a_missing_scope_on_a_method_that_does_not_exist_is_403_or_405(world: World) -> None:
    assert world.api.with_token("bob").put("/api/widgets/", json={}).status in (403, 405)


def test_options_shows_no_actions_to_those_who_may_not_write(world: World) -> None:
    assert "actions" in world.api.options("/api/widgets/").json()
    assert world.api.with_token("bob").options("/api/widgets/").status == 200


# ---- Endpoints ----

MATRIX = [
    # path, none, bad, without the scope, with it
    ("session", (403, NONE_GIVEN, None), (403, INVALID, None), "bob", "ada"),
    ("scoped", (403, NONE_GIVEN, None), (403, INVALID, None), (403, DENIED, None), "ada"),
    ("token", (401, NONE_GIVEN, "Token"), (401, INVALID, "Token"), "bob", "ada"),
    ("scoped-token", (401, NONE_GIVEN, "Token"), (401, INVALID, "Token"), (403, DENIED, None), "ada"),
    ("open", None, (403, INVALID, None), "bob", "ada"),
    ("ignored", None, None, None, None),
    ("browser", None, None, None, None),
]


@pytest.mark.parametrize("row", MATRIX, ids=[row[0] for row in MATRIX])
def test_the_matrix_of_endpoints(
    world: World, row: tuple[str, *tuple[tuple[int, dict[str, str], str | None] | str | None, ...]]
) -> None:
    """A text is the subject whom the handler sees, None nobody; a tuple is a refusal."""
    path, *expected = row
    for token, outcome in zip((None, "bad", "bob", "ada"), expected, strict=True):
        answer = world.api.with_token(token).post(f"/api/state/{path}/")
        if isinstance(outcome, tuple):
            assert refused(answer, *outcome), (token, answer)
        else:
            assert (answer.status, answer.json()) == (200, {"subject": outcome}), token


@pytest.mark.parametrize("path", ["session", "token", "scoped"])
@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "HEAD"])
def test_other_methods_of_an_endpoint_are_405_to_those_who_may_call_it(world: World, path: str, method: str) -> None:
    target = f"/api/state/{path}/"
    answer = world.api.request(method, target)
    assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")
    if method != "HEAD":
        assert answer.text == f'{{"detail":"Method \\"{method}\\" not allowed."}}'
    assert world.anonymous.request(method, target).status == (401 if path == "token" else 403)


def test_an_endpoint_to_read_has_head_and_options(world: World) -> None:
    get, head = world.api.get("/api/state/summary/"), world.api.head("/api/state/summary/")
    assert (get.status, get.json(), head.status, head.body) == (200, {"subject": "ada"}, 200, b"")
    assert get.headers["allow"] == head.headers["allow"] == "GET, HEAD, OPTIONS"
    assert world.api.options("/api/state/summary/").status == 200
    assert world.api.post("/api/state/summary/").status == 405
    assert world.anonymous.options("/api/state/summary/").status == 403


@pytest.mark.parametrize(
    ("content", "content_type"), [(b"{", "application/json"), (b"x", "text/plain"), (b"\xff", None), (b"", None)]
)
def test_a_handler_that_reads_no_body_takes_any(world: World, content: bytes, content_type: str | None) -> None:
    assert world.api.post("/api/state/token/", content=content, content_type=content_type).status == 200


def test_a_handler_that_reads_its_body_gets_what_resources_get(api: Caller) -> None:
    target = "/api/state/echo/"
    answer = api.post(target, json={"a": [1, "ü"]})
    assert (answer.status, answer.text) == (201, '{"data":{"a":[1,"ü"]}}')
    assert answer.headers["x-answered-by"] == "echo"
    assert answer.headers["allow"] == "POST, PATCH, OPTIONS"
    assert answer.headers["vary"] == "Accept, Cookie"
    assert api.post(target, form={"a": "1"}).json() == {"data": {"a": "1"}}
    assert api.post(target, multipart={"a": "1"}).json() == {"data": {"a": "1"}}
    assert api.post(target).json() == {"data": {}}
    assert api.post(target, content=b"{", content_type="application/json").status == 400
    assert api.post(target, content=b"x", content_type="text/plain").status == 415


def test_a_refusal_of_a_handler_is_the_contracts_400(api: Caller) -> None:
    answer = api.patch("/api/state/echo/")
    assert (answer.status, answer.text) == (400, '{"name":["This field is required."]}')
    assert answer.headers["content-type"] == "application/json"


def test_an_endpoint_has_the_url_rules_of_resources(world: World) -> None:
    assert world.api.post("/api/state/open", json={}).headers["location"] == "/api/state/open/"
    assert world.api.post("/api/state/open/", accept="text/event-stream").status == 406
    assert world.anonymous.post("/api/state/token/", accept="text/event-stream").status == 406
    assert world.api.post("/api/state/open/?format=json").json() == {"subject": "ada"}
    assert world.api.post("/api/state/open/?format=xml").status == 404
    assert world.api.post("/api/state/open/more/").status == 418


def test_an_endpoint_wins_over_a_row_of_the_same_path(world: World) -> None:
    assert world.api.post("/api/widgets/heartbeat/").json() == {"subject": "ada"}
    assert world.api.get("/api/widgets/heartbeat/").status == 405


# ---- Limits and faults ----


@pytest.mark.parametrize("target", ["/api/labels/", "/api/state/echo/"])
def test_a_body_beyond_the_limit_is_413(api: Caller, target: str) -> None:
    answer = api.post(target, json={"label_id": "a", "note": "x" * (4 * 2**20)})
    assert answer.status == 413
    assert api.post(target, json={"label_id": "a", "note": "x" * (4 * 2**20 - 100)}).status == 201


def test_without_postgresql_the_answer_is_503_and_quick(loop: Loop) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        port = nobody.getsockname()[1]
        database = Database(
            f"postgresql+psycopg2://x:y@127.0.0.1:{port}/z", pool_size=1, timezone="UTC", application_name="rest-tests"
        )
        door = Door(
            inner,
            database=database,
            resources=widgets.RESOURCES,
            endpoints=(),
            authenticator=Doorman(),
            zone=UTC,
        )
        api = Caller(loop, door, token="ada")
        start = time.monotonic()
        answers = [
            api.get("/api/labels/"),
            api.get("/api/labels/a/"),
            api.get("/api/labels/a.json"),
            api.get("/api/labels/?limit=1"),
            api.post("/api/labels/", json={"label_id": "a"}),
            api.patch("/api/labels/a/", json={}),
            api.delete("/api/labels/a/"),
        ]
        assert time.monotonic() - start < 2
        database.close()
    assert [answer.status for answer in answers] == [503] * len(answers)
    assert all(int(answer.headers["retry-after"]) > 0 for answer in answers)


def test_an_endpoint_on_the_path_of_a_list_answers_its_own_method_and_the_resource_the_others(world: World) -> None:
    own = world.anonymous.post("/api/steps/", json=[1])
    assert (own.status, own.json(), own.headers["allow"]) == (201, {"data": [1]}, "GET, POST, HEAD, OPTIONS")
    assert world.anonymous.get("/api/steps/").json() == []
    assert world.api.patch("/api/steps/", json={}).status == 405
