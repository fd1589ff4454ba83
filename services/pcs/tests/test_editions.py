"""Physics configurations and their editions in campaigns (contract 10.3)."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens

from .test_tasks import TASKS, config, task
from .world import API, composition, dataset, lock, made, tag, tags_of_all_kinds

DATASETS = f"{API}datasets/"
CAMPAIGNS = f"{API}campaigns/"
CONFIGS = f"{API}physics-configs/"


def campaign(client: TestClient, name: str, **given: Any) -> dict[str, Any]:
    return made(client.post(CAMPAIGNS, json={"name": name, "created_by": "ada", **given}))


def locked(client: TestClient, kind: str, **given: Any) -> dict[str, Any]:
    row = tag(client, kind, **given)
    lock(client, kind, row)
    return row


class TwoCampaigns:
    """A campaign with data sets, and the one after it with a reconstruction of its own."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.rows = tags_of_all_kinds(client)
        self.reco = locked(client, "reco", parameters={"reco_version": "26.05.0", "reco_config": "standard"})
        self.before = campaign(client, "26.02.0")
        self.after = made(client.post(f"{CAMPAIGNS}{self.before['id']}/clone/", json={"name": "26.05.0"}))
        self.path = f"{CAMPAIGNS}{self.after['id']}/instancing/"

    def edition(self, **given: Any) -> dict[str, Any]:
        body = composition(self.rows, campaign=self.before["id"], **given)
        return made(self.client.post(DATASETS, json=body))

    def say_context(self, **more: Any) -> None:
        data = {"detector_version": "26.05.0", "simu_tag": "s1", "reco_tag": self.reco["tag_label"], **more}
        assert self.client.patch(f"{CAMPAIGNS}{self.after['id']}/", json={"data": data}).status_code == 200

    def plan(self) -> dict[str, Any]:
        reply = self.client.get(self.path)
        assert reply.status_code == 200, reply.text
        found: dict[str, Any] = reply.json()
        return found

    def classes(self) -> dict[str, str]:
        return {each["sources"][0].partition("r1")[2]: each["class"] for each in self.plan()["entries"]}


