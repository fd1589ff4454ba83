"""The OpenAPI document says what an operation asks for, and in which kinds of credentials it may come."""

from sluice_core.rest import Endpoint, Reply, Request
from sluice_core.rest.openapi import components, paths

from . import widgets


async def nothing(_: Request) -> Reply:
    return Reply(204)


def test_a_write_names_its_scope_in_every_kind_of_credential() -> None:
    found = paths(widgets.RESOURCES, ())["/api/widgets/{id}/"]
    assert found["patch"]["security"] == [
        {"token": ["widgets:write"]},
        {"bearer": ["widgets:write"]},
        {"session": ["widgets:write"], "csrf": []},
        {"basic": ["widgets:write"]},
    ]
    assert "security" not in found["get"]
    assert set(components(())["securitySchemes"]) == {"token", "bearer", "session", "csrf", "basic"}


def test_where_only_tokens_count_nothing_else_is_named() -> None:
    operations = {"get": {"summary": "x"}, "post": {"summary": "y"}}
    doors = [
        Endpoint(f"/api/{auth}/", {"GET": nothing, "POST": nothing}, auth=auth, scope="a:b", openapi=operations)
        for auth in ("token", "session", "open")
    ]
    found = paths((), doors)
    assert found["/api/token/"]["post"]["security"] == [{"token": ["a:b"]}, {"bearer": ["a:b"]}]
    assert found["/api/session/"]["get"]["security"][2:] == [{"session": ["a:b"]}, {"basic": ["a:b"]}]
    assert found["/api/session/"]["post"]["security"][2] == {"session": ["a:b"], "csrf": []}
    assert "security" not in found["/api/open/"]["post"]
