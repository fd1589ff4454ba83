"""Who may do what, everywhere: the matrix of swf-monitor.md 5.2, over every route that a service declares.

The rows come from the declarations of all installed services, and what is expected of each from what it declares; so a
new route is in the matrix without anybody thinking of it. What a handler checks by itself stands in a table here.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Literal

import jwt
import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from httpx2 import Response
from pydantic import SecretStr
from starlette.routing import WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse

from sluice_core.auth import ROLES, Scope
from sluice_core.rest import Endpoint, Resource
from sluice_core.testing import Databases
from sluice_core.testing.apps import AppMaker
from sluice_core.testing.tokens import Tokens

Auth = Literal["write", "read", "session", "token", "open", "stream", "ignored", "browser"]
Door = Literal["contract", "problem"]

SERVICES = {entry.name: entry.value for entry in entry_points(group="sluice.services")}
SAFE = ("GET", "HEAD", "OPTIONS")
# Stands for everything in a path, and is the namespace of those who may write in another one than everybody else.
NAME = "elsewhere"
NONE_GIVEN = "Authentication credentials were not provided."
INVALID = "Invalid token."
DENIED = "You do not have permission to perform this action."
CSRF = "CSRF Failed: CSRF token missing."

# Whoever has a good credential comes in; what he may do there depends on whose the thing is.
OWN_CHECKS = {("DELETE", "/api/auth/tokens/{token_id}/"): Scope.TOKENS_ADMIN}
# An answer without an end begins after its filters were read; these cannot be.
UNREADABLE = {"/api/logs/tail/": "?level=x"}
# A page that people post to by a form of its own, which has a proof of its own.
FORMS = {("POST", "/accounts/login/")}


@dataclass(frozen=True)
class Operation:
    """One row of the matrix.

    Attributes
    ----------
    door
        Which shape its refusals have.
    auth
        What it asks for: as `Endpoint.auth`, and ``write`` for the writes of resources, ``browser`` for what only looks
        at sessions.
    scopes
        All of which the caller needs.
    """

    service: str
    method: str
    path: str
    door: Door
    auth: Auth
    scopes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def application(service: str) -> FastAPI:
    """Return an application of a service that is only looked at."""
    package = SERVICES[service]
    settings = import_module(f"{package}.settings").Settings
    url = SecretStr("postgresql://nobody@localhost/none")
    app: FastAPI = import_module(f"{package}.app").create_app(settings(database_url=url))
    return app


def of_resource(service: str, resource: Resource) -> Iterator[Operation]:
    detail = f"{resource.path}{{{resource.key}}}/"
    reads: Auth = {None: "read", True: "open", False: "session"}[resource.read_open]  # type: ignore[assignment]
    for path in (resource.path, detail):
        for method in SAFE:
            yield Operation(service, method, path, "contract", reads)
    create = () if resource.create_open else (resource.create or resource.write,)
    yield Operation(service, "POST", resource.path, "contract", "browser" if resource.create_open else "write", create)
    for method in ("PUT", "PATCH", "DELETE"):
        yield Operation(service, method, detail, "contract", "write", (resource.write,))


def of_endpoint(service: str, endpoint: Endpoint) -> Iterator[Operation]:
    scopes = (endpoint.scope,) if endpoint.scope else ()
    for method in endpoint.methods:
        yield Operation(service, method, endpoint.path, "contract", endpoint.auth, scopes)


def of_route(service: str, route: APIRoute) -> Iterator[Operation]:
    auth: Auth = "ignored"
    scopes: tuple[str, ...] = ()
    for dependency in route.dependant.dependencies:
        call = dependency.call
        if type(call).__name__ == "_Required":
            auth, scopes = "session", tuple(call.scopes)  # type: ignore[union-attr]
        elif getattr(call, "__name__", "") == "_reader":
            auth = "read"
        elif getattr(call, "__name__", "") == "_browser":
            auth = "browser"
    for method in sorted(route.methods or ()):
        own = OWN_CHECKS.get((method, route.path))
        yield Operation(service, method, route.path, "problem", auth, (own,) if own else scopes)


def operations() -> Iterator[Operation]:
    for service in SERVICES:
        state = application(service).state
        for resource in state.resources:
            yield from of_resource(service, resource)
        for endpoint in state.endpoints:
            yield from of_endpoint(service, endpoint)
        for router in state.routers:
            for route in router.routes:
                if isinstance(route, APIRoute):
                    yield from of_route(service, route)
                else:
                    # `sockets` has it; of any other kind nobody knows what it asks for.
                    assert isinstance(route, WebSocketRoute), route


def sockets() -> Iterator[tuple[str, str]]:
    for service in SERVICES:
        for router in application(service).state.routers:
            yield from ((service, route.path) for route in router.routes if isinstance(route, WebSocketRoute))


# An endpoint takes its methods from a resource of the same path.
OPERATIONS = list({(each.method, each.path): each for each in operations()}.values())
assert {(each.method, each.path) for each in OPERATIONS} >= FORMS
OPERATIONS = [each for each in OPERATIONS if (each.method, each.path) not in FORMS]


# --- callers


@dataclass(frozen=True)
class Caller:
    """One column of the matrix.

    Attributes
    ----------
    credential
        What its headers are worth.
    scopes
        What its holder may.
    """

    name: str
    headers: Mapping[str, str]
    credential: Literal["none", "bad", "token", "unproven", "session"]
    scopes: frozenset[str] = frozenset()

    def may(self, scopes: tuple[str, ...]) -> bool:
        return Scope.ADMIN in self.scopes or self.scopes.issuperset(scopes)


@pytest.fixture(scope="module")
def revoked(tokens: Tokens) -> Mapping[str, str]:
    return tokens.header("admin")


@pytest.fixture(scope="module")
def callers(tokens: Tokens, revoked: Mapping[str, str]) -> list[Caller]:
    # All that can be granted for some namespaces.
    most = frozenset(map(str, Scope)) - {Scope.ADMIN, Scope.TOKENS_ADMIN}
    admin = ROLES["admin"]
    return [
        Caller("none", {}, "none"),
        Caller("bad", {"Authorization": "Token nonsense"}, "bad"),
        Caller("expired", tokens.header("admin", seconds=-60), "bad"),
        Caller("revoked", revoked, "bad"),
        Caller("reader", tokens.header(*ROLES["reader"]), "token", ROLES["reader"]),
        Caller("agent", tokens.header(*ROLES["agent"]), "token", ROLES["agent"]),
        Caller("elsewhere", tokens.header(*most, namespaces=[NAME]), "token", most),
        Caller("admin", tokens.header("admin"), "token", admin),
        Caller("session without proof", tokens.session("admin", proven=False), "unproven", admin),
        Caller("session", tokens.session("admin"), "session", admin),
        Caller("reader's session", tokens.session("reader"), "session", ROLES["reader"]),
        Caller("session, proof of nobody", {"Cookie": "sessionid=x", "X-CSRFToken": "x"}, "none"),
        Caller("expired session", tokens.session("admin", seconds=-60), "none"),
        Caller("session, bad token", tokens.session("admin") | {"Authorization": "Token nonsense"}, "session", admin),
    ]


@dataclass(frozen=True)
class Refusal:
    """How a request is turned away."""

    status: int
    detail: str
    challenge: str | None = None


def expected(operation: Operation, caller: Caller, *, anonymous_read: bool) -> Refusal | None:
    """Return how this caller is refused; None when he comes in."""
    auth, credential = operation.auth, caller.credential
    unsafe = operation.method not in SAFE
    if auth == "ignored":
        return None
    if auth == "token" and "Authorization" not in caller.headers:
        credential = "none"
    elif auth == "token" and credential == "session":
        credential = "bad"  # the token beside it
    problem = operation.door == "problem"
    unauthenticated = 401 if problem or auth == "token" else 403
    challenge = "Token" if auth == "token" else 'Bearer realm="sluice"' if problem else None
    if credential == "unproven" and unsafe:
        return Refusal(403, CSRF)
    if auth == "browser":
        return None
    if auth == "stream" and credential in ("none", "bad"):
        return Refusal(401, NONE_GIVEN)
    if credential == "bad":
        bad = f'{challenge}, error="invalid_token"' if problem else challenge
        return Refusal(unauthenticated, INVALID, bad)
    if credential == "none":
        is_open = auth == "open" or (auth == "read" and anonymous_read)
        return None if is_open else Refusal(unauthenticated, NONE_GIVEN, challenge)
    if not caller.may(operation.scopes):
        return Refusal(403, f"This needs the scope {operation.scopes[0]}." if problem else DENIED)
    return None


# --- worlds


@pytest.fixture(scope="module", params=[True, False], ids=["reads open", "reads closed"])
def anonymous_read(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(scope="module")
def clients(
    databases: Databases, tokens: Tokens, revoked: Mapping[str, str], anonymous_read: bool
) -> Iterator[Mapping[str, TestClient]]:
    """Every service in this process, each with a database of its own."""
    claims = jwt.decode(revoked["Authorization"].split()[1], options={"verify_signature": False})
    with ExitStack() as stack:
        found = {}
        for service, package in SERVICES.items():
            make = AppMaker(package, stack.enter_context(databases.fresh(package)), tokens)
            app = make(shared={"anonymous_read": anonymous_read})
            app.state.service.keyring.apply_revoked(claims["jti"], b"")
            found[service] = stack.enter_context(TestClient(app, follow_redirects=False))
        yield found


def send(client: TestClient, operation: Operation, caller: Caller) -> Response:
    client.cookies.clear()
    path = re.sub(r"\{[^}]*\}", NAME, operation.path) + UNREADABLE.get(operation.path, "")
    body: Any = None if operation.method in SAFE else {}
    return client.request(operation.method, path, json=body, headers=dict(caller.headers))


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_a_caller_comes_in_or_is_refused_as_declared(
    clients: Mapping[str, TestClient], callers: list[Caller], operation: Operation, anonymous_read: bool
) -> None:
    for caller in callers:
        reply = send(clients[operation.service], operation, caller)
        refusal = expected(operation, caller, anonymous_read=anonymous_read)
        said = f"{caller.name}: {reply.status_code} {reply.text[:200]}"
        if refusal is None:
            assert reply.status_code not in (401, 403), said
            # Neither keys nor streams nor queues without NATS.
            away = operation.path.startswith(("/.well-known/", "/api/stomp/")) or operation.auth == "stream"
            assert reply.status_code < 500 or away, said
            continue
        assert reply.status_code == refusal.status, said
        assert reply.headers.get("www-authenticate") == refusal.challenge, said
        if operation.method == "HEAD":
            continue
        assert reply.json()["detail"] == refusal.detail, said
        kind = "application/problem+json" if operation.door == "problem" else "application/json"
        assert reply.headers["content-type"] == kind, said
        if operation.door == "contract":
            assert reply.json() == {"detail": refusal.detail}


@pytest.mark.parametrize(("service", "path"), list(sockets()))
def test_a_websocket_takes_tokens_and_nothing_else(
    clients: Mapping[str, TestClient], callers: list[Caller], service: str, path: str
) -> None:
    """A browser sends its cookie along for any page that opens one."""
    client = clients[service]
    for caller in callers:
        client.cookies.clear()
        if caller.credential == "token":
            with client.websocket_connect(path, headers=dict(caller.headers)):
                continue
        with pytest.raises(WebSocketDenialResponse) as denied, client.websocket_connect(path, headers=caller.headers):
            pass
        text = INVALID if "Authorization" in caller.headers else NONE_GIVEN
        assert (denied.value.status_code, denied.value.json()) == (403, {"detail": text}), caller.name


def test_a_service_answers_nothing_that_it_does_not_declare() -> None:
    for service in SERVICES:
        app = application(service)
        declared = {id(router) for router in app.state.routers}
        for route in app.routes:
            assert id(getattr(route, "original_router", None)) in declared, f"{service}: {route}"
        # What stands before the routes could answer too; of these only the door does, and what is declared to it.
        assert [each.cls.__name__ for each in app.user_middleware] == ["Envelope", "Door", "BodyLimit"], service  # type: ignore[attr-defined]


def test_the_matrix_has_every_operation_of_the_openapi_documents() -> None:
    rows = {(each.method, re.sub(r":\w+\}", "}", each.path)) for each in OPERATIONS}
    for service in SERVICES:
        for path, item in application(service).openapi()["paths"].items():
            for method in item.keys() - {"parameters"}:
                assert (method.upper(), path) in rows, f"{service}: {method} {path}"


def test_every_right_that_is_asked_for_has_a_name_and_a_description() -> None:
    for operation in OPERATIONS:
        for scope in operation.scopes:
            assert Scope(scope).description, operation


# --- namespaces

# A row of each resource that has namespaces, in the namespace n1.
ROWS: Mapping[str, Mapping[str, Any]] = {
    "/api/systemagents/": {"instance_name": "daq-1", "agent_type": "data", "namespace": "n1"},
    "/api/workflow-messages/": {"message_type": "x", "message_content": {}, "namespace": "n1"},
    "/api/workflows/": {
        "filename": "daq-1",
        "namespace": "n1",
        "daq_state": "run",
        "daq_substate": "physics",
        **dict.fromkeys(("generated_time", "stf_start_time", "stf_end_time"), "2026-05-05T10:00:00Z"),
    },
    "/api/workflow-executions/": {
        "execution_id": "daq-1",
        "namespace": "n1",
        "parameter_values": {},
        "start_time": "2026-05-05T10:00:00Z",
        "executed_by": "ada",
        "workflow_definition": 1,
    },
}
# Names of their rows: a second one needs another.
NAMES = {"instance_name", "filename", "execution_id"}
# What rows refer to, by its number.
BEFORE: Mapping[str, Mapping[str, Any]] = {
    "/api/workflow-definitions/": {
        "workflow_name": "wd",
        "version": "1",
        "workflow_type": "x",
        "definition": "x",
        "created_by": "ada",
    },
}
# What is no resource and writes into a namespace: to n1, where the row above is.
WRITES: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("POST", "/api/systemagents/heartbeat/"): {"instance_name": "daq-1", "namespace": NAME},
    ("POST", "/api/namespaces/ensure/"): {"name": "n1", "owner": "ada"},
    ("PATCH", "/api/namespaces/n1/"): {"owner": "ada"},
    ("POST", "/api/mcp/heartbeat/"): {
        "mcp_version": "1.0",
        "message_id": "1",
        "command": "heartbeat",
        "payload": {"name": "daq-1", "timestamp": "2026-05-05T10:00:00Z", "status": "OK"},
    },
    ("POST", "/api/messages/"): {"message": {"msg_type": "x", "namespace": "n1"}},
}


def namespaced() -> list[tuple[str, Resource]]:
    found = []
    for service in SERVICES:
        for resource in application(service).state.resources:
            has = any(field.name == "namespace" for field in resource.fields)
            assert has == (resource.namespace == "namespace"), (
                f"{resource.name} does not say which namespace a row is in"
            )
            if has:
                found.append((service, resource))
    return found


def test_who_may_write_elsewhere_writes_nothing_here(clients: Mapping[str, TestClient], callers: list[Caller]) -> None:
    by_name = {caller.name: dict(caller.headers) for caller in callers}
    elsewhere, admin = by_name["elsewhere"], by_name["admin"]
    for path, row in BEFORE.items():
        assert clients["runs"].post(path, json=row, headers=admin).json()["id"] == 1
    for service, resource in namespaced():
        client, row = clients[service], ROWS[resource.path]
        made = client.post(resource.path, json=row, headers=admin)
        assert made.status_code == 201, made.text
        detail = f"{resource.path}{made.json()[resource.key]}/"
        for method, path in (("POST", resource.path), ("PUT", detail), ("PATCH", detail), ("DELETE", detail)):
            body = {**row, **(dict.fromkeys(NAMES & row.keys(), "daq-2") if method == "POST" else {})}
            reply = client.request(method, path, json=body, headers=elsewhere)
            assert (reply.status_code, reply.json()) == (403, {"detail": DENIED}), (method, path)
        assert client.get(detail, headers=elsewhere).json() == made.json()
    for (method, path), written in WRITES.items():
        service = "stream" if path == "/api/messages/" else "registry"
        reply = clients[service].request(method, path, json=written, headers=elsewhere)
        assert reply.status_code == 403, (method, path, reply.text)
    agent = clients["registry"].get("/api/systemagents/", headers=admin).json()[0]
    assert (agent["instance_name"], agent["namespace"]) == ("daq-1", "n1")
