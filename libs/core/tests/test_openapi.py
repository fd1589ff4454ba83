"""One document of all services: nothing is lost, nothing points at another service's meaning."""

from typing import Any

import pytest

from sluice_core.openapi import merge


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def document(path: str, answer: str, **schemas: Any) -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "x", "version": "0"},
        "paths": {path: {"get": {"responses": {"200": {"schema": ref(answer)}}}}},
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }


def answered(merged: dict[str, Any], path: str) -> str:
    found: str = merged["paths"][path]["get"]["responses"]["200"]["schema"]["$ref"]
    return found.removeprefix("#/components/schemas/")


def test_the_document_of_all_has_every_path_and_the_contracts_title() -> None:
    merged = merge({"logs": document("/logs", "Log", Log={}), "runs": document("/runs", "Run", Run={})})
    assert list(merged["paths"]) == ["/logs", "/runs"]
    assert merged["info"] == {"title": "SWF Monitor API", "version": "1.0.0"}


def test_what_services_share_is_there_once() -> None:
    detail = {"type": "object"}
    merged = merge(
        {"logs": document("/logs", "Detail", Detail=detail), "runs": document("/runs", "Detail", Detail=detail)}
    )
    assert merged["components"]["schemas"] == {"Detail": detail}
    assert list(merged["components"]["securitySchemes"]) == ["bearer"]


def test_one_name_for_two_things_becomes_two_names() -> None:
    merged = merge(
        {
            "logs": document("/logs", "Row", Row={"type": "object"}),
            "runs": document("/runs", "Row", Row={"type": "array", "items": ref("Row")}),
        }
    )
    assert answered(merged, "/logs") == "LogsRow"
    assert answered(merged, "/runs") == "RunsRow"
    assert merged["components"]["schemas"]["RunsRow"]["items"] == ref("RunsRow")


def test_what_refers_to_different_things_is_different_however_equal_it_looks() -> None:
    page = {"type": "array", "items": ref("Rows")}
    rows = {"type": "array", "items": ref("Row")}
    merged = merge(
        {
            "logs": document("/logs", "Page", Page=page, Rows=rows, Row={"type": "object"}),
            "runs": document("/runs", "Page", Page=page, Rows=rows, Row={"type": "string"}),
        }
    )
    schemas = merged["components"]["schemas"]
    followed = schemas[schemas[answered(merged, "/runs")]["items"]["$ref"].rpartition("/")[2]]["items"]
    assert followed == ref("RunsRow")
    assert set(schemas) == {f"{service}{name}" for service in ("Logs", "Runs") for name in ("Page", "Row", "Rows")}


def test_a_merge_leaves_the_documents_of_the_services_alone() -> None:
    before = document("/logs", "Row", Row={})
    merge({"logs": before, "runs": document("/runs", "Row", Row={"type": "string"})})
    assert before == document("/logs", "Row", Row={})


def test_two_services_cannot_answer_one_path() -> None:
    with pytest.raises(ValueError, match="runs is not the only service that answers /rows"):
        merge({"logs": document("/rows", "Row", Row={}), "runs": document("/rows", "Row", Row={})})


def test_services_cannot_differ_in_how_one_comes_in() -> None:
    other = document("/runs", "Row", Row={})
    other["components"]["securitySchemes"]["bearer"]["scheme"] = "basic"
    with pytest.raises(ValueError, match="bearer"):
        merge({"logs": document("/logs", "Row", Row={}), "runs": other})


def test_the_rights_of_all_services_are_described() -> None:
    logs, runs = document("/logs", "Log", Log={}), document("/runs", "Run", Run={})
    logs["x-scopes"] = {"logs:admin": {"roles": ["admin"]}}
    runs["x-scopes"] = {"agents:write": {"roles": ["admin", "agent"]}}
    assert merge({"logs": logs, "runs": runs})["x-scopes"] == {**runs["x-scopes"], **logs["x-scopes"]}
