"""Many records in one body, and bodies that are packed (decision 3)."""

import gzip
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import zstandard
from starlette.testclient import TestClient

from sluice_core.testing import eventually
from sluice_core.testing.apps import Start
from sluice_core.testing.tokens import Tokens

from .records import URL, body, record

NDJSON = {"Content-Type": "application/x-ndjson"}
JSON = {"Content-Type": "application/json"}
MB = 2**20


def lines(*records: bytes) -> bytes:
    return b"\n".join(records)


def stored(client: TestClient) -> list[str]:
    return sorted(each["message"] for each in client.get(URL).json())


def test_an_array_and_lines_are_stored_and_counted(client: TestClient) -> None:
    array = client.post(URL, json=[record(message="a"), record(message="b")])
    assert (array.status_code, array.json()) == (201, {"accepted": 2, "rejected": []})
    text = lines(body(message="c"), b"", b"  ", body(message="d"), b"")
    found = client.post(URL, content=text, headers=NDJSON)
    assert (found.status_code, found.json()) == (201, {"accepted": 2, "rejected": []})
    assert stored(client) == ["a", "b", "c", "d"]


def test_bad_records_are_named_by_their_place_and_the_others_are_stored(client: TestClient) -> None:
    records: list[Any] = [record(message="a"), record(level=25), 7, record(message="d", lineno="x", message2=1), None]
    reply = client.post(URL, json=records)
    assert reply.status_code == 201
    assert reply.json() == {
        "accepted": 1,
        "rejected": [
            {"index": 1, "errors": {"level": ['"25" is not a valid choice.']}},
            {
                "index": 2,
                "errors": {"non_field_errors": ["Invalid data. Expected a dictionary, but got int."]},
            },
            {"index": 3, "errors": {"lineno": ["A valid integer is required."]}},
            {"index": 4, "errors": {"non_field_errors": ["No data provided"]}},
        ],
    }
    assert stored(client) == ["a"]


def test_a_line_that_is_no_json_is_named_and_the_others_are_stored(client: TestClient) -> None:
    reply = client.post(URL, content=lines(b"{", body(message="b"), b'{"level": NaN}', b"\xff"), headers=NDJSON)
    assert reply.status_code == 201
    assert [each["index"] for each in reply.json()["rejected"]] == [0, 2, 3]
    assert all(each["errors"]["non_field_errors"][0].startswith("JSON parse") for each in reply.json()["rejected"])
    assert stored(client) == ["b"]


@pytest.mark.parametrize("content", [b"[]", b"[{}]", b"  [1]"])
def test_a_batch_of_which_nothing_is_accepted_is_400(client: TestClient, content: bytes) -> None:
    reply = client.post(URL, content=content, headers=JSON)
    assert (reply.status_code, reply.json()["accepted"]) == (400, 0)


@pytest.mark.parametrize("content", [b"[", b"[1,]", b"[NaN]", b"[" * 100_000])
def test_an_array_that_cannot_be_parsed_is_400_as_a_whole(client: TestClient, content: bytes) -> None:
    reply = client.post(URL, content=content, headers=JSON)
    assert reply.status_code == 400
    assert reply.json()["detail"].startswith("JSON parse error - ")


def test_an_atomic_batch_is_stored_whole_or_not_at_all(client: TestClient) -> None:
    reply = client.post(f"{URL}?atomic=true", json=[record(), record(message="")])
    rejected = [{"index": 1, "errors": {"message": ["This field may not be blank."]}}]
    assert (reply.status_code, reply.json()) == (400, {"accepted": 0, "rejected": rejected})
    assert stored(client) == []
    assert client.post(f"{URL}?atomic=true", json=[record(), record()]).json()["accepted"] == 2


def test_a_batch_has_10_000_records_at_the_most(client: TestClient) -> None:
    line = body(message="m")
    reply = client.post(URL, content=lines(*[line] * 10_001), headers=NDJSON)
    assert reply.status_code == 413
    assert stored(client) == []
    assert client.post(URL, content=lines(*[line] * 10_000), headers=NDJSON).json()["accepted"] == 10_000


