"""Campaigns come in and go out as files (contract 8; scenario 1 of section 11)."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens
from sluice_pcs.service.definitions import builtin_campaign

from .world import API, DIS, category, tag

IMPORT = f"{API}import/"


@pytest.fixture
def root(client: TestClient, tokens: Tokens) -> TestClient:
    client.headers.update(tokens.header("pcs:write", "pcs:lock", "pcs:admin", subject="root"))
    return client


@pytest.fixture(scope="module")
def campaign() -> dict[str, Any]:
    found = builtin_campaign("26.02.0")
    assert found is not None
    return found


def take(client: TestClient, campaign: dict[str, Any], **given: Any) -> dict[str, Any]:
    reply = client.post(IMPORT, json={"campaign": campaign, **given})
    assert reply.status_code == 200, reply.text
    report: dict[str, Any] = reply.json()
    return report


def counts(report: dict[str, Any]) -> tuple[int, int, int]:
    return tuple(report["counts"][name] for name in ("created", "unchanged", "different"))


def test_1_the_campaign_26_02_0_on_an_empty_database(root: TestClient, campaign: dict[str, Any]) -> None:
    assert counts(take(root, campaign)) == (68, 0, 0)
    physics = root.get(f"{API}physics-tags/").json()
    assert (len(physics), physics[0]["tag_label"], physics[-1]["tag_label"]) == (47, "p1001", "p4047")
    assert [row["tag_count"] for row in root.get(f"{API}physics-categories/").json()] == [16, 9, 3, 19]
    assert root.get(f"{API}evgen-tags/13/").json()["parameters"]["bg_tag_prefix"] == ("Bkg_Exact1S_2us/GoldCt/10um")
    assert {row["created_by"] for row in physics} == {"srahman1"}
    for kind, letter in (("physics", "p"), ("evgen", "e"), ("simu", "s"), ("reco", "r")):
        stored = {
            row["tag_number"]: (row["tag_label"], row["description"], row["parameters"], row["status"])
            for row in root.get(f"{API}{kind}-tags/").json()
        }
        assert stored == {
            each["number"]: (each["label"], each["description"], each["parameters"], "draft")
            for each in campaign["tags"][letter]
        }
    # Scenario 2: numbers go on where the campaign ends.
    assert tag(root, "physics", "root", category=2)["tag_label"] == "p2048"
    assert tag(root, "physics", "root", category=1)["tag_label"] == "p1049"
    assert tag(root, by="root")["tag_label"] == "e16"


def test_1_a_second_import_changes_nothing(root: TestClient, campaign: dict[str, Any]) -> None:
    take(root, campaign)
    before = root.get(f"{API}export/").json()
    assert counts(take(root, campaign)) == (0, 68, 0)
    assert root.get(f"{API}export/").json() == before


def test_an_export_is_what_was_imported_and_can_be_imported(root: TestClient, campaign: dict[str, Any]) -> None:
    take(root, campaign)
    given = root.get(f"{API}export/?name=26.02.0").json()
    for name in ("format", "format_version", "seed_author", "initial_status", "categories"):
        assert given[name] == campaign[name]
    assert {letter: tags for letter, tags in given["tags"].items() if tags} == campaign["tags"]
    assert given["counters_after_seed"] == {**campaign["counters_after_seed"], "pcs_next_background": 1}
    for letter, schema in campaign["parameter_schemas"].items():
        assert given["parameter_schemas"][letter]["fields"] == schema["fields"]
    assert counts(take(root, given)) == (0, 68, 0)


def test_an_export_moves_gaps_locks_and_creators_to_another_database(
    root: TestClient, campaign: dict[str, Any], tokens: Tokens
) -> None:
    sent = {
        **campaign,
        "tags": {
            "p": [{"number": 1005, "category_digit": 1, "parameters": DIS, "status": "locked"}],
            "e": [{"number": 7, "parameters": campaign["tags"]["e"][0]["parameters"], "created_by": "bob"}],
        },
    }
    assert counts(take(root, sent)) == (6, 0, 0)
    assert root.get(f"{API}physics-tags/1005/").json()["status"] == "locked"
    assert root.get(f"{API}evgen-tags/7/").json()["created_by"] == "bob"
    given = root.get(f"{API}export/").json()
    assert given["tags"]["p"][0]["status"] == "locked"
    assert counts(take(root, given)) == (0, 6, 0)
    assert tag(root, by="root")["tag_label"] == "e8"
    assert tag(root, "physics", "root")["tag_label"] == "p1006"


def test_a_dry_run_says_what_would_happen_and_does_nothing(root: TestClient, campaign: dict[str, Any]) -> None:
    report = take(root, campaign, dry_run=True)
    assert (report["dry_run"], counts(report)) == (True, (68, 0, 0))
    assert root.get(f"{API}evgen-tags/").json() == []
    assert root.get(f"{API}physics-categories/").json() == []


def test_what_is_there_and_differs_stays_and_is_told(root: TestClient, campaign: dict[str, Any]) -> None:
    category(root, 1, "Single Particle", by="root")
    mine = tag(root, by="root", description="mine")
    own = tag(root, "physics", by="root", parameters={**DIS, "notes": "mine"})
    report = take(root, campaign, created_by="mira")
    assert counts(report) == (66, 0, 2)
    assert [each["name"] for each in report["different"]] == ["category 1", "e1"]
    assert root.get(f"{API}evgen-tags/1/").json() == mine
    assert root.get(f"{API}physics-tags/1001/").json() == own
    assert root.get(f"{API}physics-tags/1002/").json()["created_by"] == "mira"
    # The tag whose number was taken got another one, and is known by its parameters from now on.
    assert root.get(f"{API}physics-tags/?search=DIS NC 5x41").json()[0]["tag_number"] not in (1001,)
    assert counts(take(root, campaign)) == (0, 66, 2)


def test_a_number_that_was_deleted_does_not_come_back(root: TestClient, campaign: dict[str, Any]) -> None:
    take(root, campaign)
    assert root.post(f"{API}evgen-tags/15/delete/").status_code == 200
    report = take(root, campaign)
    assert report["different"] == [{"name": "e15", "reason": "it was deleted here"}]


BAD_CAMPAIGNS: list[tuple[dict[str, Any], str]] = [
    ({"format": "other"}, "campaign.format"),
    ({"tags": []}, "campaign.tags"),
    ({"tags": {"e": [{"number": 0, "parameters": {}}]}}, "campaign.tags.e.0.number"),
    ({"tags": {"e": [{"number": 10**8, "parameters": {}}]}}, "campaign.tags.e.0.number"),
    ({"tags": {"e": [{"number": 1, "parameters": []}]}}, "campaign.tags.e.0.parameters"),
    ({"tags": {"e": [{"number": 1, "parameters": {"x": "\0"}}]}}, "campaign.tags.e.0.parameters"),
    ({"tags": {"e": [{"number": 1, "parameters": {}}]}}, "tags.e1"),
    ({"tags": {"p": [{"number": 1001, "category_digit": 9, "parameters": DIS}]}}, "tags.p1001"),
    ({"categories": [{"digit": 10, "name": "x"}]}, "campaign.categories.0.digit"),
]


def test_a_bad_campaign_is_refused_as_a_whole(root: TestClient, campaign: dict[str, Any]) -> None:
    for change, field in BAD_CAMPAIGNS:
        reply = root.post(IMPORT, json={"campaign": {**campaign, **change}})
        assert reply.status_code == 400, change
        assert [each["field"] for each in reply.json()["errors"]] == [field]
    assert root.get(f"{API}physics-categories/").json() == []


def test_only_administrators_import(ada: TestClient, campaign: dict[str, Any]) -> None:
    assert ada.post(IMPORT, json={"campaign": campaign}).status_code == 403
