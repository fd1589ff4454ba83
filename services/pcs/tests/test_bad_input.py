"""What made the original fail is refused here, and names what is wrong (contract 5.3, 5.4, 13)."""

import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from .world import API, DIS, MINIMAL, category, composition, dataset, tag, tags_of_all_kinds

EVGEN = f"{API}evgen-tags/"


@pytest.mark.parametrize(
    ("given", "field", "message"),
    [
        ([], "parameters", 'Expected a dictionary of items but got type "list".'),
        ("x", "parameters", 'Expected a dictionary of items but got type "str".'),
        (None, "parameters", "This field may not be null."),
        ({"generator": "a\0", "generator_version": "1"}, "parameters", "Null characters are not allowed."),
        (
            {"generator": 7, "generator_version": "1"},
            "parameters",
            "generator: a value of type string is required.",
        ),
    ],
)
def test_parameters_of_a_wrong_type_are_400(ada: TestClient, given: Any, field: str, message: str) -> None:
    reply = ada.post(EVGEN, json={"created_by": "ada", "parameters": given})
    assert (reply.status_code, reply.json()) == (400, {field: [message]})
    assert ada.get(EVGEN).json() == []


def test_numbers_that_are_none_and_bodies_that_are_too_long_are_refused(ada: TestClient) -> None:
    nan = b'{"created_by": "ada", "parameters": {"generator": "x", "generator_version": "y", "z": NaN}}'
    reply = ada.post(EVGEN, content=nan, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("JSON parse error - ")
    long = {"created_by": "ada", "parameters": {**MINIMAL["evgen"], "notes": "x" * 10_000_000}}
    assert ada.post(EVGEN, json=long).status_code == 413
    assert ada.get(EVGEN).json() == []


@pytest.mark.parametrize("path", ["physics-categories/", "physics-tags/", "evgen-tags/", "datasets/", "prod-configs/"])
def test_a_body_that_is_an_array_is_400(ada: TestClient, path: str) -> None:
    reply = ada.post(f"{API}{path}", json=[1])
    message = "Invalid data. Expected a dictionary, but got list."
    assert (reply.status_code, reply.json()) == (400, {"non_field_errors": [message]})


def test_categories_have_a_digit_and_a_name_of_their_own(ada: TestClient) -> None:
    path = f"{API}physics-categories/"
    made = category(ada)
    assert list(made) == ["digit", "name", "description", "created_by", "created_at"]
    tag(ada, "physics")
    assert ada.get(path).json() == [{**made, "tag_count": 1}]
    assert ada.patch(f"{path}1/", json={"name": "SIDIS"}).json()["tag_count"] == 1
    for body, errors in (
        ({"digit": 1, "name": "X"}, {"digit": ["physics category with this digit already exists."]}),
        ({"digit": 2, "name": "SIDIS"}, {"name": ["physics category with this name already exists."]}),
        ({"digit": 0, "name": "X"}, {"digit": ["Ensure this value is greater than or equal to 1."]}),
        ({"digit": 10, "name": "X"}, {"digit": ["Ensure this value is less than or equal to 9."]}),
    ):
        reply = ada.post(path, json={**body, "created_by": "ada"})
        assert (reply.status_code, reply.json()) == (400, errors)
    missing = ada.get(f"{path}7/")
    assert missing.json() == {"detail": "No PhysicsCategory matches the given query."}
    assert ada.get(f"{path}x/").json() == {"detail": "Not found."}


def test_names_of_datasets_have_the_characters_and_the_length_that_rucio_takes(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    path = f"{API}datasets/"
    plain = "Only letters, digits, dots, underscores and hyphens, beginning with a letter or digit."
    for given, errors in (
        ({"scope": "group EIC"}, {"scope": [plain]}),
        ({"scope": ""}, {"scope": ["This field may not be blank."]}),
        ({"detector_config": "a:b"}, {"detector_config": [plain]}),
        ({"detector_version": "é"}, {"detector_version": [plain]}),
        ({"sample_name": "a/b"}, {"sample_name": [plain]}),
        (
            {"scope": "s" * 100, "detector_config": "c" * 100, "sample_name": "n" * 100},
            {"dataset_name": ["Ensure this field has no more than 255 characters."]},
        ),
        (
            {"scope": "s" * 100, "detector_config": "c" * 100, "sample_name": "n"},
            {"did": ["Ensure this field has no more than 300 characters."]},
        ),
        ({"evgen_tag": 99999}, {"evgen_tag": ['Invalid pk "99999" - object does not exist.']}),
        ({"evgen_tag": "e1"}, {"evgen_tag": ["Incorrect type. Expected pk value, received str."]}),
        ({"background_tag": 99999}, {"background_tag": ['Invalid pk "99999" - object does not exist.']}),
        (
            {"metadata": {"source": {"kind": "url"}}},
            {"metadata": ["external datasets require metadata.source.location."]},
        ),
        ({"metadata": {"source": []}}, {"metadata": ["metadata.source must be a JSON object."]}),
    ):
        reply = ada.post(path, json=composition(rows, **given))
        assert (reply.status_code, reply.json()) == (400, errors), given
    assert ada.get(path).json() == []


def test_21_a_sample_is_not_called_like_an_attempt_a_block_or_a_background(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    for sample in ("b3", "k2.x", "x.try2", "k7", "try1"):
        reply = ada.post(f"{API}datasets/", json=composition(rows, sample_name=sample))
        assert (reply.status_code, list(reply.json())) == (400, ["sample_name"]), sample


BAD_REPORTS: list[Any] = [
    {},
    {"count": 0},
    {"count": -1},
    {"count": 10_000_001},
    {"count": "many"},
    {"count": 1, "bytes": -1},
    {"count": 1, "bytes": 2**60},
    {"count": 1, "key": ""},
    {"count": 1, "key": "a\0"},
    {"count": 1.5},
    [1],
    None,
]


def test_bad_reports_of_files_are_problems_and_change_nothing(ada: TestClient) -> None:
    path = f"{API}datasets/{dataset(ada)['id']}/"
    for body in BAD_REPORTS:
        reply = ada.post(f"{path}files/", content=json.dumps(body), headers={"Content-Type": "application/json"})
        assert reply.status_code == 400, body
        assert reply.headers["content-type"] == "application/problem+json"
    assert ada.get(path).json()["file_count"] == 0


def test_a_search_that_cannot_be_read_is_400_and_named(ada: TestClient) -> None:
    for query, field in (("parameters=x", "parameters"), ("contains=[1]", "contains"), ("limit=0", "limit")):
        reply = ada.get(f"{EVGEN}?{query}")
        assert (reply.status_code, list(reply.json())) == (400, [field])


def test_unknown_keys_paths_and_methods_are_answered_as_the_contract_says(ada: TestClient) -> None:
    category(ada)
    assert ada.get(f"{API}evgen-tags/1/").json() == {"detail": "No EvgenTag matches the given query."}
    assert ada.get(f"{API}evgen-tags/e1/").json() == {"detail": "Not found."}
    assert ada.post(f"{API}evgen-tags/x/lock/").json() == {"detail": "Not found."}
    assert ada.post(f"{API}evgen-tags/{10**30}/lock/").status_code == 404
    assert ada.get(f"{API}physics-tags").status_code == 301
    text = ada.post(EVGEN, content=b"x", headers={"Content-Type": "text/plain"})
    assert (text.status_code, text.json()) == (415, {"detail": 'Unsupported media type "text/plain" in request.'})
    index = ada.get(API).json()
    assert list(index)[:7] == [
        "physics-categories",
        "physics-tags",
        "evgen-tags",
        "simu-tags",
        "reco-tags",
        "datasets",
        "prod-configs",
    ]
    assert index["physics-tags"].endswith("/pcs/api/physics-tags/")
    assert tag(ada, "physics", parameters={**DIS, "x": 1})["parameters"]["x"] == 1
