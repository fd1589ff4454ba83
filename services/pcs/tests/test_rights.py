"""Who may do what: each verb of each resource (contract 3.3, decision 20)."""

import re
from collections.abc import Mapping
from itertools import count
from typing import Any, NamedTuple

import pytest
from starlette.testclient import TestClient

from sluice_core.testing.apps import AppMaker
from sluice_core.testing.tokens import Tokens

from .world import API, MINIMAL, category, composition, tag, tags_of_all_kinds

LOGIN = {"error": "Login required"}
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
EMPTY = {"format": "pcs-campaign-seed", "format_version": 1, "tags": {}}
ELSEWHERE = {
    "panda-queues": "/api/panda-queues/",
    "rucio-endpoints": "/api/rucio-endpoints/",
    "param-defs": "/pcs/tags/e/param-defs/",
}


def path_of(resource: str) -> str:
    return ELSEWHERE.get(resource, f"{API}{resource}/")


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
            Verb(name, "GET", "{0}/diff/{0}/", None, OPEN),
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
        Verb("datasets", "POST", "propagation/", "held", OWNS),
        Verb("datasets", "POST", "expected-events/", "expected", OWNS),
        Verb("datasets", "POST", "intake/", "outside", CREATES),
        Verb("dids", "GET", "{}/", None, OPEN),
        Verb("physics-configs", "GET", "", None, OPEN),
        Verb("physics-configs", "GET", "{}/", None, OPEN),
        Verb("physics-configs", "POST", "requestors/", "requestors", (403, 403, 200, 200, 200)),
        Verb("param-defs", "GET", "", None, OPEN),
        Verb("param-defs", "POST", "", {"defs": []}, (403, 403, 200, 200, 200)),
        Verb("import", "POST", "", {"campaign": EMPTY}, (401, 403, 403, 403, 200)),
        Verb("export", "GET", "", None, OPEN),
        Verb("prod-configs", "GET", "", None, OPEN),
        Verb("prod-configs", "GET", "{}/", None, OPEN),
        Verb("prod-configs", "POST", "", "config", CREATES),
        Verb("prod-configs", "PATCH", "{}/", {"description": "x"}, OWNS),
        Verb("prod-configs", "PUT", "{}/", "config", OWNS),
        Verb("prod-configs", "DELETE", "{}/", None, REMOVES),
        Verb("campaigns", "GET", "", None, OPEN),
        Verb("campaigns", "GET", "{}/", None, OPEN),
        Verb("campaigns", "POST", "", "campaign", CREATES),
        Verb("campaigns", "PATCH", "{}/", {"description": "x"}, OWNS),
        Verb("campaigns", "PUT", "{}/", "campaign", OWNS),
        Verb("campaigns", "DELETE", "{}/", None, REMOVES),
        Verb("campaigns", "POST", "{}/set-current/", None, (401, 403, 403, 403, 200)),
        Verb("campaigns", "POST", "{}/promote/", None, (401, 403, 403, 403, 200)),
        Verb("campaigns", "POST", "{}/clone/", "clone", (401, 403, 201, 201, 201)),
        # What comes behind the rights is another matter: this campaign follows none.
        Verb("campaigns", "GET", "{}/instancing/", None, (400,) * 5),
        Verb("campaigns", "POST", "{}/instancing/", {"digest": "0" * 64, "source": 10**9}, (401, 403, 404, 404, 404)),
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
        Verb("prod-tasks", "GET", "command/?name={}&fmt=dump", None, OPEN),
        Verb("prod-tasks", "POST", "intake/", "entry", CREATES),
        Verb("prod-tasks", "POST", "{}/link-input/", "link", OWNS),
        Verb("prod-tasks", "POST", "{}/outputs/", "outputs", OWNS),
        Verb("prod-tasks", "GET", "{}/residual-preview/", None, OPEN),
        # Of the creator's fresh draft, these cannot be done.
        Verb("prod-tasks", "POST", "{}/submit/", None, (403, 403, 403, 400, 400)),
        *(
            Verb("prod-tasks", "POST", f"{{}}/{verb}/", {}, (403, 403, 403, 409, 409))
            for verb in ("panda-add-retry", "panda-retry-failures", "rerun-entire-task", "rerun-residual")
        ),
        Verb("prod-tasks", "POST", "record-submission-failure/", "failure", OWNS),
    ]
    for name in ("panda-queues", "rucio-endpoints"):
        rows += [
            Verb(name, "GET", "", None, OPEN),
            Verb(name, "GET", "{}/", None, OPEN),
            Verb(name, "POST", "", "config", (403, 403, 403, 403, 201)),
            Verb(name, "PUT", "{}/", "config", (403, 403, 403, 403, 400)),
            Verb(name, "PATCH", "{}/", {"description": "x"}, (403, 403, 403, 403, 200)),
            Verb(name, "DELETE", "{}/", None, (403, 403, 403, 403, 204)),
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

    def __init__(self, client: TestClient, admin: dict[str, str]) -> None:
        self._client = client
        self._admin = admin
        self._numbers = count(1)
        self._rows = tags_of_all_kinds(client)

    def make(self, resource: str) -> Any:
        """Return the key of a new object."""
        if resource.endswith("-tags"):
            return tag(self._client, resource.removesuffix("-tags"))["tag_number"]
        if resource == "physics-categories":
            number = next(self._numbers) + 1
            return category(self._client, number, f"C{number}")["digit"]
        if resource in ("panda-queues", "rucio-endpoints"):
            return self._post(path_of(resource), self.body("config", "root"), self._admin)["name"]
        if resource in ("dids", "physics-configs"):
            return self.dataset()["did" if resource == "dids" else "physics_config_label"]
        return self._post(path_of(resource), self.body(resource.removeprefix("prod-")[:-1], "ada"))["id"]

    def dataset(self) -> dict[str, Any]:
        return self._post(path_of("datasets"), self.body("dataset", "ada"))

    def _post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> dict[str, Any]:
        reply = self._client.post(path, json=body, headers=headers)
        assert reply.is_success, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def shared(self, what: str) -> int:
        """Return the id of the one that all tasks refer to."""
        path = f"{API}{what.replace('_', '-')}s/"
        if not (rows := self._client.get(path).json()):
            return int(self.make(path.removeprefix(API)[:-1]))
        return int(rows[-1]["id"])

    def body(self, wanted: Any, by: str) -> Any:
        """Return what a request sends, in the name of its caller where it makes something."""
        number = next(self._numbers)
        match wanted:
            case "category":
                return {"digit": 9 - number % 3, "name": f"N{number}", "created_by": by}
            case "dataset":
                return composition(self._rows, by, sample_name=f"n{number}")
            case "config" | "campaign":
                return {"name": f"c{number}", "created_by": by}
            case "clone":
                return {"name": f"clone{number}"}
            case "task":
                made = {each: self.shared(each) for each in ("dataset", "prod_config")}
                return {"name": f"t{number}", "csv_file": "x.csv", "created_by": by, **made}
            case "entry":
                return {"name": f"e{number}", "public_catalog_issue": number, **self.shared_names()}
            case "record":
                return {"jedi_task_id": number}
            case "failure":
                return {"panda_tasks_id": self.queued(), "reason": "r"}
            case "link":
                return {"did": self.shared_names()["dataset"]}
            case "outputs":
                return {"did": self.shared_names()["dataset"], "files": ["x.root"]}
            case "held":
                return {"names": [self.dataset()["dataset_name"]], "state": "hold", "comment": "c"}
            case "expected":
                return {"entries": [{"name": self.dataset()["dataset_name"], "expected_events": 1}], "comment": "c"}
            case "requestors":
                return {"entries": [{"config": "pc1", "requestors": [by]}], "comment": "c"}
            case "outside":
                labels = {f"{kind}_tag": row["tag_label"] for kind, row in self._rows.items()}
                detector = {"detector_version": f"v{number}", "detector_config": "c"}
                return {"source_location": f"{number}.csv", **labels, **detector}
        return {"created_by": by, **wanted} if wanted and "parameters" in wanted else wanted

    def shared_names(self) -> dict[str, str]:
        data, config = self.shared("dataset"), self.shared("prod_config")
        did = self._client.get(f"{API}datasets/{data}/").json()["did"]
        return {"dataset": did, "prod_config": self._client.get(f"{API}prod-configs/{config}/").json()["name"]}

    def queued(self) -> int:
        """Return the id of an attempt that waits."""
        rows = self._client.get(f"{API}prod-tasks/", params={"search": "queued"}).json()
        if not rows:
            source = {"source": {"kind": "file_list", "location": "l", "files": ["x.hepmc"]}}
            made = {
                "dataset": self._post(f"{API}datasets/", composition(self._rows, "ada", metadata=source))["id"],
                "prod_config": self._post(
                    f"{API}prod-configs/",
                    {"name": "all", "created_by": "ada", "jug_xl_tag": "1", "data": {"events_per_job": 1}},
                )["id"],
            }
            self._post(f"{API}prod-tasks/", {"name": "queued", "description": "queued", "created_by": "ada", **made})
            self._post(f"{API}prod-tasks/queued/lock/", {})
            rows = [self._post(f"{API}prod-tasks/queued/submit/", {})]
        return int(rows[0]["panda_tasks"][0]["id"])


@pytest.mark.parametrize("resource", sorted({verb.resource for verb in matrix()}))
def test_each_caller_may_do_what_the_rules_say(
    ada: TestClient, callers: Mapping[str, dict[str, str]], resource: str
) -> None:
    world, client = World(ada, callers["admin"]), ada
    for verb in (each for each in matrix() if each.resource == resource):
        for (name, headers), expected in zip(callers.items(), verb.expected, strict=True):
            path = f"{path_of(resource)}{verb.path}"
            if "{" in path:
                path = path.format(world.make(resource) if resource != "physics-categories" else 1)
            by = {"other": "bob", "admin": "root"}.get(name, "ada")
            body = world.body(verb.body, "ada" if verb.method == "PUT" else by)
            sent = headers or {"Authorization": ""}
            reply = client.request(verb.method, path, json=body, headers=sent)
            said = f"{verb} by {name}: {reply.status_code} {reply.text[:200]}"
            assert reply.status_code == expected, said
            if expected == 403 and name in ("anonymous", "reader") and "problem" not in reply.headers["content-type"]:
                nobody = LOGIN if resource == "param-defs" else NOT_PROVIDED
                assert reply.json() == (nobody if name == "anonymous" else DENIED), said


def test_the_matrix_knows_each_verb_of_each_resource(make_app: AppMaker) -> None:
    declared = {
        (method.upper(), re.sub(r"\{\w+\}", "{}", path).replace("/pcs/tags/{}/", "/pcs/tags/e/"))
        for path, methods in make_app().openapi()["paths"].items()
        for method in methods
        if method != "parameters" and path != API
    }
    known = {
        (verb.method, re.sub(r"\{0?\}", "{}", path_of(verb.resource) + verb.path.partition("?")[0]))
        for verb in matrix()
        if verb.expected != NEVER
    }
    assert declared == known


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
