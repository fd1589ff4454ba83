"""Dialogues of AI assistants (contract 4.4, decision 12)."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from sqlalchemy import create_engine, event, text
from starlette.testclient import TestClient

from sluice_core import retention
from sluice_core.database import Database
from sluice_core.testing import eventually
from sluice_core.testing.tokens import Tokens
from sluice_registry.service import memory
from sluice_registry.settings import Settings

RECORD = "/api/ai-memory/record/"
RECALL = "/api/ai-memory/"
SAID = {"username": "ada", "session_id": "s1", "role": "user", "content": "hi"}

Start = Callable[..., TestClient]


class Hooks:
    """The hooks of an assistant."""

    def __init__(self, client: TestClient, headers: dict[str, str]) -> None:
        self.client = client
        self.headers = headers

    def post(self, **changes: Any) -> httpx2.Response:
        return self.client.post(RECORD, json={**SAID, **changes}, headers=self.headers)

    def record(self, *contents: str, **changes: Any) -> None:
        """Record utterances, which must work."""
        for content in contents:
            assert self.post(content=content, **changes).status_code == 200

    def get(self, **query: Any) -> httpx2.Response:
        return self.client.get(RECALL, params={"username": "ada", **query}, headers=self.headers)

    def contents(self, **query: Any) -> list[str]:
        """Return what is recalled; it must be."""
        reply = self.get(**query)
        assert reply.status_code == 200
        body = reply.json()
        assert body["count"] == len(body["items"])
        return [item["content"] for item in body["items"]]


@pytest.fixture
def hooks(client: TestClient, tokens: Tokens) -> Hooks:
    return Hooks(client, tokens.header("logs:read"))


def test_scenario_18_the_newest_turn_comes_back_oldest_first(hooks: Hooks) -> None:
    hooks.record("older")
    first = hooks.post(username="u", content="hi")
    assert (first.status_code, first.json()["status"]) == (200, "success")
    second = hooks.post(username="u", role="assistant", content="hello", session_id="s2")
    assert second.json()["id"] > first.json()["id"]
    body = hooks.get(username="u", turns=1).json()
    assert list(body) == ["items", "count"]
    assert body["count"] == 2
    assert [list(item) for item in body["items"]] == [["role", "content", "created_at", "session_id"]] * 2
    assert [(item["role"], item["content"], item["session_id"]) for item in body["items"]] == [
        ("user", "hi", "s1"),
        ("assistant", "hello", "s2"),
    ]
    bad = hooks.post(role="system")
    assert (bad.status_code, bad.json()) == (400, {"error": "Invalid role 'system'. Must be 'user' or 'assistant'."})


@pytest.mark.parametrize(
    ("turns", "expected"),
    [("2", 4), ("0", 0), ("1", 2), ("x", 40), ("", 40), ("1.5", 40), ("999999999999999999999", 44), (" 2 ", 4)],
)
def test_turns_are_two_utterances_each_and_twenty_when_they_are_no_number(
    hooks: Hooks, turns: str, expected: int
) -> None:
    said = [str(number) for number in range(44)]
    hooks.record(*said)
    assert hooks.contents(turns=turns) == said[len(said) - expected :]


def test_absent_turns_are_twenty(hooks: Hooks) -> None:
    hooks.record(*map(str, range(44)))
    assert len(hooks.contents()) == 40


def test_negative_turns_are_refused(hooks: Hooks) -> None:
    reply = hooks.get(turns="-1")
    assert (reply.status_code, reply.json()) == (400, {"error": "turns must not be negative"})


def test_turns_and_text_are_bounded(hooks: Hooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "MOST_TURNS", 2)
    monkeypatch.setattr(memory, "MOST_BYTES", 10)
    hooks.record(*"abcdef")
    assert hooks.contents(turns=5000) == ["c", "d", "e", "f"]
    hooks.record("four", "more", "éé")
    assert hooks.contents() == ["four", "more", "éé"]
    hooks.record("longer than all that is allowed")
    assert hooks.contents() == ["longer than all that is allowed"]


def test_only_the_user_and_where_asked_the_namespace_are_recalled(hooks: Hooks) -> None:
    hooks.record("nowhere")
    hooks.record("here", namespace="n1", project_path="/src")
    hooks.record("there", namespace="n2")
    hooks.record("of bob", username="bob")
    assert hooks.contents() == ["nowhere", "here", "there"]
    assert hooks.contents(namespace="") == ["nowhere", "here", "there"]
    assert hooks.contents(namespace="n1") == ["here"]
    assert hooks.contents(namespace="n" * 500) == []
    assert hooks.contents(username="nobody") == []
    assert hooks.contents(username="u" * 500) == []


def test_times_are_in_utc_with_an_offset_whatever_the_zone_of_the_server(start: Start, tokens: Tokens) -> None:
    hooks = Hooks(start(shared={"timezone": "America/New_York"}), tokens.header())
    hooks.record("hi")
    (item,) = hooks.get().json()["items"]
    assert item["created_at"].endswith("+00:00")
    assert abs(datetime.fromisoformat(item["created_at"]) - datetime.now(UTC)) < timedelta(minutes=1)


def test_contents_come_back_as_they_were(hooks: Hooks) -> None:
    said = ["  indented\n\n", " ", '{"a": "\\u0000"}', "<script>", "é \U0001f600", "x" * 500_000]
    hooks.record(*said)
    assert hooks.contents() == said


@pytest.mark.parametrize("missing", ["username", "session_id", "role", "content"])
@pytest.mark.parametrize("value", [None, "", 0, [], False], ids=repr)
def test_what_is_needed_is_named_in_the_words_of_the_contract(hooks: Hooks, missing: str, value: Any) -> None:
    required = {"error": "username, session_id, role, and content are required"}
    reply = hooks.post(**{missing: value})
    assert (reply.status_code, reply.json()) == (400, required)
    body = {key: said for key, said in SAID.items() if key != missing}
    assert hooks.client.post(RECORD, json=body, headers=hooks.headers).json() == required


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"username": "u" * 101}, "username: Ensure this field has no more than 100 characters."),
        ({"session_id": "s" * 256}, "session_id: Ensure this field has no more than 255 characters."),
        ({"namespace": "n" * 101}, "namespace: Ensure this field has no more than 100 characters."),
        ({"project_path": "p" * 501}, "project_path: Ensure this field has no more than 500 characters."),
        ({"content": "a\0b"}, "content: Null characters are not allowed."),
        ({"content": {"text": "hi"}}, "content: Not a valid string."),
        ({"username": "  "}, "username: This field may not be blank."),
        ({"role": ["user"]}, "role: Not a valid string."),
        ({"role": "User"}, "Invalid role 'User'. Must be 'user' or 'assistant'."),
        ({"namespace": [1]}, "namespace: Not a valid string."),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_refused(hooks: Hooks, change: dict[str, Any], error: str) -> None:
    reply = hooks.post(**change)
    assert (reply.status_code, reply.json()) == (400, {"error": error})
    assert hooks.contents() == []


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (b"[]", {"error": "the body must be an object"}),
        (b"null", {"error": "the body must be an object"}),
        (b"", {"error": "username, session_id, role, and content are required"}),
        (
            b'{"username": "u", "session_id": "s", "role": "user", "content": "\\ud800"}',
            {"error": "content: Surrogate characters are not allowed: U+D800."},
        ),
    ],
)
def test_odd_bodies_are_refused(hooks: Hooks, body: bytes, answer: dict[str, str]) -> None:
    headers = {**hooks.headers, "Content-Type": "application/json"}
    reply = hooks.client.post(RECORD, content=body, headers=headers)
    assert (reply.status_code, reply.json()) == (400, answer)


def test_bodies_are_bounded(hooks: Hooks) -> None:
    assert hooks.post(content="x" * 2**20).status_code == 413


@pytest.mark.parametrize(
    ("query", "error"),
    [
        ("", "username query parameter is required"),
        ("?username=", "username query parameter is required"),
        ("?username=a%00", "username: Null characters are not allowed."),
        ("?username=a&namespace=%00", "namespace: Null characters are not allowed."),
    ],
)
def test_a_bad_question_is_refused(hooks: Hooks, query: str, error: str) -> None:
    reply = hooks.client.get(f"{RECALL}{query}", headers=hooks.headers)
    assert (reply.status_code, reply.json()) == (400, {"error": error})


def test_other_methods_are_not_allowed(hooks: Hooks) -> None:
    for method, path in (("POST", RECALL), ("DELETE", RECALL), ("GET", RECORD), ("PUT", RECORD)):
        reply = hooks.client.request(method, path, headers=hooks.headers)
        assert (reply.status_code, reply.json()) == (405, {"detail": f'Method "{method}" not allowed.'})


# Who may


@pytest.mark.parametrize("anonymous_read", [True, False])
def test_a_token_is_needed_by_default_and_any_will_do(start: Start, tokens: Tokens, anonymous_read: bool) -> None:
    client = start(shared={"anonymous_read": anonymous_read})
    missing = {"detail": "Authentication credentials were not provided."}
    for headers, answer in (({}, missing), ({"Authorization": "Token bad"}, {"detail": "Invalid token."})):
        hooks = Hooks(client, headers)
        for reply in (hooks.post(), hooks.get()):
            assert (reply.status_code, reply.json()) == (403, answer)
    assert Hooks(client, tokens.header()).post(username="somebody").status_code == 200


def test_a_site_can_keep_its_old_hooks_without_a_token(start: Start) -> None:
    client = start(ai_memory_open=True, shared={"anonymous_read": False})
    for headers in ({}, {"Authorization": "Token bad"}):
        hooks = Hooks(client, headers)
        hooks.record("hi")
    assert hooks.contents() == ["hi", "hi"]


def test_the_switch_has_the_name_of_the_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_REGISTRY_DATABASE_URL", "postgresql://nowhere/")
    assert not Settings().ai_memory_open
    monkeypatch.setenv("SLUICE_AI_MEMORY_OPEN", "true")
    assert Settings().ai_memory_open


# Retention


def age(url: str, content: str, days: int) -> None:
    with create_engine(url).begin() as connection:
        statement = text("UPDATE ai_memory SET created_at = now() - make_interval(days => :days) WHERE content = :what")
        connection.execute(statement, {"days": days, "what": content})


def test_old_dialogues_are_deleted_batch_by_batch_and_others_kept(
    url: str, start: Start, tokens: Tokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "BATCH", 2)
    monkeypatch.setattr(retention, "BATCH", 2)
    monkeypatch.setattr(retention, "EVERY", timedelta(seconds=0.05))
    hooks = Hooks(start(ai_memory_retention=timedelta(days=30)), tokens.header())
    hooks.record(*["old"] * 5, "young", "new")
    age(url, "young", 29)
    age(url, "old", 31)
    assert eventually(lambda: hooks.contents() == ["young", "new"])


def test_a_retention_of_zero_keeps_everything(url: str, hooks: Hooks) -> None:
    hooks.record("ancient")
    age(url, "ancient", 20_000)
    database = Database(url, pool_size=1)
    assert memory.Memory(database, retention=timedelta(0)).forget() == 0
    database.close()
    assert hooks.contents() == ["ancient"]


def test_the_newest_are_found_by_an_index(url: str, hooks: Hooks) -> None:
    with create_engine(url).begin() as connection:
        connection.execute(
            text(
                "INSERT INTO ai_memory (username, session_id, role, content, namespace, created_at) "
                "SELECT 'u' || n % 5, 's', 'user', 'x', 'n' || n % 7, now() - n * interval '1 s' "
                "FROM generate_series(1, 20000) n"
            )
        )
        connection.execute(text("ANALYZE ai_memory"))
    seen: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "octet_length" in statement:
            cursor.execute(f"EXPLAIN {statement}", parameters)
            seen.append("\n".join(row[0] for row in cursor.fetchall()))

    engine = hooks.client.app.state.service.database.engine  # type: ignore[attr-defined]
    event.listen(engine, "before_cursor_execute", explain)
    assert len(hooks.contents(username="u1")) == 40
    assert len(hooks.contents(username="u1", namespace="n3")) == 40
    for plan in seen:
        assert "ai_memory_newest" in plan
        assert "Seq Scan" not in plan
