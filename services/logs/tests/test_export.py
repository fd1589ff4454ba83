"""Records as a file: all of them, in the order of the list, whatever is in them."""

import csv
import io
import json
from typing import Any

import pytest
from starlette.testclient import TestClient

from .records import URL, record

ODD = 'tab\t, "quoted",\nnew line; ünï'


def post(client: TestClient, *given: dict[str, Any]) -> None:
    reply = client.post(URL, json=[record(**each) for each in given])
    assert reply.json()["accepted"] == len(given), reply.text


def test_ndjson_has_a_record_a_line_as_the_list_has_them_over_many_pages(client: TestClient) -> None:
    post(client, *({"message": f"{number} {ODD}"} for number in range(1200)))
    reply = client.get(f"{URL}export/ndjson/")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "application/x-ndjson")
    assert reply.headers["content-disposition"] == 'attachment; filename="logs.ndjson"'
    assert [json.loads(line) for line in reply.content.splitlines()] == client.get(URL).json()


def test_csv_has_the_same_behind_a_line_of_names(client: TestClient) -> None:
    post(client, {"message": ODD, "extra_data": {"a": [1, "x"]}}, {"extra_data": None, "level": 40})
    reply = client.get(f"{URL}export/csv/")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(reply.content.decode(), newline="")))
    listed = client.get(URL).json()
    assert list(rows[0]) == list(listed[0])
    for row, there in zip(rows, listed, strict=True):
        extra = row.pop("extra_data")
        assert (json.loads(extra) if extra else None) == there.pop("extra_data")
        assert row == {name: str(value) for name, value in there.items()}


@pytest.mark.parametrize("form", ["ndjson", "csv"])
def test_filters_narrow_an_export_and_a_bad_one_is_a_problem(client: TestClient, form: str) -> None:
    post(client, {"level": 40, "message": "bad"}, {"message": "good"})
    assert b"good" not in client.get(f"{URL}export/{form}/?level__gte=ERROR").content
    reply = client.get(f"{URL}export/{form}/?start_time=x")
    assert (reply.status_code, reply.json()["errors"][0]["field"]) == (400, "start_time")


def test_another_form_is_not_found_and_an_empty_export_is_empty(client: TestClient) -> None:
    assert client.get(f"{URL}export/xlsx/").status_code == 404
    assert client.get(f"{URL}export/ndjson/").content == b""
    assert client.get(f"{URL}export/csv/").content.startswith(b"id,app_name,instance_name,timestamp,level")
