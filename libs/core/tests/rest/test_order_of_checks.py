"""Corrections 18.2 and 18.10: 406, then 401/403, then 405, then 404, then 400/415, then validation."""

from typing import Any

import pytest

from .conftest import World

BAD_JSON: dict[str, Any] = {"content": b"{", "content_type": "application/json"}
TEXT: dict[str, Any] = {"content": b"x", "content_type": "text/plain"}
PICKY = "text/event-stream"
NO_CREDENTIAL = {"detail": "Authentication credentials were not provided."}


@pytest.mark.parametrize("token", [None, "bad"])
@pytest.mark.parametrize(
    ("method", "target"), [("POST", "/api/widgets/"), ("PUT", "/api/widgets/"), ("PUT", "/api/widgets/x/")]
)
def test_accept_comes_before_the_credential(world: World, token: str | None, method: str, target: str) -> None:
    assert world.api.with_token(token).request(method, target, accept=PICKY, **BAD_JSON).status == 406


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("PUT", "/api/widgets/"),
        ("PATCH", "/api/widgets/"),
        ("DELETE", "/api/widgets/"),
        ("POST", "/api/widgets/1/"),
        ("PUT", "/api/widgets/999999/"),
        ("PATCH", "/api/widgets/999999/"),
        ("DELETE", "/api/widgets/999999/"),
        ("DELETE", "/api/widgets/abc/"),
        ("POST", "/api/widgets/"),
    ],
)
@pytest.mark.parametrize("body", [{}, BAD_JSON, TEXT], ids=["empty", "bad JSON", "text"])
def test_the_credential_comes_before_method_lookup_and_body(
    world: World, method: str, target: str, body: dict[str, Any]
) -> None:
    none = world.anonymous.request(method, target, **body)
    bad = world.api.with_token("bad").request(method, target, **body)
    assert (none.status, none.json()) == (403, NO_CREDENTIAL)
    assert (bad.status, bad.json()) == (403, {"detail": "Invalid token."})


@pytest.mark.parametrize("body", [BAD_JSON, TEXT], ids=["bad JSON", "text"])
@pytest.mark.parametrize(
    ("method", "target"), [("PUT", "/api/widgets/"), ("POST", "/api/widgets/999999/"), ("POST", "/api/widgets/abc/")]
)
def test_the_method_comes_before_lookup_and_body(world: World, method: str, target: str, body: dict[str, Any]) -> None:
    assert world.api.request(method, target, **body).status == 405


@pytest.mark.parametrize("body", [BAD_JSON, TEXT, {"json": []}], ids=["bad JSON", "text", "array"])
@pytest.mark.parametrize("method", ["PUT", "PATCH"])
@pytest.mark.parametrize("key", ["999999", "abc"])
def test_lookup_comes_before_the_body(world: World, method: str, key: str, body: dict[str, Any]) -> None:
    assert world.api.request(method, f"/api/widgets/{key}/", **body).status == 404


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_parsing_comes_before_validation(world: World, method: str) -> None:
    target = f"/api/widgets/{world.widget()['id']}/"
    assert world.api.request(method, target, **TEXT).status == 415
    assert "detail" in world.api.request(method, target, **BAD_JSON).json()


def test_reads_do_not_look_at_the_body(world: World) -> None:
    for body in (BAD_JSON, TEXT):
        assert world.api.get("/api/widgets/", **body).status == 200
        assert world.api.options("/api/widgets/", **body).status == 200
