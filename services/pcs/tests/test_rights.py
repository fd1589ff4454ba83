"""Who may do what: each verb of each resource (contract 3.3, decision 20)."""

from collections.abc import Mapping
from itertools import count
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from .world import API, MINIMAL, category, composition, tag, tags_of_all_kinds

NOT_PROVIDED = {"detail": "Authentication credentials were not provided."}
DENIED = {"detail": "You do not have permission to perform this action."}
CALLERS = ("anonymous", "reader", "other", "creator", "admin")
TAGS = ("physics", "evgen", "simu", "reco", "background")

# Statuses in the order of CALLERS.
OPEN = (200, 200, 200, 200, 200)
CREATES = (403, 403, 201, 201, 201)
OWNS = (403, 403, 403, 200, 200)
REMOVES = (403, 403, 403, 204, 204)
NEVER = (403, 403, 405, 405, 405)


class Verb(NamedTuple):
    """One row of the matrix.

    Attributes
    ----------
    path
        Behind that of the list; ``{}`` is a fresh object of the creator's.
    """

    resource: str
    method: str
    path: str
    body: Any
    expected: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.method} {self.resource}/{self.path}"


def matrix() -> list[Verb]:
    rows: list[Verb] = []
    for kind in TAGS:
        name = f"{kind}-tags"
        new = {"parameters": MINIMAL[kind], **({"category": 1} if kind == "physics" else {})}
        rows += [
            Verb(name, "GET", "", None, OPEN),
            Verb(name, "GET", "{}/", None, OPEN),
            Verb(name, "POST", "", new, CREATES),
            Verb(name, "PATCH", "{}/", {"description": "x"}, OWNS),
            Verb(name, "PUT", "{}/", {}, NEVER),
            Verb(name, "DELETE", "{}/", None, NEVER),
            Verb(name, "POST", "{}/lock/", None, OWNS),
            Verb(name, "POST", "{}/delete/", None, OWNS),
            Verb(name, "POST", "{}/copy/", {}, (401, 403, 201, 201, 201)),
            Verb(name, "GET", "{}/history/", None, OPEN),
        ]
    rows += [
        Verb("physics-categories", "GET", "", None, OPEN),
        Verb("physics-categories", "GET", "{}/", None, OPEN),
        Verb("physics-categories", "POST", "", "category", CREATES),
        Verb("physics-categories", "PATCH", "{}/", {"description": "x"}, OWNS),
        Verb("physics-categories", "PUT", "{}/", {}, NEVER),
        Verb("physics-categories", "DELETE", "{}/", None, NEVER),
        Verb("datasets", "GET", "", None, OPEN),
        Verb("datasets", "GET", "{}/", None, OPEN),
        Verb("datasets", "POST", "", "dataset", CREATES),
        Verb("datasets", "PATCH", "{}/", {"description": "x"}, NEVER),
        Verb("datasets", "PUT", "{}/", {}, NEVER),
        Verb("datasets", "DELETE", "{}/", None, NEVER),
        Verb("datasets", "POST", "{}/add-block/", {}, CREATES),
        Verb("datasets", "POST", "{}/files/", {"count": 1}, (401, 403, 200, 200, 200)),
        Verb("datasets", "GET", "{}/manifest/", None, OPEN),
        Verb("prod-configs", "GET", "", None, OPEN),
        Verb("prod-configs", "GET", "{}/", None, OPEN),
        Verb("prod-configs", "POST", "", "config", CREATES),
        Verb("prod-configs", "PATCH", "{}/", {"description": "x"}, OWNS),
        Verb("prod-configs", "PUT", "{}/", "config", OWNS),
        Verb("prod-configs", "DELETE", "{}/", None, REMOVES),
        Verb("campaigns", "GET", "", None, OPEN),
        Verb("campaigns", "POST", "", "campaign", CREATES),
        Verb("campaigns", "PATCH", "{}/", {"description": "x"}, OWNS),
        Verb("campaigns", "PUT", "{}/", "campaign", OWNS),
        Verb("campaigns", "DELETE", "{}/", None, REMOVES),
        Verb("campaigns", "POST", "{}/set-current/", None, (401, 403, 403, 403, 200)),
        Verb("campaigns", "POST", "{}/clone/", "clone", (401, 403, 201, 201, 201)),
        Verb("prod-tasks", "GET", "", None, OPEN),
        Verb("prod-tasks", "GET", "{}/", None, OPEN),
        Verb("prod-tasks", "POST", "", "task", CREATES),
        Verb("prod-tasks", "PATCH", "{}/", {"description": "x"}, OWNS),
        Verb("prod-tasks", "PUT", "{}/", "task", OWNS),
        Verb("prod-tasks", "DELETE", "{}/", None, REMOVES),
        Verb("prod-tasks", "POST", "{}/lock/", None, OWNS),
        Verb("prod-tasks", "POST", "{}/set-status/", {"status": "ready"}, OWNS),
        Verb("prod-tasks", "POST", "{}/generate-commands/", None, OWNS),
        Verb("prod-tasks", "POST", "record-submission/?name={}", "record", OWNS),
    ]
    return rows


