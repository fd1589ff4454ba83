"""Outside names in subjects."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from nats.js.kv import VALID_KEY_RE

from sluice_core import subjects
from sluice_core.subjects import HeartbeatIn, from_token, heartbeat_in, token

# Surrogates too: JSON can carry half of a pair.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=300)
SHORT = st.text(st.sampled_from("aA_-=.*>$ 5F\xe9\U0001f600\ud800"), max_size=4)
TOKENS = st.text(st.sampled_from("aA_-=5F0"), max_size=8)


@given(TEXTS)
@example("_")
@example("")
@example("=")
@example("==")
@example("a.b.>")
@example("\U0001f600" * 300)
@example("\ud83d")
def test_any_text_comes_back_from_one_safe_token(text: str) -> None:
    encoded = token(text)
    assert re.fullmatch(r"[A-Za-z0-9_=-]+", encoded)
    assert VALID_KEY_RE.match(encoded)
    assert encoded != subjects.ABSENT
    assert from_token(encoded) == text


@given(SHORT, SHORT)
def test_two_texts_never_share_a_token(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


@given(TOKENS)
@example("=")
@example("==")
@example("==QQ")
@example("=5f")
@example("=41")
@example("==YR")
def test_two_tokens_never_mean_one_text(encoded: str) -> None:
    try:
        text = from_token(encoded)
    except ValueError:
        return
    assert token(text) == encoded


@pytest.mark.parametrize("name", ["daq-1", "DAQ_Simulator", "swf-monitor-agent-17", "a_b", "-", "__"])
def test_ordinary_names_stay_readable(name: str) -> None:
    assert token(name) == name


@pytest.mark.parametrize(
    ("name", "encoded"),
    [(None, "_"), ("_", "=5F"), ("", "="), ("a.b", "a=2Eb"), ("my test", "my=20test"), ("Zürich", "Z=C3=BCrich")],
)
def test_the_spelling_that_is_documented(name: str | None, encoded: str) -> None:
    assert (token(name), from_token(encoded)) == (encoded, name)


@given(st.text(min_size=300, max_size=300), st.text(min_size=300, max_size=300))
@example("\U0001f600" * 300, "\U0010ffff" * 300)
def test_the_longest_names_fit_into_the_line_that_a_server_takes(namespace: str, name: str) -> None:
    subject = subjects.dlq(HeartbeatIn(namespace, name).subject)
    assert len(f"HPUB {subject} _INBOX.registry.{'x' * 44} 8388608 8388608\r\n") < 4096


@given(st.none() | TEXTS.filter(bool), TEXTS.filter(bool))
def test_a_heartbeat_subject_is_read_back(namespace: str | None, name: str) -> None:
    assert heartbeat_in(HeartbeatIn(namespace, name).subject) == (namespace, name)


@pytest.mark.parametrize(
    "subject",
    [
        "agents.in.heartbeat.a",
        "agents.in.heartbeat.a.b.c",
        "agents.in.heartbeat..b",
        "agents.in.heartbeat.a.",
        "agents.in.heartbeat.a._",
        "agents.in.heartbeat.a.=",
        "agents.in.heartbeat.=.b",
        "agents.in.heartbeat.a.=4",
        "agents.in.heartbeat.a.=41",
        "agents.in.heartbeat.a.b c",
        "agents.in.heartbeat.a.==!",
        "agents.in.heartbeat.a.é",
        "agents.state.a.b",
        "x.agents.in.heartbeat.a.b",
    ],
)
def test_a_malformed_heartbeat_subject_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match=r"not a|no name"):
        heartbeat_in(subject)


def test_subjects_of_agents() -> None:
    assert subjects.agents_state("ns.1", "a b") == "agents.state.ns=2E1.a=20b"
    assert subjects.agents_state(None, "a") == subjects.agents_state("", "a") == "agents.state._.a"
    assert subjects.agents_heartbeat("n", "_") == "agents.heartbeat.n.=5F"
    assert subjects.dlq("agents.state._.a") == "dlq.agents.state._.a"


@given(TEXTS.filter(bool))
def test_a_destination_comes_back_from_the_subject_it_waits_under(destination: str) -> None:
    assert subjects.outbound_to(subjects.outbound(destination)) == destination


def test_programs_name_a_destination_by_a_token() -> None:
    assert subjects.messages_in("messages.in.epictopic") == "epictopic"
    assert subjects.messages_in("messages.in.=2Fqueue=2Fa") == "/queue/a"


@pytest.mark.parametrize("subject", ["messages.in", "messages.in.", "messages.in._", "messages.in.a.b", "x.in.a"])
def test_a_subject_that_names_no_destination_is_refused(subject: str) -> None:
    with pytest.raises(ValueError, match=r"not (messages\.in|a token)"):
        subjects.messages_in(subject)


@given(TEXTS, TEXTS)
def test_messages_of_two_namespaces_or_types_never_share_a_subject(namespace: str, msg_type: str) -> None:
    _, _, first, second = subjects.messages_accepted(namespace, msg_type).split(".")
    assert (from_token(first), from_token(second)) == (namespace or None, msg_type)
