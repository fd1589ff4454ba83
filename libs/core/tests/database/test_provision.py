"""Roles and databases made with an admin URL."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import URL, create_engine, make_url, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from sluice_core.database import DatabaseAway
from sluice_core.database.provision import AdminRefused, create_database
from sluice_core.testing import PostgresServer


def ask(url: str | URL, query: str) -> object:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        result = connection.execute(text(query))
        return result.scalar() if result.returns_rows else None


@pytest.fixture
def admin_url(postgres_server: PostgresServer) -> str:
    return postgres_server.admin_url


def login(admin_url: str, role: str, rights: str) -> str:
    """URL of a new role with these rights."""
    ask(admin_url, f"DROP ROLE IF EXISTS {role}")
    ask(admin_url, f"CREATE ROLE {role} LOGIN PASSWORD 'x' {rights}")
    return make_url(admin_url).set(username=role, password="x").render_as_string(hide_password=False)


def test_the_role_owns_its_database_and_has_no_other_rights(admin_url: str) -> None:
    url = create_database(admin_url, "made-1", "made one", "it's; a % password")
    assert ask(url, "SELECT current_user || '@' || current_database()") == "made one@made-1"
    assert ask(url, "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = 'made-1'") == "made one"
    assert ask(url, "SELECT rolsuper OR rolcreatedb OR rolcreaterole FROM pg_roles WHERE rolname = 'made one'") is False
    assert ask(url, "SHOW server_encoding") == "UTF8"


def test_nobody_else_connects(admin_url: str) -> None:
    mine = create_database(admin_url, "made_mine", "made_mine", "a")
    other = make_url(create_database(admin_url, "made_other", "made_other", "b"))
    with pytest.raises(DBAPIError, match="permission denied for database"):
        ask(other.set(database=make_url(mine).database), "SELECT 1")


def test_a_repetition_keeps_the_data_and_sets_the_password(admin_url: str) -> None:
    before = create_database(admin_url, "made_twice", "made_twice", "old")
    ask(before, "CREATE TABLE kept (n int)")
    after = create_database(admin_url, "made_twice", "made_twice", "new")
    assert ask(after, "SELECT count(*) FROM kept") == 0
    with pytest.raises(DBAPIError, match="authentication failed"):
        ask(before, "SELECT 1")


def test_ten_at_the_same_time_make_one(admin_url: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        urls = set(pool.map(lambda _: create_database(admin_url, "made_once", "made_once", "c"), range(10)))
    assert len(urls) == 1
    assert ask(urls.pop(), "SELECT 1") == 1


def test_an_administrator_need_not_be_a_superuser(admin_url: str) -> None:
    limited = login(admin_url, "made_admin", "CREATEDB CREATEROLE")
    for _ in range(2):
        url = create_database(limited, "made_limited", "made_limited", "d")
    assert ask(url, "SELECT current_user") == "made_limited"


def test_a_missing_right_is_one_sentence_without_secrets(admin_url: str) -> None:
    powerless = login(admin_url, "made_powerless", "")
    with pytest.raises(AdminRefused, match="role made_powerless may not create role and database made_refused"):
        create_database(powerless, "made_refused", "made_refused", "s3cret")


def test_a_refused_login_is_one_sentence_without_secrets(admin_url: str) -> None:
    wrong = make_url(admin_url).set(password="gu3ss").render_as_string(hide_password=False)
    with pytest.raises(DatabaseAway, match="authentication failed") as caught:
        create_database(wrong, "made_refused", "made_refused", "s3cret")
    assert "gu3ss" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_the_driver_is_named_whatever_the_admin_url_says(admin_url: str, scheme: str) -> None:
    url = create_database(admin_url.replace("postgresql+psycopg2", scheme), "made_driver", "made_driver", "e")
    assert url.startswith("postgresql+psycopg2://made_driver:")