@pytest.fixture
def callers(tokens: Tokens) -> Mapping[str, dict[str, str]]:
    mine = ("pcs:write", "pcs:lock")
    return {
        "anonymous": {},
        "reader": tokens.header("logs:read", subject="eve"),
        "other": tokens.header(*mine, subject="bob"),
        "creator": tokens.header(*mine),
        "admin": tokens.header(*mine, "pcs:admin", subject="root"),
    }


class World:
    """Objects of the creator's, a new one each time."""

    def __init__(self, client: TestClient) -> None:
        self._client = client
        self._numbers = count(1)
        self._rows = tags_of_all_kinds(client)

    def make(self, resource: str) -> Any:
        """Return the key of a new object."""
        if resource.endswith("-tags"):
            return tag(self._client, resource.removesuffix("-tags"))["tag_number"]
        if resource == "physics-categories":
            number = next(self._numbers) + 1
            return category(self._client, number, f"C{number}")["digit"]
        body = self.body(resource.removeprefix("prod-")[:-1], "ada")
        reply = self._client.post(f"{API}{resource}/", json=body)
        assert reply.status_code == 201, reply.text
        return reply.json()["id"]

    def shared(self, what: str) -> int:
        """Return the id of the one that all tasks refer to."""
        path = f"{API}{what.replace('_', '-')}s/"
        if not (rows := self._client.get(path).json()):
            return int(self.make(path.removeprefix(API)[:-1]))
        return int(rows[-1]["id"])

    def body(self, wanted: Any, by: str) -> Any:
        """Return what a request sends, in the name of its caller where it makes something."""
        number = next(self._numbers)
        if wanted == "category":
            return {"digit": 9 - number % 3, "name": f"N{number}", "created_by": by}
        if wanted == "dataset":
            return composition(self._rows, by, sample_name=f"n{number}")
        if wanted in ("config", "campaign"):
            return {"name": f"c{number}", "created_by": by}
        if wanted == "clone":
            return {"name": f"clone{number}"}
        if wanted == "record":
            return {"jedi_task_id": number}
        if wanted == "task":
            made = {each: self.shared(each) for each in ("dataset", "prod_config")}
            return {"name": f"t{number}", "csv_file": "x.csv", "created_by": by, **made}
        return {"created_by": by, **wanted} if wanted and "parameters" in wanted else wanted


@pytest.mark.parametrize("resource", sorted({verb.resource for verb in matrix()}))
def test_each_caller_may_do_what_the_rules_say(
    ada: TestClient, callers: Mapping[str, dict[str, str]], resource: str
) -> None:
    world, client = World(ada), ada
    for verb in (each for each in matrix() if each.resource == resource):
        for (name, headers), expected in zip(callers.items(), verb.expected, strict=True):
            path = f"{API}{resource}/{verb.path}"
            if "{}" in path:
                path = path.format(world.make(resource) if resource != "physics-categories" else 1)
            by = {"other": "bob", "admin": "root"}.get(name, "ada")
            body = world.body(verb.body, "ada" if verb.method == "PUT" else by)
            sent = headers or {"Authorization": ""}
            reply = client.request(verb.method, path, json=body, headers=sent)
            said = f"{verb} by {name}: {reply.status_code} {reply.text[:200]}"
            assert reply.status_code == expected, said
            if expected == 403 and name in ("anonymous", "reader") and "problem" not in reply.headers["content-type"]:
                assert reply.json() == (NOT_PROVIDED if name == "anonymous" else DENIED), said


def test_nobody_gives_his_work_the_name_of_another(ada: TestClient, callers: Mapping[str, dict[str, str]]) -> None:
    forged = ada.post(f"{API}evgen-tags/", json={"created_by": "bob", "parameters": MINIMAL["evgen"]})
    assert (forged.status_code, list(forged.json())) == (400, ["created_by"])
    missing = ada.post(f"{API}evgen-tags/", json={"parameters": MINIMAL["evgen"]})
    assert (missing.status_code, missing.json()) == (400, {"created_by": ["This field is required."]})
    for_bob = ada.post(
        f"{API}evgen-tags/", json={"created_by": "bob", "parameters": MINIMAL["evgen"]}, headers=callers["admin"]
    )
    assert (for_bob.status_code, for_bob.json()["created_by"]) == (201, "bob")
    mine = tag(ada)
    given_away = ada.patch(f"{API}evgen-tags/{mine['tag_number']}/", json={"created_by": "bob"})
    assert given_away.status_code == 400


def test_a_session_has_to_prove_that_a_page_of_ours_asks(client: TestClient, tokens: Tokens) -> None:
    body = {"created_by": "ada", "parameters": MINIMAL["evgen"]}
    proven = client.post(f"{API}evgen-tags/", json=body, headers=tokens.session("pcs"))
    assert proven.status_code == 201
    unproven = client.post(f"{API}evgen-tags/", json=body, headers=tokens.session("pcs", proven=False))
    assert (unproven.status_code, unproven.json()) == (403, {"detail": "CSRF Failed: CSRF token missing."})
