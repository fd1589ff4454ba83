"""Data sets beyond the scenarios: everything at once, background, campaigns, names; and queues and storage elements."""

from concurrent.futures import ThreadPoolExecutor

from starlette.testclient import TestClient

from sluice_core.testing.tokens import Tokens
from sluice_pcs.service.names import parse

from .world import API, composition, dataset, lock, tag, tags_of_all_kinds

DATASETS = f"{API}datasets/"


def test_add_block_at_once_opens_each_block_once(ada: TestClient) -> None:
    path = f"{DATASETS}{dataset(ada)['id']}/"
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: ada.post(f"{path}add-block/"), range(16)))
    assert {reply.status_code for reply in replies} == {201}
    rows = ada.get(DATASETS).json()
    assert sorted(row["block_num"] for row in rows) == list(range(1, 18))
    assert {row["blocks"] for row in rows} == {17}


def test_reports_of_files_at_once_lose_and_double_nothing(ada: TestClient) -> None:
    path = f"{DATASETS}{dataset(ada)['id']}/"

    def report(number: int) -> int:
        body = {"count": 17_000, "bytes": 34_000, "key": f"r{number % 20}"}
        return ada.post(f"{path}files/", json=body).status_code

    with ThreadPoolExecutor(8) as pool:  # each report comes twice
        assert set(pool.map(report, range(40))) == {200}
    manifest = ada.get(f"{path}manifest/").json()
    assert (manifest["file_count"], manifest["data_size"]) == (340_000, 680_000)
    assert [block["file_count"] for block in manifest["files"]] == [100_000, 100_000, 100_000, 40_000]


def test_the_same_composition_at_once_is_made_once(ada: TestClient) -> None:
    body = composition(tags_of_all_kinds(ada))
    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(reply.status_code for reply in pool.map(lambda _: ada.post(DATASETS, json=body), range(8)))
    assert statuses == [201] + [409] * 7
    assert len(ada.get(DATASETS).json()) == 1


def test_background_and_sample_are_parts_of_the_name(ada: TestClient) -> None:
    rows = tags_of_all_kinds(ada)
    background = tag(ada, "background")
    draft = ada.post(DATASETS, json=composition(rows, background_tag=background["id"]))
    message = "Tag k1 must be locked before use in a dataset."
    assert (draft.status_code, draft.json()) == (400, {"background_tag": [message]})
    lock(ada, "background", background)
    made = ada.post(DATASETS, json=composition(rows, background_tag=background["id"], sample_name="v2.1")).json()
    assert made["dataset_name"] == "group.EIC.26.02.0.epic_craterlake.p1001.e1.s1.r1.k1.v2.1"
    assert made["background_tag_label"] == "k1"
    assert (made["propagation"], made["expected_events"]) == ("continue", None)
    old = ada.post(DATASETS, json=composition(rows)).json()
    assert old["background_tag"] is None
    assert list(old)[:21] == [
        "id",
        "dataset_name",
        "scope",
        "detector_version",
        "detector_config",
        "physics_tag",
        "evgen_tag",
        "simu_tag",
        "reco_tag",
        "physics_tag_label",
        "evgen_tag_label",
        "simu_tag_label",
        "reco_tag_label",
        "block_num",
        "blocks",
        "did",
        "file_count",
        "data_size",
        "description",
        "metadata",
        "created_by",
    ]


def test_what_metadata_says_about_the_source_is_shown(ada: TestClient) -> None:
    metadata = {"stage": "evgen", "source": {"kind": "csv_manifest", "location": "EXCLUSIVE/x.csv"}}
    made = dataset(ada, metadata=metadata)
    assert (made["external"], made["stage"]) == (True, "evgen")
    assert (made["source_kind"], made["source_location"]) == ("csv_manifest", "EXCLUSIVE/x.csv")
    assert made["validation_status"] is None


def test_a_did_leads_to_its_block(ada: TestClient) -> None:
    made = dataset(ada)
    second = ada.post(f"{DATASETS}{made['id']}/add-block/").json()
    dids = f"{API}dids/"
    assert ada.get(f"{dids}{second['did']}/").json() == second
    assert ada.get(f"{dids}{made['dataset_name']}/").json()["block_num"] == 1
    assert ada.get(f"{dids}{made['dataset_name']}.try2/").json()["block_num"] == 1
    wrong = (f"{made['did'][:-1]}3", f"{made['did'][:-1]}{10**12}", f"{made['did']}.b9", f"{made['did']}.try2")
    for absent in (f"other:{made['dataset_name']}.b1", *wrong, "x", "a%00b"):
        reply = ada.get(f"{dids}{absent}/")
        assert (reply.status_code, reply.headers["content-type"]) == (404, "application/problem+json")


