"""Settings: what operators write is understood, and what they mistype is refused with its name."""

from datetime import UTC, timedelta
from pathlib import Path

import pytest
from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import SettingsConfigDict, SettingsError

from sluice_core.settings import Duration, ServiceSettings, Shared, duration_text, parse_duration, service_config


class Settings(ServiceSettings):
    model_config = service_config("demo")

    stale_after: Duration = timedelta(minutes=3)


URL = SecretStr("postgresql://a:b@db/demo")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("5m", 300), ("1.5h", 5400), ("2d", 172800), ("250ms", 0.25), ("7", 7), (7, 7)]
)
def test_durations_are_written_as_people_write_them(text: str | int, seconds: float) -> None:
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5 minutes", "-5m", "m", "1e3", True])
def test_a_duration_that_is_none_is_refused(text: str | bool) -> None:
    with pytest.raises(ValueError, match="90s, 5m"):
        parse_duration(text)


@pytest.mark.parametrize("endless", ["9" * 400 + "d", "999999999999d", float("inf"), float("nan")])
def test_a_duration_without_end_is_refused_like_any_bad_one(endless: str | float) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - nan in the words of the standard library
        parse_duration(endless)


@pytest.mark.parametrize("text", ["90s", "5m", "36h", "2d", "0s", "0.25s"])
def test_a_duration_is_shown_as_it_was_written(text: str) -> None:
    parsed = parse_duration(text)
    assert isinstance(parsed, timedelta)
    assert duration_text(parsed) == text


def test_a_service_reads_its_own_and_the_shared_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_DEMO_DATABASE_URL", "postgres://a:b@db/demo")
    monkeypatch.setenv("SLUICE_DEMO_STALE_AFTER", "10s")
    monkeypatch.setenv("SLUICE_TIMEZONE", "America/New_York")
    monkeypatch.setenv("SLUICE_ANONYMOUS_READ", "false")
    settings = Settings()
    assert settings.stale_after == timedelta(seconds=10)
    assert settings.shared.timezone == "America/New_York"
    assert settings.shared.anonymous_read is False


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg2"])
def test_the_database_driver_is_always_named(scheme: str) -> None:
    settings = Settings(database_url=SecretStr(f"{scheme}://a:b@db/demo"))
    assert settings.database_url.get_secret_value() == "postgresql+psycopg2://a:b@db/demo"


def test_secrets_may_lie_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("postgresql://a:b@db/demo\n")
    (tmp_path / "token").write_text("opaque\n")
    monkeypatch.setenv("SLUICE_DEMO_DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("SLUICE_SERVICE_TOKEN_FILE", str(tmp_path / "token"))
    settings = Settings()
    assert settings.database_url.get_secret_value() == "postgresql+psycopg2://a:b@db/demo"
    assert settings.shared.service_token is not None
    assert settings.shared.service_token.get_secret_value() == "opaque"


def test_a_variable_wins_over_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from the file")
    monkeypatch.setenv("SLUICE_SERVICE_TOKEN", "from the variable")
    monkeypatch.setenv("SLUICE_SERVICE_TOKEN_FILE", str(tmp_path / "token"))
    token = Shared().service_token
    assert token is not None
    assert token.get_secret_value() == "from the variable"


def test_a_secret_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLUICE_SERVICE_TOKEN_FILE", str(tmp_path / "absent"))
    with pytest.raises(SettingsError, match="SLUICE_SERVICE_TOKEN_FILE: No such file"):
        Shared()


def test_no_secret_shows_in_a_repr() -> None:
    settings = Settings(database_url=URL, shared=Shared(nats_url=SecretStr("nats://u:hidden@bus")))
    assert "a:b" not in repr(settings)
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(("given", "kept"), [("", ""), ("/", ""), ("swf-monitor", "/swf-monitor"), ("/a/b/", "/a/b")])
def test_a_base_path_is_normalised(given: str, kept: str) -> None:
    assert Shared(base_path=given).base_path == kept


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("base_path", "/a/../b"),
        ("base_path", "/a b"),
        ("timezone", "Mars/Olympus"),
        ("public_url", "monitor.example"),
        ("nats_url", "bus:4222"),
        ("nats_url", "nats://bus:x"),
        ("nats_url", "nats://a:b@bus,"),
    ],
)
def test_a_wrong_value_is_refused_at_start(field: str, value: str) -> None:
    with pytest.raises(ValidationError, match=field):
        Shared.model_validate({field: value})


