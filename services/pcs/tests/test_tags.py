"""Tags beyond the scenarios: numbers at the edge, definitions, search, copies, history, comparison."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from .world import API, DIS, MINIMAL, category, lock, tag

EVGEN = f"{API}evgen-tags/"
PHYSICS = f"{API}physics-tags/"


def set_counter(url: str, name: str, value: int) -> None:
    with create_engine(url, poolclass=NullPool).begin() as connection:
        connection.execute(
            text(
                "INSERT INTO counter (name, next) VALUES (:name, :next) "
                "ON CONFLICT (name) DO UPDATE SET next = excluded.next"
            ),
            {"name": name, "next": value},
        )


def test_a_suffix_beyond_999_takes_the_next_free_number_of_its_category(ada: TestClient, service_database: str) -> None:
    category(ada, 1)
    category(ada, 2, "DVCS")
    assert tag(ada, "physics")["tag_number"] == 1001
    set_counter(service_database, "physics", 999)
    assert tag(ada, "physics", category=2)["tag_number"] == 2999
    assert [tag(ada, "physics")["tag_number"] for _ in range(2)] == [1002, 1003]
    # A number that was deleted stays used.
    assert ada.post(f"{PHYSICS}1003/delete/").status_code == 200
    assert tag(ada, "physics")["tag_number"] == 1004
    assert tag(ada, "physics", category=2)["tag_number"] == 2001


def test_a_full_category_is_a_conflict(ada: TestClient, service_database: str) -> None:
    category(ada, 1)
    set_counter(service_database, "physics", 1000)
    with create_engine(service_database, poolclass=NullPool).begin() as connection:
        connection.execute(
            text(
                "INSERT INTO physics_tag (tag_number, tag_label, category, status, description, parameters, "
                "created_by) SELECT n, 'p' || n, 1, 'draft', '', '{}', 'ada' FROM generate_series(1001, 1999) AS n"
            )
        )
    reply = ada.post(PHYSICS, json={"category": 1, "created_by": "ada", "parameters": DIS})
    assert (reply.status_code, reply.json()) == (409, {"detail": "Category 1 is full."})


def test_two_locks_at_once_are_one_lock(ada: TestClient) -> None:
    for _ in range(10):
        row = tag(ada)
        path = f"{EVGEN}{row['tag_number']}/lock/"
        with ThreadPoolExecutor(4) as pool:
            statuses = sorted(reply.status_code for reply in pool.map(lambda _, path=path: ada.post(path), range(4)))
        assert statuses == [200, 400, 400, 400]


def test_no_edit_gets_behind_a_lock(ada: TestClient) -> None:
    for _ in range(10):
        path = f"{EVGEN}{tag(ada)['tag_number']}/"
        with ThreadPoolExecutor(4) as pool:
            edits = [pool.submit(ada.patch, path, json={"description": f"d{n}"}) for n in range(3)]
            locked = pool.submit(ada.post, f"{path}lock/").result().json()
            assert {each.result().status_code for each in edits} <= {200, 400}
        assert ada.get(path).json() == locked


def test_two_creations_that_insist_on_being_the_only_one(ada: TestClient) -> None:
    body = {"created_by": "ada", "parameters": MINIMAL["evgen"]}
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ada.post(f"{EVGEN}?unique=true", json=body), range(8)))
    assert sorted(reply.status_code for reply in replies) == [201] + [409] * 7
    refused = next(reply.json() for reply in replies if reply.status_code == 409)
    assert refused == {"detail": "Tag e1 has these parameters already.", "tag_label": "e1"}
    assert tag(ada)["tag_number"] == 2


def test_definitions_hold_where_they_say_so(ada: TestClient) -> None:
    defs: list[dict[str, Any]] = [
        {"name": "colour", "choices": ["red", "blue"], "allow_other": False},
        {"name": "flavour", "choices": ["up"]},
        {"name": "jobs", "type": "integer"},
        {"name": "share", "type": "float"},
        {"name": "fast", "type": "boolean"},
    ]
    assert ada.post("/pcs/tags/e/param-defs/", json={"defs": defs}).status_code == 200
    good = {"colour": "red", "flavour": "down", "jobs": 3, "share": 0.5, "fast": False, "unknown": []}
    assert tag(ada, parameters=good)["parameters"] == good
    for bad, message in (
        ({"colour": "green"}, "colour: only one of red, blue is allowed."),
        ({"jobs": "3"}, "jobs: a value of type integer is required."),
        ({"jobs": True}, "jobs: a value of type integer is required."),
        ({"share": "x"}, "share: a value of type float is required."),
        ({"fast": 1}, "fast: a value of type boolean is required."),
    ):
        reply = ada.post(EVGEN, json={"created_by": "ada", "parameters": bad})
        assert (reply.status_code, reply.json()) == (400, {"parameters": [message]})


def test_a_parameter_can_be_required_in_some_categories_only(ada: TestClient) -> None:
    category(ada, 1)
    category(ada, 6, "Background")
    path = "/pcs/tags/p/param-defs/"
    defs = ada.get(path).json()["defs"]
    for each in defs[:3]:
        each["required_categories"] = [1, 2, 3, 4, 5]
    assert ada.post(path, json={"defs": defs}).status_code == 200
    assert tag(ada, "physics", category=6, parameters={})["tag_label"] == "p6001"
    assert ada.post(PHYSICS, json={"category": 1, "created_by": "ada", "parameters": {}}).status_code == 400
    moved = ada.patch(f"{PHYSICS}6001/", json={"category": 1})
    assert (moved.status_code, list(moved.json())) == (400, ["parameters"])


def test_required_parameters_are_looked_at_again_at_the_lock(ada: TestClient) -> None:
    made = tag(ada)
    defs = ada.get("/pcs/tags/e/param-defs/").json()["defs"]
    assert ada.post("/pcs/tags/e/param-defs/", json={"defs": [*defs, {"name": "seed", "required": True}]}).is_success
    reply = ada.post(f"{EVGEN}{made['tag_number']}/lock/")
    assert (reply.status_code, reply.json()) == (400, {"parameters": ["Missing required parameters: seed"]})
    assert ada.get(f"{EVGEN}1/").json()["status"] == "draft"


BAD_DEFINITIONS = [
    ("POST", b"{", 400, "Invalid JSON"),
    ("POST", b"{}", 400, "defs must be a list"),
    ("POST", b'{"defs": {}}', 400, "defs must be a list"),
    ("POST", b'{"defs": [{"name": "a"}, 7]}', 400, "Invalid param def at index 1"),
    ("POST", b'{"defs": [{"name": "a"}, {"type": "string"}]}', 400, "Invalid param def at index 1"),
    ("POST", b'{"defs": [{"name": "a", "choices": "x"}]}', 400, "Invalid param def at index 0"),
    ("POST", b'{"defs": [{"name": "%s"}]}' % (b"a" * 201), 400, "Invalid param def at index 0"),
    ("POST", b'{"defs": [{"name": "a", "required_categories": [true]}]}', 400, "Invalid param def at index 0"),
    ("POST", b'{"defs": [{"name": "a\\u0000"}]}', 400, "Invalid param def at index 0"),
    ("POST", b'{"defs": [{"name": "a"}, {"name": " a "}]}', 400, "Duplicate param name: a"),
    ("DELETE", b"", 405, "Method not allowed"),
]


def test_bad_definitions_are_refused_in_the_words_of_the_contract(ada: TestClient) -> None:
    headers = {"Content-Type": "application/json"}
    for method, body, status, error in BAD_DEFINITIONS:
        reply = ada.request(method, "/pcs/tags/r/param-defs/", content=body, headers=headers)
        assert (reply.status_code, reply.json()) == (status, {"error": error}), body


def test_definitions_are_read_by_everybody_and_written_by_those_who_may(client: TestClient, tokens: Tokens) -> None:
    path = "/pcs/tags/k/param-defs/"
    defs = client.get(path).json()["defs"]
    assert [each["name"] for each in defs if each["required"]] == ["background_type"]
    anonymous = client.post(path, json={"defs": []})
    assert (anonymous.status_code, anonymous.json()) == (403, {"error": "Login required"})
    reader = client.post(path, json={"defs": []}, headers=tokens.header("logs:read"))
    assert reader.status_code == 403
    for method in ("GET", "POST", "DELETE"):
        unknown = client.request(method, "/pcs/tags/x/param-defs/")
        assert (unknown.status_code, unknown.json()) == (400, {"error": "Invalid tag type"})
    assert client.get(path).json()["defs"] == defs


def test_tags_are_found_by_text_status_creator_and_parameters(ada: TestClient) -> None:
    first = tag(ada, description="100% of it")
    other = {"generator": "EpIC", "generator_version": "1.1.6-1.0", "cuts": {"q2": 1}}
    tag(ada, parameters=other)
    lock(ada, "evgen", first)

    def found(**query: str) -> list[int]:
        reply = ada.get(EVGEN, params=query)
        assert reply.status_code == 200, reply.text
        return [row["tag_number"] for row in reply.json()]

    assert found(status="locked") == [1]
    assert found(created_by="ada") == [1, 2]
    assert found(search="100%") == [1]
    assert found(search="epic") == [2]
    assert found(search="E2") == [2]
    assert found(contains='{"generator": "EpIC"}') == [2]
    assert found(contains='{"cuts": {"q2": 1}}') == [2]
    assert found(parameters='{"generator": "EpIC"}') == []
    assert found(parameters='{"cuts": {"q2": 1}, "generator_version": "1.1.6-1.0", "generator": "EpIC"}') == [2]
    assert found(nothing="known") == [1, 2]


def test_a_copy_takes_what_is_not_said_otherwise(ada: TestClient) -> None:
    category(ada)
    category(ada, 2, "DVCS")
    source = tag(ada, "physics", description="d")
    lock(ada, "physics", source)
    copy = ada.post(f"{PHYSICS}1001/copy/", json={"category": 2, "description": "mine"}).json()
    assert (copy["tag_label"], copy["category_name"], copy["description"]) == ("p2002", "DVCS", "mine")
    assert (copy["status"], copy["parameters"]) == ("draft", source["parameters"])
    assert ada.post(f"{PHYSICS}7/copy/").status_code == 404
    bad = ada.post(f"{PHYSICS}1001/copy/", json={"parameters": {}})
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (400, "parameters")


def test_history_says_who_did_what_also_of_what_is_gone(ada: TestClient, tokens: Tokens) -> None:
    tag(ada)
    ada.patch(f"{EVGEN}1/", json={"description": "better"})
    root = tokens.header("pcs:write", "pcs:admin", subject="root")
    assert ada.post(f"{EVGEN}1/delete/", headers=root).status_code == 200
    changes = ada.get(f"{EVGEN}1/history/").json()
    assert [(each["action"], each["by"]) for each in changes] == [
        ("created", "ada"),
        ("updated", "ada"),
        ("deleted", "root"),
    ]
    assert (changes[1]["before"]["description"], changes[1]["after"]["description"]) == ("", "better")
    assert changes[2]["after"] is None
    page = ada.get(f"{EVGEN}1/history/?limit=2")
    rest = ada.get(page.links["next"]["url"])
    assert [each["action"] for each in (*page.json(), *rest.json())] == ["created", "updated", "deleted"]
    assert ada.get(f"{EVGEN}2/history/").status_code == 404


def test_two_tags_are_compared(ada: TestClient) -> None:
    tag(ada, parameters={"generator": "a", "generator_version": "1", "x": 1})
    tag(ada, parameters={"generator": "b", "generator_version": "1", "y": None}, description="d")
    assert ada.get(f"{EVGEN}1/diff/2/").json() == {
        "left": "e1",
        "right": "e2",
        "fields": {"description": {"left": "", "right": "d"}},
        "parameters": {"generator": {"left": "a", "right": "b"}, "x": {"left": 1}, "y": {"right": None}},
    }
    assert ada.get(f"{EVGEN}1/diff/1/").json()["parameters"] == {}
    assert ada.get(f"{EVGEN}1/diff/3/").json()["status"] == 404
