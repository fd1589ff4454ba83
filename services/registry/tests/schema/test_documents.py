"""The committed OpenAPI documents are those of the code, and the one of all services holds together."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

import sluice_registry
from sluice_core.openapi import merge
from sluice_core.settings import Shared
from sluice_registry.app import create_app
from sluice_registry.settings import Settings

COMMITTED = Path(__file__).parents[4] / "docs" / "openapi"
PACKAGE = Path(sluice_registry.__file__).parent


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def merged() -> Any:
    return read(PACKAGE / "openapi.json")


def test_the_committed_document_is_the_codes() -> None:
    settings = Settings(database_url=SecretStr("postgresql://localhost/none"), shared=Shared.model_construct())
    assert read(COMMITTED / "registry.json") == create_app(settings).openapi(), "./task openapi writes it anew"


def test_the_document_of_all_is_made_of_the_committed_ones(merged: Any) -> None:
    documents = {path.stem: read(path) for path in sorted(COMMITTED.glob("*.json"))}
    assert merged == merge(documents), "./task openapi writes it anew"


def test_every_reference_leads_somewhere(merged: Any) -> None:
    def refs(node: Any) -> list[str]:
        if isinstance(node, dict):
            return [node["$ref"]] if "$ref" in node else [ref for each in node.values() for ref in refs(each)]
        return [ref for each in node for ref in refs(each)] if isinstance(node, list) else []

    for ref in refs(merged):
        _, kind, group, name = ref.split("/")
        assert name in merged[kind][group], ref


def test_operations_have_names_of_their_own(merged: Any) -> None:
    names = [operation["operationId"] for path in merged["paths"].values() for operation in _operations(path)]
    assert len(names) == len(set(names))


def test_schemes_that_operations_ask_for_are_declared(merged: Any) -> None:
    operations = [operation for path in merged["paths"].values() for operation in _operations(path)]
    asked = {scheme for each in operations for way in each.get("security", ()) for scheme in way}
    assert asked <= set(merged["components"]["securitySchemes"])


def _operations(path: dict[str, Any]) -> list[dict[str, Any]]:
    return [operation for method, operation in path.items() if method != "parameters"]
