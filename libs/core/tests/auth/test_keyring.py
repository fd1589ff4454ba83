"""The last known list holds, whatever comes through the watch."""

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from sluice_core.auth import BUCKETS, KEYS, REVOKED, TOKENS, Keyring, TokenRecord, digest, generate_key, public_jwk

JWK = public_jwk(generate_key().public_key())
KID = JWK["kid"]
RECORD = TokenRecord(id="t1", subject="ada", roles=("agent",))


def test_it_is_ready_once_every_bucket_was_read() -> None:
    keyring = Keyring()
    for bucket in BUCKETS:
        assert bucket in keyring.unread
        assert not keyring.ready
        keyring.mark_read(bucket)
        keyring.mark_read(bucket)
    assert keyring.ready
    assert keyring.unread == frozenset()


def test_every_bucket_has_its_feed() -> None:
    assert set(Keyring().feeds) == set(BUCKETS)


def test_a_deleted_entry_is_forgotten() -> None:
    keyring = Keyring()
    keyring.feeds[KEYS](KID, msgspec.json.encode(JWK))
    keyring.feeds[TOKENS](digest("x"), msgspec.json.encode(RECORD))
    keyring.feeds[REVOKED]("j1", b"{}")
    assert (keyring.key(KID), keyring.opaque(digest("x")), keyring.revoked("j1")) != (None, None, False)
    keyring.feeds[KEYS](KID, None)
    keyring.feeds[TOKENS](digest("x"), None)
    keyring.feeds[REVOKED]("j1", None)
    assert (keyring.key(KID), keyring.opaque(digest("x")), keyring.revoked("j1")) == (None, None, False)


@pytest.mark.parametrize("bucket", BUCKETS)
def test_deleting_what_was_never_known_is_no_error(bucket: str) -> None:
    Keyring().feeds[bucket]("never", None)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"\xff",
        b"[" * 100_000,
        b'{"id":"","subject":"ada"}',
        b'{"id":"t1","subject":""}',
        b'{"id":"t1","subject":"ada","roles":"admin"}',
        b'{"id":"t1","subject":"ada","scopes":[[]]}',
        b'{"id":"t1","subject":"ada","expires":"never"}',
        b'{"id":"t1","subject":"ada","disabled":"no"}',
    ],
)
def test_a_malformed_value_is_logged_and_the_last_good_one_holds(value: bytes) -> None:
    keyring = Keyring()
    keyring.apply_key(KID, msgspec.json.encode(JWK))
    keyring.apply_token(digest("x"), msgspec.json.encode(RECORD))
    before = keyring.key(KID), keyring.opaque(digest("x"))
    with capture_logs() as logs:
        keyring.apply_key(KID, value)
        keyring.apply_token(digest("x"), value)
    assert (keyring.key(KID), keyring.opaque(digest("x"))) == before
    assert [entry["log_level"] for entry in logs] == ["warning", "warning"]
    assert digest("x") not in str(logs)


def test_a_key_under_a_foreign_kid_is_ignored() -> None:
    keyring = Keyring()
    with capture_logs() as logs:
        keyring.apply_key("another", msgspec.json.encode(JWK))
    assert keyring.key("another") is None
    assert len(logs) == 1


def test_a_record_of_a_newer_registry_is_understood() -> None:
    keyring = Keyring()
    keyring.apply_token(digest("x"), b'{"id":"t1","subject":"ada","namespaces":["n1"]}')
    assert keyring.opaque(digest("x")) is not None


@pytest.mark.parametrize("value", [b"", b"\xff", b"{}", b"not json"])
def test_a_revocation_holds_whatever_its_value(value: bytes) -> None:
    keyring = Keyring()
    keyring.apply_revoked("j1", value)
    assert keyring.revoked("j1")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the first text of a fresh clone is slow
@given(bucket=st.sampled_from(BUCKETS), key=st.text(), value=st.none() | st.binary())
def test_nothing_that_a_watch_delivers_raises(bucket: str, key: str, value: bytes | None) -> None:
    with capture_logs():
        Keyring().feeds[bucket](key, value)