def test_a_batch_may_be_16_mb_and_each_record_of_it_4(client: TestClient) -> None:
    large = body(message="x" * (3 * MB))
    assert client.post(URL, content=lines(*[large] * 5), headers=NDJSON).json()["accepted"] == 5
    assert client.post(URL, content=lines(*[large] * 6), headers=NDJSON).status_code == 413
    huge = body(message="x" * (4 * MB))
    reply = client.post(URL, content=lines(huge, body(message="small")), headers=NDJSON)
    assert [each["index"] for each in reply.json()["rejected"]] == [0]
    assert stored(client).count("small") == 1


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
def test_packed_bodies_are_read_whole_or_refused(client: TestClient, pack: Callable[[bytes], bytes]) -> None:
    name = "gzip" if pack is gzip.compress else "zstd"
    packed = {**JSON, "Content-Encoding": name}
    one = client.post(URL, content=pack(body(message="one")), headers=packed)
    assert (one.status_code, one.json()["message"]) == (201, "one")
    many = pack(lines(*[body(message="many")] * 3))
    assert client.post(URL, content=many, headers={**packed, **NDJSON}).json()["accepted"] == 3
    for broken in (many[:-5], many[: len(many) // 2], b"no such thing", b"", many + b"garbage"):
        reply = client.post(URL, content=broken, headers={**packed, **NDJSON})
        assert reply.status_code == 400, broken
    bomb = pack(b" " * (17 * MB))
    assert len(bomb) < MB
    assert client.post(URL, content=bomb, headers=packed).status_code == 413
    record_bomb = pack(body(message="x" * (5 * MB)))
    assert client.post(URL, content=record_bomb, headers=packed).status_code == 413
    assert stored(client) == ["many", "many", "many", "one"]


def test_gzip_in_several_members_is_one_body(client: TestClient) -> None:
    first, second = body(message="a"), body(message="b")
    content = gzip.compress(first + b"\n") + gzip.compress(second)
    reply = client.post(URL, content=content, headers={**NDJSON, "Content-Encoding": "gzip"})
    assert reply.json()["accepted"] == 2


def test_other_encodings_and_types_are_415(client: TestClient) -> None:
    assert client.post(URL, content=body(), headers={**JSON, "Content-Encoding": "br"}).status_code == 415
    reply = client.post(URL, content=body(), headers={"Content-Type": "text/plain"})
    assert (reply.status_code, reply.json()) == (415, {"detail": 'Unsupported media type "text/plain" in request.'})


def test_forms_are_records_too(client: TestClient) -> None:
    form = {**record(extra_data=json.dumps({"run_id": 7})), "message": "by form"}
    reply = client.post(URL, data=form)
    assert (reply.status_code, reply.json()["extra_data"]) == (201, {"run_id": 7})
    files = {name: (None, str(value)) for name, value in form.items()}
    assert client.post(URL, files=files).status_code == 201
    assert stored(client) == ["by form", "by form"]


def test_a_batch_needs_what_a_record_needs(start: Start, tokens: Tokens) -> None:
    client = start(anonymous_post=False)
    assert client.post(URL, json=[record()]).status_code == 403
    assert client.post(URL, json=[record()], headers=tokens.header("logs:write")).status_code == 201


def test_the_answer_is_what_is_read_afterwards(client: TestClient) -> None:
    answered = client.post(
        URL, json=record(message="\ttab\\and\nline \\N \\.", extra_data={"b": [1.5, "\\"], "a": None})
    )
    assert client.get(f"{URL}{answered.json()['id']}/").json() == answered.json()


def test_a_full_line_is_503_and_says_when_to_come_again(start: Start) -> None:
    client = start(waiting_bytes=MB)
    large = record(message="x" * (600 * 1024))
    engine = client.app.state.service.database.engine  # type: ignore[attr-defined]
    waits = "SELECT count(*) FROM pg_locks JOIN pg_class ON pg_class.oid = relation WHERE NOT granted"
    with ThreadPoolExecutor() as threads, engine.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE log_record IN EXCLUSIVE MODE")
        first = threads.submit(client.post, URL, json=large)
        eventually(lambda: connection.exec_driver_sql(waits).scalar())
        second = client.post(URL, json=large)
        assert (second.status_code, second.headers["retry-after"]) == (503, "1")
        assert second.json() == {"detail": "The record is not stored: too many records wait. Try again."}
        connection.rollback()
        assert first.result().status_code == 201
    assert client.post(URL, json=large).status_code == 201
