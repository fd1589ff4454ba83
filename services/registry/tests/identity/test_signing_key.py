"""One key signs for all replicas, over restarts, and a passphrase keeps it from readers of the database."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Protocol

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from sluice_core.auth import Authenticator, Identity, Keyring, KeyUnusable, digest
from sluice_core.database import Database
from sluice_registry.service.identity import AdminTokenUnusable, Grant, TokenIssuer

ROOT = Identity("root", frozenset({"admin"}), None)
GRANT = Grant("laptop", "ada", ["reader"], ["logs:write"], timedelta(days=1))


class Replica:
    """A registry that starts on a database."""

    def __init__(self, database: Database, passphrase: str | None, admin_token: str | None) -> None:
        self.keyring = Keyring()
        self.issuer = TokenIssuer(
            database,
            self.keyring,
            passphrase=None if passphrase is None else SecretStr(passphrase),
            admin_token=None if admin_token is None else SecretStr(admin_token),
        )

    def caller(self, token: str) -> Identity | None:
        """Return whose token this is."""
        return Authenticator(self.keyring).authenticate([(b"authorization", b"Token " + token.encode())])


class MakeReplica(Protocol):
    def __call__(self, *, passphrase: str | None = None, admin_token: str | None = None) -> Replica: ...


@pytest.fixture
def database(fresh_database: Callable[[str], str]) -> Iterator[Database]:
    made = Database(fresh_database("sluice_registry"), pool_size=4)
    yield made
    made.close()


@pytest.fixture
def replica(database: Database) -> Iterator[MakeReplica]:
    """Make a replica with connections of its own."""
    with ExitStack() as stack:

        def make(*, passphrase: str | None = None, admin_token: str | None = None) -> Replica:
            own = Database(database.engine.url.render_as_string(hide_password=False), pool_size=2)
            stack.callback(own.close)
            return Replica(own, passphrase, admin_token)

        yield make


def stored(database: Database) -> list[bytes]:
    statement = text("SELECT private_pem FROM signing_key")
    return database.read(lambda connection: [bytes(row[0]) for row in connection.execute(statement)])


async def test_replicas_that_start_at_once_make_one_key(database: Database, replica: MakeReplica) -> None:
    replicas = [replica() for _ in range(6)]
    await asyncio.gather(*(each.issuer.start() for each in replicas))
    assert len(stored(database)) == 1
    token, _ = await replicas[0].issuer.create(GRANT, ROOT)
    assert {caller.subject for each in replicas if (caller := each.caller(token))} == {"ada"}


async def test_a_token_outlives_the_process_that_made_it(replica: MakeReplica) -> None:
    before, after = replica(), replica()
    await before.issuer.start()
    token, row = await before.issuer.create(GRANT, ROOT)
    await after.issuer.start()
    caller = after.caller(token)
    assert caller is not None
    assert (caller.token_id, caller.may("logs:write"), caller.may("admin")) == (row["id"], True, False)


async def test_with_a_passphrase_the_database_holds_no_key_in_clear(database: Database, replica: MakeReplica) -> None:
    one, two = replica(passphrase="s3cret"), replica(passphrase="s3cret")
    await one.issuer.start()
    assert [pem.splitlines()[0] for pem in stored(database)] == [b"-----BEGIN ENCRYPTED PRIVATE KEY-----"]
    await two.issuer.start()
    token, _ = await one.issuer.create(GRANT, ROOT)
    assert two.caller(token)


@pytest.mark.parametrize("passphrase", [None, "wrong", ""])
async def test_an_encrypted_key_opens_to_its_passphrase_only(
    database: Database, replica: MakeReplica, passphrase: str | None
) -> None:
    await replica(passphrase="s3cret").issuer.start()
    before = stored(database)
    with pytest.raises(KeyUnusable, match="passphrase"):
        await replica(passphrase=passphrase).issuer.start()
    assert stored(database) == before


async def test_a_passphrase_that_comes_later_encrypts_the_key_that_is_there(
    database: Database, replica: MakeReplica
) -> None:
    clear, encrypted = replica(), replica(passphrase="s3cret")
    await clear.issuer.start()
    token, _ = await clear.issuer.create(GRANT, ROOT)
    await encrypted.issuer.start()
    assert b"ENCRYPTED" in stored(database)[0]
    assert encrypted.caller(token)


async def test_an_empty_passphrase_is_a_mistake_and_not_no_passphrase(database: Database, replica: MakeReplica) -> None:
    with pytest.raises(KeyUnusable, match="empty"):
        await replica(passphrase="").issuer.start()
    assert stored(database) == []


async def test_the_admin_token_is_imported_once_however_often_it_is_given(
    database: Database, replica: MakeReplica
) -> None:
    replicas = [replica(admin_token="first-token") for _ in range(4)]
    await asyncio.gather(*(each.issuer.start() for each in replicas))
    await replicas[0].issuer.start()
    rows = await replicas[0].issuer.tokens(None, 10)
    assert [(row["name"], row["subject"], row["roles"]) for row in rows] == [("admin", "admin", ["admin"])]
    for each in replicas:
        caller = each.caller("first-token")
        assert caller is not None
        assert caller.may("tokens:admin")


async def test_of_an_opaque_token_the_database_knows_the_hash_only(database: Database, replica: MakeReplica) -> None:
    await replica(admin_token="first-token").issuer.start()
    row = database.read(lambda connection: str(connection.execute(text("SELECT token FROM token")).one()))
    assert digest("first-token") in row
    assert "first-token" not in row


async def test_a_revoked_admin_token_does_not_come_back_with_the_next_start(
    database: Database, replica: MakeReplica
) -> None:
    await replica(admin_token="first-token").issuer.start()
    database.transact(lambda connection: connection.execute(text("UPDATE token SET revoked_at = now()")))
    again = replica(admin_token="first-token")
    await again.issuer.start()
    with pytest.raises(Exception, match="Invalid token"):
        again.caller("first-token")


@pytest.mark.parametrize("unusable", ["two words", " padded", "umläut", "x" * 8193])
async def test_an_admin_token_that_nobody_could_send_is_refused_and_not_shown(
    replica: MakeReplica, unusable: str
) -> None:
    with pytest.raises(AdminTokenUnusable) as refused:
        await replica(admin_token=unusable).issuer.start()
    assert unusable not in str(refused.value)


async def test_no_admin_token_makes_no_token(replica: MakeReplica) -> None:
    issuer = replica(admin_token="").issuer
    await issuer.start()
    assert await issuer.tokens(None, 10) == []