def test_21_names_are_taken_apart_again() -> None:
    assert parse("x.try2.b1") == ("x", 2, 1)
    assert parse("group.EIC:group.EIC.26.02.0.c.p1.e1.s1.r1.b12") == ("group.EIC.26.02.0.c.p1.e1.s1.r1", 1, 12)
    assert parse("x.b0.try01") == ("x.b0.try01", 1, None)
    assert parse("b3") == ("b3", 1, None)


def test_one_campaign_is_the_current_one(client: TestClient, tokens: Tokens) -> None:
    client.headers.update(tokens.header("pcs:write", "pcs:admin"))
    path = f"{API}campaigns/"
    keys = [client.post(path, json={"name": f"26.0{n}.0", "created_by": "ada"}).json()["id"] for n in range(3)]

    def lives() -> list[str]:
        return [row["lifecycle"] for row in client.get(path).json()]

    for key, wanted in zip(keys, (["current"], ["last", "current"], ["past", "last", "current"]), strict=True):
        assert client.post(f"{path}{key}/promote/").json()["lifecycle"] == "current"
        assert lives()[: len(wanted)] == wanted
    client.post(f"{path}{keys[0]}/set-current/")
    assert lives() == ["current", "last", "past"]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda key: client.post(f"{path}{key}/set-current/"), keys * 4))
    assert [row["lifecycle"] for row in client.get(path).json()].count("current") == 1
    clone = client.post(f"{path}{keys[0]}/clone/", json={"name": "26.05.0"})
    assert (clone.status_code, clone.json()["clone_of"], clone.json()["lifecycle"]) == (201, keys[0], "future")
    assert client.post(f"{path}{keys[0]}/clone/", json={"name": "26.05.0"}).status_code == 409
    assert client.post(f"{path}{10**9}/set-current/").status_code == 404
    writer = tokens.header("pcs:write")
    assert client.post(f"{path}{keys[0]}/set-current/", headers=writer).status_code == 403


def test_a_campaign_of_a_dataset_stays(client: TestClient, tokens: Tokens) -> None:
    client.headers.update(tokens.header("pcs:write", "pcs:lock"))
    campaign = client.post(f"{API}campaigns/", json={"name": "c", "created_by": "ada", "start_date": "2026-02-30"})
    assert (campaign.status_code, list(campaign.json())) == (400, ["start_date"])
    campaign = client.post(f"{API}campaigns/", json={"name": "c", "created_by": "ada", "start_date": "2026-02-28"})
    assert campaign.json()["start_date"] == "2026-02-28"
    assert dataset(client, campaign=campaign.json()["id"])["campaign"] == campaign.json()["id"]
    gone = client.delete(f"{API}campaigns/{campaign.json()['id']}/")
    assert (gone.status_code, gone.json()) == (409, {"detail": "This campaign is in use."})


def test_queues_and_endpoints_are_kept_while_a_configuration_names_them(client: TestClient, tokens: Tokens) -> None:
    client.headers.update(tokens.header("pcs:write", "pcs:admin"))
    for path, field in (("/api/panda-queues/", "panda_queue"), ("/api/rucio-endpoints/", "rucio_rse")):
        configs = f"{API}prod-configs/"
        body = {"name": f"uses {field}", "created_by": "ada", field: "BNL/OSG"}
        unknown = client.post(configs, json=body)
        message = "Object with name=BNL/OSG does not exist."
        assert (unknown.status_code, unknown.json()) == (400, {field: [message]})
        made = client.post(path, json={"name": "BNL/OSG", "configuration": {"cores": 8}})
        assert (made.status_code, made.json()["status"]) == (201, "active")
        assert client.post(path, json={"name": "BNL/OSG"}).status_code == 400
        assert client.post(path, json={"name": "x", "configuration": [1]}).status_code == 400
        one = f"{path}BNL%2FOSG/"
        assert client.patch(one, json={"status": "offline"}).json()["configuration"] == {"cores": 8}
        config = client.post(configs, json=body)
        assert config.status_code == 201
        used = client.delete(one)
        assert (used.status_code, used.json()) == (409, {"detail": f"BNL/OSG is used by uses {field}."})
        assert client.delete(f"{configs}{config.json()['id']}/").status_code == 204
        assert client.delete(one).status_code == 204
        assert client.get(path, headers={"Authorization": ""}).json() == []
        assert client.post(path, json={"name": "y"}, headers=tokens.header("pcs:write")).status_code == 403
