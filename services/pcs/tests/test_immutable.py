"""A locked tag is a promise: neither the API nor SQL in the service's own name changes it."""

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.pool import NullPool
from starlette.testclient import TestClient

from sluice_core.testing.apps import Start
from sluice_core.testing.tokens import Tokens
from sluice_pcs.kinds import KINDS

from .world import API, category, composition, lock, tag, tags_of_all_kinds


@pytest.fixture
def engine(service_database: str) -> Engine:
    """The database as the service's own role sees it."""
    return create_engine(service_database, poolclass=NullPool)


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_a_locked_tag_cannot_be_changed_by_the_service_s_own_role(ada: TestClient, engine: Engine, kind: str) -> None:
    category(ada)
    row = tag(ada, kind)
    lock(ada, kind, row)
    path = f"{API}{kind}-tags/{row['tag_number']}/"
    before = ada.get(path).json()
    for statement in (
        "UPDATE {} SET status = 'draft'",
        "UPDATE {} SET parameters = '{{}}'",
        "UPDATE {} SET description = 'x', updated_at = now()",
        "UPDATE {} SET tag_number = 7",
        "DELETE FROM {}",
        "TRUNCATE {} CASCADE",
    ):
        with engine.connect() as connection, pytest.raises(IntegrityError):
            connection.execute(text(statement.format(f"{kind}_tag")))
    assert ada.get(path).json() == before


def test_a_category_with_tags_cannot_be_deleted_nor_renumbered(ada: TestClient, engine: Engine) -> None:
    category(ada)
    row = tag(ada, "physics")
    lock(ada, "physics", row)
    for statement in (
        "DELETE FROM physics_category",
        "UPDATE physics_category SET digit = 2",
        "TRUNCATE physics_category CASCADE",
    ):
        with engine.connect() as connection, pytest.raises(IntegrityError):
            connection.execute(text(statement))
    assert ada.delete(f"{API}physics-categories/1/").status_code == 405
    moved = ada.patch(f"{API}physics-categories/1/", json={"digit": 2})
    assert (moved.status_code, list(moved.json())) == (400, ["digit"])
    assert ada.get(f"{API}physics-tags/1001/").json()["category"] == 1


def test_a_draft_keeps_its_number(ada: TestClient, engine: Engine) -> None:
    tag(ada)
    with engine.connect() as connection, pytest.raises(IntegrityError):
        connection.execute(text("UPDATE evgen_tag SET tag_number = 7"))


def test_a_draft_in_a_dataset_cannot_be_deleted_where_drafts_are_allowed(start: Start, tokens: Tokens) -> None:
    client = start(require_locked=False)
    client.headers.update(tokens.header("pcs:write", "pcs:lock"))
    rows = tags_of_all_kinds(client, locked=False)
    assert client.post(f"{API}datasets/", json=composition(rows)).status_code == 201
    reply = client.post(f"{API}evgen-tags/1/delete/")
    assert (reply.status_code, reply.json()) == (409, {"detail": "Tag e1 is used by a dataset."})
    assert client.get(f"{API}evgen-tags/1/").status_code == 200