def test_data_sets_of_one_physics_are_editions_of_one_configuration(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    first = made(ada.post(DATASETS, json=composition(rows)))
    assert first["physics_config_label"] == "pc1"
    # Another detector, another reconstruction, and another tag of the same generator: the same physics.
    again = {**rows, "reco": locked(ada, "reco"), "evgen": locked(ada, "evgen")}
    body = composition(again, detector_version="26.05.0")
    assert made(ada.post(DATASETS, json=body))["physics_config"] == first["physics_config"]
    other = {"generator": "pythia8", "generator_version": "8.310", "radiative": "on"}
    assert made(ada.post(DATASETS, json=composition({**rows, "evgen": locked(ada, "evgen", parameters=other)})))[
        "physics_config_label"
    ] == ("pc2")
    assert made(ada.post(DATASETS, json=composition(rows, sample_name="v1")))["physics_config_label"] == "pc3"
    background = locked(ada, "background")
    assert (
        made(ada.post(DATASETS, json=composition({**rows, "background": background})))["background_tag_label"] == "k1"
    )
    block = made(ada.post(f"{DATASETS}{first['id']}/add-block/"))
    assert block["physics_config"] == first["physics_config"]
    found = ada.get(CONFIGS).json()
    assert [each["label"] for each in found] == ["pc1", "pc2", "pc3", "pc4"]
    assert (found[0]["physics_tag_label"], found[3]["background_tag_label"]) == ("p1001", "k1")
    assert [each["evgen_display"] for each in found[:2]] == ["pythia8 8.310", "pythia8 8.310 radiative on"]
    assert [each["dataset_name"] for each in ada.get(f"{CONFIGS}pc1/").json()["editions"]] == [
        "group.EIC.26.02.0.epic_craterlake.p1001.e1.s1.r1",
        "group.EIC.26.05.0.epic_craterlake.p1001.e2.s1.r2",
    ]
    assert ada.get(f"{CONFIGS}pc9/").json() == {"detail": "No PhysicsConfig matches the given query."}
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        path = CONFIGS if method == "POST" else f"{CONFIGS}pc1/"
        assert ada.request(method, path, json={}).status_code == 405


def test_a_configuration_is_made_once_and_a_refused_data_set_makes_none(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    assert ada.post(DATASETS, json=composition(rows, sample_name="b3")).status_code == 400
    bodies = [composition(rows, detector_version=f"26.0{number}.0") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda body: ada.post(DATASETS, json=body), bodies))
    assert {made(reply)["physics_config_label"] for reply in replies} == {"pc1"}
    assert [each["label"] for each in ada.get(CONFIGS).json()] == ["pc1"]


def test_a_configuration_with_a_long_identity_has_a_key_too(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    for ending in "ab":
        generator = {"generator": "ä" * 400 + '"\\' * 100 + ending, "generator_version": "1"}
        body = composition({**rows, "evgen": locked(ada, "evgen", parameters=generator)})
        made(ada.post(DATASETS, json=body))
    keys = [each["config_key"] for each in ada.get(CONFIGS).json()]
    assert [len(key) for key in keys] == [500, 500]
    assert keys[0] != keys[1]


def test_requestors_are_said_with_a_comment_and_a_history(ada: TestClient) -> None:
    dataset(ada)
    path = f"{CONFIGS}requestors/"
    entries = [{"config": "pc1", "requestors": ["mira", "zed"]}, {"config": "pc7", "requestors": []}]
    first = ada.post(path, json={"entries": entries, "comment": "PWG"}).json()
    assert (first["changed"], first["unchanged"], first["unknown"]) == (["pc1"], [], ["pc7"])
    assert ada.post(path, json={"entries": entries, "comment": "PWG"}).json()["unchanged"] == ["pc1"]
    row = ada.get(f"{CONFIGS}pc1/").json()
    (line,) = row["metadata"]["requestors"]["history"]
    assert row["requestors"] == line["requestors"] == ["mira", "zed"]
    assert (line["previous"], line["comment"], line["changed_by"]) == ([], "PWG", "ada")
    assert [each["label"] for each in ada.get(CONFIGS, params={"search": "mira"}).json()] == ["pc1"]
    bad: list[Any] = [
        {"entries": entries},
        {"entries": [], "comment": "c"},
        {"entries": [{"config": "pc1"}], "comment": "c"},
        {"entries": [{"config": "pc1", "requestors": [7, None]}], "comment": "c"},
        {"entries": [{"config": "pc1", "requestors": ["x"] * 101}], "comment": "c"},
        {"entries": ["pc1"], "comment": "c"},
    ]
    for body in bad:
        assert ada.post(path, json=body).status_code == 400, body


def test_the_next_campaign_gets_editions_of_what_goes_on_with_their_tasks(ada: TestClient) -> None:
    world = TwoCampaigns(ada)
    source = {"stage": "evgen", "source": {"kind": "csv_manifest", "location": "EXCLUSIVE/x.csv"}}
    data = world.edition(metadata={**source, "mine": 1}, description="d")
    world.edition(sample_name="held", propagation="hold")
    world.edition(sample_name="ended", propagation="final")
    prod = config(ada)
    asked = {"requestor": "mira", "priority": 7, "early_science_use": True, "description": "for mira"}
    task(ada, data, prod, campaign=world.before["id"], **asked)
    assert world.classes() == {"": "no_context", ".held": "hold", ".ended": "final"}
    world.say_context()
    plan = world.plan()
    assert plan["counts"]["mint"] == 1
    name = "group.EIC.26.05.0.epic_craterlake.p1001.e1.s1.r2"
    assert plan["entries"][0]["target"] == name
    assert len(ada.get(DATASETS).json()) == 3
    done = ada.post(world.path, json={"digest": plan["digest"]})
    assert (done.status_code, done.json()) == (200, plan)
    new = ada.get(f"{API}dids/{name}/").json()
    assert (new["physics_config"], new["campaign"], new["description"]) == (
        data["physics_config"],
        world.after["id"],
        "d",
    )
    assert new["metadata"] == source
    minted = ada.get(f"{TASKS}{name}/").json()
    assert (minted["status"], minted["campaign"], minted["csv_file"]) == ("draft", world.after["id"], "EXCLUSIVE/x.csv")
    assert {key: minted[key] for key in asked} == asked
    assert minted["prod_config"] == prod["id"]
    again = ada.post(world.path, json={"digest": plan["digest"]})
    assert (again.status_code, again.headers["content-type"]) == (409, "application/problem+json")
    assert world.plan()["counts"] == {**dict.fromkeys(plan["counts"], 0), "aligned": 1, "hold": 1, "final": 1}


def test_what_cannot_be_decided_is_said_and_left_alone(ada: TestClient) -> None:
    world = TwoCampaigns(ada)
    first = world.edition()
    # Editions that differ in what the next campaign says itself become one.
    second = made(
        ada.post(
            DATASETS,
            json=composition(world.rows, campaign=world.before["id"], detector_version="26.03.0"),
        )
    )
    world.say_context()
    plan = world.plan()
    assert [each["class"] for each in plan["entries"]] == ["merge"]
    prods = [config(ada, name) for name in ("one", "two")]
    for number, row in enumerate((first, second)):
        task(ada, row, prods[number], name=f"t{number}")
    (entry,) = world.plan()["entries"]
    assert (entry["class"], entry["reason"]) == ("conflicting", "Tasks differ in prod_config.")
    stale = ada.post(world.path, json={"digest": plan["digest"]})
    assert stale.status_code == 409
    assert ada.patch(f"{TASKS}t1/", json={"prod_config": prods[0]["id"]}).status_code == 200
    assert world.classes() == {"": "merge"}
    body = {"names": [second["dataset_name"]], "state": "hold", "comment": "c"}
    assert ada.post(f"{DATASETS}propagation/", json=body).status_code == 200
    assert world.classes() == {"": "conflicting"}
    assert ada.post(f"{DATASETS}propagation/", json={**body, "state": "final"}).status_code == 200
    assert world.classes() == {"": "mint"}
    # Somebody else has the name.
    taken = composition({**world.rows, "reco": world.reco}, detector_version="26.05.0")
    made(ada.post(DATASETS, json=taken))
    assert world.classes() == {"": "name_collision"}
    for wrong in (
        {"simu_tag": "s9"},
        {"simu_tag": 7},
        {"detector_version": "a b"},
        {"reco_tag": tag(ada, "reco")["tag_label"]},
    ):
        world.say_context(**wrong)
        assert world.classes() == {"": "unresolved"}, wrong


def test_only_the_creator_of_a_campaign_fills_it_and_a_bad_question_is_400(ada: TestClient, tokens: Tokens) -> None:
    world = TwoCampaigns(ada)
    world.edition()
    world.say_context()
    digest = world.plan()["digest"]
    bob = tokens.header("pcs:write", subject="bob")
    refused = ada.post(world.path, json={"digest": digest}, headers=bob)
    assert (refused.status_code, refused.json()["detail"]) == (403, "Only the creator (ada) can change this campaign.")
    alone = f"{CAMPAIGNS}{world.before['id']}/instancing/"
    assert ada.get(alone).json()["errors"][0]["field"] == "source"
    assert ada.get(alone, params={"source": world.before["id"]}).status_code == 400
    assert ada.get(alone, params={"source": 10**9}).status_code == 404
    assert ada.get(alone, params={"source": world.after["id"]}).json()["entries"] == []
    assert ada.get(f"{CAMPAIGNS}{10**9}/instancing/").status_code == 404
    assert ada.post(world.path, json={"digest": "x"}).status_code == 400


def test_two_executions_at_once_are_one(ada: TestClient) -> None:
    world = TwoCampaigns(ada)
    for number in range(3):
        world.edition(sample_name=f"n{number}")
    world.say_context()
    digest = world.plan()["digest"]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: ada.post(world.path, json={"digest": digest}), range(4)))
    assert sorted(reply.status_code for reply in replies) == [200, 409, 409, 409]
    assert len(ada.get(DATASETS, params={"campaign": world.after["id"]}).json()) == 3
