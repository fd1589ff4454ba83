"""Sessions: who is logged in, what proves that a page asks, and that a session is no token nor a token a session."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import time_machine

from sluice_core.auth import (
    Authenticator,
    CsrfFailed,
    Identity,
    Keyring,
    PasswordsAway,
    Refused,
    Signer,
    Throttled,
    digest,
    generate_key,
    user_key,
)
from sluice_core.auth.credentials import MAX_LENGTH, Basic
from sluice_core.auth.sessions import cookie
from sluice_core.testing.tokens import read_keyring

NOON = datetime(2026, 6, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SIGNER = Signer(generate_key())
CSRF = "c" * 32

Headers = list[tuple[bytes, bytes]]


@pytest.fixture
def keyring() -> Keyring:
    made = read_keyring()
    made.apply_key(SIGNER.kid, msgspec.json.encode(SIGNER.jwk))
    return made


@pytest.fixture
def auth(keyring: Keyring) -> Authenticator:
    return Authenticator(keyring)


def session(subject: str = "ada", *, signer: Signer = SIGNER, session_id: str = "s1", csrf: str = CSRF) -> str:
    return signer.sign_session(subject, session_id=session_id, expires_in=HOUR, roles=["agent"], csrf=digest(csrf))


def token(subject: str = "grace") -> str:
    return SIGNER.sign(subject, expires_in=HOUR, roles=["agent"])[0]


def sent(
    *, cookies: Mapping[str, str] | None = None, csrf: str | None = None, authorization: str | None = None
) -> Headers:
    headers = [(b"host", b"x")]
    if cookies:
        headers.append((b"cookie", "; ".join(f"{name}={value}" for name, value in cookies.items()).encode()))
    if csrf is not None:
        headers.append((b"x-csrftoken", csrf.encode()))
    if authorization is not None:
        headers.append((b"authorization", authorization.encode()))
    return headers


def identify(auth: Authenticator, headers: Headers, method: str = "GET", **only: Any) -> Identity | None:
    return asyncio.run(auth.identify({"method": method, "headers": headers}, **only))


def subject(auth: Authenticator, headers: Headers, method: str = "GET", **only: Any) -> str | None:
    found = identify(auth, headers, method, **only)
    return found.subject if found else None


# --- whose it is


def test_a_session_is_its_user_with_the_rights_of_his_roles(auth: Authenticator) -> None:
    found = identify(auth, sent(cookies={"sessionid": session()}))
    assert found is not None
    assert (found.subject, found.token_id, found.by) == ("ada", "s1", "session")
    assert found.may("agents:write")
    assert not found.may("tokens:admin")


def test_a_session_wins_over_a_token_good_or_bad(auth: Authenticator) -> None:
    for authorization in (f"Token {token()}", "Token nonsense", "Token a b", "Basic YTpi"):
        assert subject(auth, sent(cookies={"sessionid": session()}, authorization=authorization)) == "ada"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "nonsense",
        "a.b.c",
        "ü",
        "x" * (MAX_LENGTH + 1),
        session(signer=Signer(generate_key())),
        session()[:-2],
        token(),
        Signer(generate_key(), issuer="elsewhere").sign("ada", expires_in=HOUR)[0],
    ],
)
def test_a_bad_session_is_none(auth: Authenticator, content: str) -> None:
    cookies = {"sessionid": content, "csrftoken": CSRF}
    assert subject(auth, sent(cookies=cookies)) is None
    assert subject(auth, sent(cookies=cookies, authorization=f"Token {token()}"), "POST") == "grace"
    with pytest.raises(Refused):
        identify(auth, sent(cookies=cookies, authorization="Token nonsense"))


@pytest.mark.parametrize("spelling", ["Token {}", "Bearer {}", "ApiKey {}"])
def test_a_session_is_no_token(auth: Authenticator, spelling: str) -> None:
    with pytest.raises(Refused, match="Invalid token"):
        identify(auth, sent(authorization=spelling.format(session())))
    with pytest.raises(Refused, match="Invalid token"):
        auth.authenticate([(b"x-auth-token", session().encode())])


def test_a_session_ends(auth: Authenticator) -> None:
    with time_machine.travel(NOON, tick=False) as clock:
        headers = sent(cookies={"sessionid": session()})
        assert subject(auth, headers) == "ada"
        clock.move_to(NOON + HOUR + timedelta(seconds=11))
        assert subject(auth, headers) is None


def test_a_revoked_session_is_none_at_once(auth: Authenticator, keyring: Keyring) -> None:
    headers = sent(cookies={"sessionid": session()})
    assert subject(auth, headers) == "ada"
    keyring.apply_revoked("s1", b"")
    assert subject(auth, headers) is None


def test_a_user_who_is_switched_off_has_neither_session_nor_token(auth: Authenticator, keyring: Keyring) -> None:
    cookie, header = sent(cookies={"sessionid": session("a.b@c")}), sent(authorization=f"Token {token('a.b@c')}")
    keyring.apply_revoked(user_key("a.b@c"), b"")
    assert subject(auth, cookie) is None
    with pytest.raises(Refused, match=r"^User inactive or deleted\.$"):
        identify(auth, header)
    assert subject(auth, sent(authorization=f"Token {token('a.b')}")) == "a.b"
    keyring.apply_revoked(user_key("a.b@c"), None)
    assert subject(auth, cookie) == subject(auth, header) == "a.b@c"


def test_two_sessions_in_one_request_are_none(auth: Authenticator) -> None:
    for second in (session("eve"), "nonsense", ""):
        headers = [*sent(cookies={"sessionid": session()}), (b"cookie", b"sessionid=" + second.encode())]
        assert subject(auth, headers) is None
    assert subject(auth, sent(cookies={"sessionid": session()}) * 2) == "ada"


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        (b"sessionid=x", "x"),
        (b"a=1;sessionid=x;b=2", "x"),
        (b"  sessionid = x ", "x"),
        (b"sessionid=x=y==", "x=y=="),
        (b"sessionid=x; sessionid=x", "x"),
        (b"sessionid=x; sessionid=y", None),
        (b"sessionid", None),
        (b"Sessionid=x", None),
        (b"xsessionid=x", None),
        (b"", None),
        (b";;=;", None),
        (b"sessionid=\xff", "\xff"),
    ],
)
def test_cookies_are_read_as_browsers_send_them(raw: bytes, value: str | None) -> None:
    assert cookie([(b"cookie", raw)], "sessionid") == value


# --- what proves that a page asks

UNSAFE = ("POST", "PUT", "PATCH", "DELETE", "CONNECT", "post")
SAFE = ("GET", "HEAD", "OPTIONS", "TRACE")

NOT_SET = "CSRF Failed: CSRF cookie not set."
MISSING = "CSRF Failed: CSRF token missing."
WRONG = "CSRF Failed: CSRF token from the 'X-Csrftoken' HTTP header incorrect."


@pytest.mark.parametrize("method", UNSAFE)
def test_a_proven_request_of_a_session_is_its_users(auth: Authenticator, method: str) -> None:
    assert subject(auth, sent(cookies={"sessionid": session(), "csrftoken": CSRF}, csrf=CSRF), method) == "ada"


@pytest.mark.parametrize("method", SAFE)
def test_what_changes_nothing_needs_no_proof(auth: Authenticator, method: str) -> None:
    assert subject(auth, sent(cookies={"sessionid": session()}), method) == "ada"
    assert subject(auth, sent(cookies={"sessionid": session(), "csrftoken": CSRF}, csrf="wrong"), method) == "ada"


@pytest.mark.parametrize("method", UNSAFE)
@pytest.mark.parametrize(
    ("known", "header", "text"),
    [
        (None, None, NOT_SET),
        (None, CSRF, NOT_SET),
        ("", CSRF, NOT_SET),
        (CSRF, None, MISSING),
        (CSRF, "", MISSING),
        (CSRF, "d" * 32, WRONG),
        (CSRF, CSRF[:-1], WRONG),
        (CSRF, CSRF.upper(), WRONG),
        (CSRF, f"{CSRF} ", WRONG),
        # A pair that somebody else has planted.
        ("e" * 32, "e" * 32, WRONG),
        ("ü", "ü", WRONG),
    ],
)
def test_an_unproven_request_of_a_session_is_refused(
    auth: Authenticator, method: str, known: str | None, header: str | None, text: str
) -> None:
    cookies = {"sessionid": session()} | ({} if known is None else {"csrftoken": known})
    for authorization in (None, f"Token {token()}"):
        with pytest.raises(CsrfFailed) as failed:
            identify(auth, sent(cookies=cookies, csrf=header, authorization=authorization), method)
        assert failed.value.detail == text


def test_two_headers_or_two_cookies_prove_nothing(auth: Authenticator) -> None:
    good = sent(cookies={"sessionid": session(), "csrftoken": CSRF}, csrf=CSRF)
    with pytest.raises(CsrfFailed, match="incorrect"):
        identify(auth, [*good, (b"x-csrftoken", b"x")], "POST")
    with pytest.raises(CsrfFailed, match="not set"):
        identify(auth, [*good, (b"cookie", b"csrftoken=x")], "POST")


def test_a_token_needs_no_proof(auth: Authenticator) -> None:
    assert subject(auth, sent(authorization=f"Token {token()}", cookies={"csrftoken": CSRF}), "POST") == "grace"


# --- where only one kind counts


def test_where_only_tokens_count_a_session_is_nobody(auth: Authenticator) -> None:
    cookies = {"sessionid": session(), "csrftoken": CSRF}
    assert subject(auth, sent(cookies=cookies, csrf=CSRF), "POST", only="token") is None
    assert subject(auth, sent(cookies=cookies, authorization=f"Token {token()}"), "POST", only="token") == "grace"
    assert subject(auth, sent(authorization="Basic YTpi"), "POST", only="token") is None


def test_where_only_sessions_count_a_token_is_not_looked_at(auth: Authenticator) -> None:
    assert subject(auth, sent(authorization="Token nonsense"), "POST", only="session") is None
    with pytest.raises(CsrfFailed):
        identify(auth, sent(cookies={"sessionid": session()}), "POST", only="session")


# --- passwords


class Doorkeeper:
    """Knows one password."""

    async def check(self, basic: Basic, scope: Mapping[str, Any]) -> Identity:
        if basic.encoded == b"busy":
            raise PasswordsAway
        if basic.encoded == b"again":
            raise Throttled(0.2)
        if basic.encoded != b"right":
            raise Refused("Invalid username/password.")
        return Identity("ada", frozenset(), None, by="password")


def test_passwords_are_asked_of_who_knows_them(auth: Authenticator) -> None:
    with pytest.raises(Refused, match="Invalid username/password"):
        identify(auth, sent(authorization="Basic right"))
    auth.passwords = Doorkeeper()
    assert subject(auth, sent(authorization="Basic right"), "POST") == "ada"
    with pytest.raises(Refused, match="Invalid username/password"):
        identify(auth, sent(authorization="Basic wrong"))
    with pytest.raises(PasswordsAway):
        identify(auth, sent(authorization="Basic busy"))
    with pytest.raises(Throttled) as throttled:
        identify(auth, sent(authorization="Basic again"))
    assert throttled.value.wait == 1
