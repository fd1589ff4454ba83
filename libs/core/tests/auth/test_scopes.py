"""Roles give what their holders need, and no more."""

import pytest

from sluice_core.auth import ROLES, Identity, Scope
from sluice_core.auth.scopes import resolve


def holder(*roles: str) -> Identity:
    return Identity("someone", resolve(roles, ()), None)


@pytest.mark.parametrize("scope", [*Scope, "never:heard-of"])
def test_admin_may_everything(scope: str) -> None:
    assert holder("admin").may(scope)


@pytest.mark.parametrize(
    "scope",
    ["ids:write", "namespaces:write", "agents:write", "logs:write", "stream:read", "stream:write", "runs:write"],
)
def test_an_agent_may_all_of_its_http_life(scope: str) -> None:
    assert holder("agent").may(scope)


@pytest.mark.parametrize("role", sorted(set(ROLES) - {"admin"}))
@pytest.mark.parametrize("scope", ["admin", "tokens:admin", "logs:admin", "pcs:admin"])
def test_only_admin_touches_what_belongs_to_others(role: str, scope: str) -> None:
    assert not holder(role).may(scope)


def test_a_reader_changes_nothing() -> None:
    assert {scope.partition(":")[2] for scope in ROLES["reader"]} == {"read"}


def test_roles_and_scopes_add_up() -> None:
    assert resolve(["reader", "dqm"], ["x:y"]) == ROLES["reader"] | ROLES["dqm"] | {"x:y"}


def test_a_role_of_a_newer_registry_grants_nothing_here() -> None:
    assert resolve(["not-yet"], []) == frozenset()


def test_roles_cannot_be_widened_at_run_time() -> None:
    with pytest.raises(TypeError):
        ROLES["reader"] = frozenset({"admin"})  # type: ignore[index]
