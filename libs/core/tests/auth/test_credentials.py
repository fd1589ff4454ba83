"""Every spelling of a credential, and what is refused before anybody looks at the token."""

import pytest

from sluice_core.auth import Refused
from sluice_core.auth.credentials import MAX_LENGTH, Basic, Token, read

AUTHORIZATION, X_AUTH, DQM = b"authorization", b"x-auth-token", b"token"

NOTHING = "Invalid token header. No credentials provided."
SPACES = "Invalid token header. Token string should not contain spaces."
CHARACTERS = "Invalid token header. Token string should not contain invalid characters."
INVALID = "Invalid token."


@pytest.mark.parametrize(
    "headers",
    [
        [(AUTHORIZATION, b"Token abc")],
        [(AUTHORIZATION, b"token abc")],
        [(AUTHORIZATION, b"TOKEN abc")],
        [(AUTHORIZATION, b"Bearer abc")],
        [(AUTHORIZATION, b"bearer abc")],
        [(AUTHORIZATION, b"ApiKey abc")],
        [(AUTHORIZATION, b"Apikey abc")],
        [(AUTHORIZATION, b"  Token \t abc  ")],
        [(X_AUTH, b"abc")],
        [(X_AUTH, b" abc ")],
        [(DQM, b"abc")],
        [(AUTHORIZATION, b"Token abc"), (AUTHORIZATION, b"Token abc")],
        [(AUTHORIZATION, b"Token abc"), (X_AUTH, b"other"), (DQM, b"another")],
        [(DQM, b"another"), (X_AUTH, b"other"), (AUTHORIZATION, b"Token abc")],
        [(X_AUTH, b"abc"), (DQM, b"other")],
        [(AUTHORIZATION, b"Digest zzz"), (X_AUTH, b"abc")],
        [(AUTHORIZATION, b""), (DQM, b"abc")],
        [(b"host", b"x"), (AUTHORIZATION, b"Token abc"), (b"accept", b"*/*")],
    ],
)
def test_every_spelling_names_the_same_token(headers: list[tuple[bytes, bytes]]) -> None:
    assert read(headers) == Token("abc")


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"cookie", b"token=abc")],
        [(AUTHORIZATION, b"")],
        [(AUTHORIZATION, b"   ")],
        [(AUTHORIZATION, b"Digest username=x, realm=y")],
        [(AUTHORIZATION, b"Negotiate " + b"A" * 2 * MAX_LENGTH)],
        [(AUTHORIZATION, b"Tokenabc")],
        [(AUTHORIZATION, b"Token:abc")],
        [(AUTHORIZATION, b"abc")],
        [(AUTHORIZATION, b"\xff\xfe abc")],
    ],
)
def test_what_no_client_of_ours_sends_is_no_credential(headers: list[tuple[bytes, bytes]]) -> None:
    assert read(headers) is None


@pytest.mark.parametrize("value", [b"Basic YTpi", b"basic YTpi", b"  BASIC  YTpi "])
def test_basic_is_a_credential_of_its_own(value: bytes) -> None:
    assert read([(AUTHORIZATION, value)]) == Basic(b"YTpi")


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ([(AUTHORIZATION, b"Token")], NOTHING),
        ([(AUTHORIZATION, b"Token   ")], NOTHING),
        ([(AUTHORIZATION, b"Bearer")], NOTHING),
        ([(AUTHORIZATION, b"ApiKey")], NOTHING),
        ([(X_AUTH, b"")], NOTHING),
        ([(DQM, b" ")], NOTHING),
        ([(AUTHORIZATION, b"Token a b")], SPACES),
        ([(AUTHORIZATION, b"Token a b c d")], SPACES),
        ([(AUTHORIZATION, b"Token a, Token b")], SPACES),
        ([(X_AUTH, b"a b")], SPACES),
        ([(DQM, b"a\tb")], SPACES),
        ([(AUTHORIZATION, b"Token \xe9")], CHARACTERS),
        ([(AUTHORIZATION, "Token é".encode())], CHARACTERS),
        ([(X_AUTH, b"a\xff")], CHARACTERS),
        ([(AUTHORIZATION, b"Token " + b"a" * (MAX_LENGTH + 1))], INVALID),
        ([(X_AUTH, b"a" * (MAX_LENGTH + 1))], INVALID),
        ([(DQM, b"\xff" * (MAX_LENGTH + 1))], INVALID),
        ([(AUTHORIZATION, b"Token a"), (AUTHORIZATION, b"Token b")], INVALID),
        ([(AUTHORIZATION, b"Token a"), (AUTHORIZATION, b"Bearer a")], INVALID),
        ([(AUTHORIZATION, b"Negotiate a"), (AUTHORIZATION, b"Token b")], INVALID),
        ([(X_AUTH, b"a"), (X_AUTH, b"b")], INVALID),
        ([(AUTHORIZATION, b"Token"), (X_AUTH, b"good")], NOTHING),
    ],
)
def test_a_malformed_credential_is_refused_with_the_frameworks_text(
    headers: list[tuple[bytes, bytes]], detail: str
) -> None:
    with pytest.raises(Refused) as refused:
        read(headers)
    assert refused.value.detail == detail


def test_the_longest_token_is_still_read() -> None:
    assert read([(AUTHORIZATION, b"Token " + b"a" * MAX_LENGTH)]) == Token("a" * MAX_LENGTH)
