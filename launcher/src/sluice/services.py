"""The services that are installed, found by entry points: the launcher depends on none of them."""

from collections.abc import Iterable
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from pydantic_settings import SettingsError

from sluice_core.cli import Failure

if TYPE_CHECKING:
    from fastapi import FastAPI

    from sluice_core.settings import ServiceSettings

__all__ = ["Installed", "chosen", "installed"]

GROUP = "sluice.services"


class Installed:
    """One installed service.

    Attributes
    ----------
    name
        Such as ``registry``.
    package
        Its import name.
    """

    def __init__(self, name: str, package: str) -> None:
        self.name = name
        self.package = package

    @cached_property
    def routes(self) -> tuple[str, ...]:
        """Prefixes of the paths that it answers."""
        return cast(tuple[str, ...], import_module(f"{self.package}.routes").ROUTES)

    def settings(self, **given: Any) -> "ServiceSettings":
        """Return its settings: what is given, and the environment for the rest.

        Raises
        ------
        Failure
            A variable is missing or wrong; the sentence names it.
        """
        kind: type[ServiceSettings] = import_module(f"{self.package}.settings").Settings
        try:
            return kind(**given)
        except ValidationError as exc:
            raise Failure("; ".join(_variable(kind, error) for error in exc.errors())) from exc
        except SettingsError as exc:
            raise Failure(str(exc)) from exc

    def create_app(self, settings: "ServiceSettings") -> "FastAPI":
        """Return its application."""
        return cast("FastAPI", import_module(f"{self.package}.app").create_app(settings))


def _variable(kind: "type[ServiceSettings]", error: Any) -> str:
    """Name a setting by its variable, as the operator knows it."""
    # A setting that a decision has named is reported by that name, which has no prefix.
    named = error["loc"] and error["loc"][0] in kind.model_fields
    prefix = kind.model_config.get("env_prefix", "") if named else ""
    name = f"{prefix}{'_'.join(map(str, error['loc']))}".upper()
    if error["type"] == "missing":
        return f"{name} (or {name}_FILE) is not set"
    return f"{name}: {error['msg'].removeprefix('Value error, ')}"


def installed() -> dict[str, Installed]:
    """Return all installed services by name."""
    return {entry.name: Installed(entry.name, entry.value) for entry in sorted(entry_points(group=GROUP))}


def chosen(names: Iterable[str] | None) -> list[Installed]:
    """Return the services of these names, or all.

    Raises
    ------
    Failure
        One is not installed, or none is.
    """
    found = installed()
    if not found:
        raise Failure("no service is installed")
    for name in names or ():
        if name not in found:
            raise Failure(f"there is no service {name!r}; installed: {', '.join(found)}")
    return [found[name] for name in dict.fromkeys(names)] if names else list(found.values())