@pytest.mark.parametrize(
    "url", ["sqlite:///x", "postgresql:db", "postgresql://db:1:2/demo", "postgresql+asyncpg://db/x"]
)
def test_another_database_is_refused_at_start(url: str) -> None:
    with pytest.raises(ValidationError, match="a PostgreSQL URL is"):
        Settings(database_url=SecretStr(url))


@pytest.mark.parametrize("url", ["nats://a:b@bus:4222,tls://other", "nats://[::1]:4222", "nats://token@bus"])
def test_a_nats_url_may_name_several_servers(url: str) -> None:
    assert Shared(nats_url=SecretStr(url)).nats_url.get_secret_value() == url


@pytest.mark.parametrize("url", ["postgresql:///demo", "postgresql://a:b%40@[::1]:5432/demo?sslmode=require"])
def test_a_database_url_may_leave_out_what_libpq_knows(url: str) -> None:
    read = Settings(database_url=SecretStr(url)).database_url.get_secret_value()
    assert read == url.replace("postgresql", "postgresql+psycopg2")


def test_utc_is_the_utc_that_is_written_with_a_z() -> None:
    assert Shared().zone is UTC


def test_trusted_proxies_are_a_comma_separated_list(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_TRUSTED_PROXIES", "10.0.0.0/8, ::1")
    assert [str(network) for network in Shared().trusted_proxies] == ["10.0.0.0/8", "::1/128"]


def test_service_links_of_kubernetes_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_DEMO_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("SLUICE_DEMO_SERVICE_HOST", "10.0.0.1")
    assert Settings(database_url=URL).pool_size == 8


def test_every_setting_says_what_it_is_for() -> None:
    for model in (Shared, ServiceSettings):
        assert all(field.description for field in model.model_fields.values())


def test_groups_of_the_facility_are_pairs_of_group_and_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_OIDC_GROUPS", "physics=agent, cn=x=pcs,/site/admins=admin,physics=pcs,")
    pairs = (("physics", "agent"), ("cn=x", "pcs"), ("/site/admins", "admin"), ("physics", "pcs"))
    assert Shared().oidc_groups == pairs


@pytest.mark.parametrize("wrong", ["physics", "physics=king", "=admin", "physics="])
def test_a_group_without_a_known_role_is_told_at_start(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("SLUICE_OIDC_GROUPS", wrong)
    with pytest.raises(ValidationError, match="GROUP=ROLE"):
        Shared()


@pytest.mark.parametrize("wrong", ["login.test", "ftp://login.test", "https://", "https://login.test/?x"])
def test_an_issuer_is_a_url(monkeypatch: pytest.MonkeyPatch, wrong: str) -> None:
    monkeypatch.setenv("SLUICE_OIDC_ISSUER", wrong)
    with pytest.raises(ValidationError, match="issuer"):
        Shared()


@pytest.mark.parametrize("variable", ["SLUICE_SPARE_KEY", "SLUICE_KEY"])
def test_a_secret_of_two_names_is_found_under_each_and_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    class Spare(ServiceSettings):
        model_config = service_config("spare") | SettingsConfigDict(validate_by_name=True, validate_by_alias=True)

        key: SecretStr | None = Field(None, validation_alias=AliasChoices("SLUICE_SPARE_KEY", "SLUICE_KEY"))

    monkeypatch.setenv("SLUICE_SPARE_DATABASE_URL", "postgresql://a:b@c/d")
    assert Spare().key is None
    assert Spare(key=SecretStr("named")).key == SecretStr("named")
    monkeypatch.setenv(variable, "s3cret")
    assert Spare().key == SecretStr("s3cret")
    monkeypatch.delenv(variable)
    (tmp_path / "key").write_text("from a file\n")
    monkeypatch.setenv(f"{variable}_FILE", str(tmp_path / "key"))
    assert Spare().key == SecretStr("from a file")
