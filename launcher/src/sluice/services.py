"""The services that are installed, found by entry points: the launcher depends on none of them."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError
from pydantic_settings import BaseSettings, SettingsError

from sluice_core.cli import Failure
from sluice_core.settings import ServiceSettings, Shared

if TYPE_CHECKING:
    from fastapi import FastAPI

__all__ = ["Installed", "chosen", "installed", "wrong_settings"]

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

    def settings(self, **given: Any) -> ServiceSettings:
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
            raise wrong_settings(exc, kind) from None
        except SettingsError as exc:
            raise Failure(str(exc)) from exc

    def create_app(self, settings: ServiceSettings) -> "FastAPI":
        """Return its application."""
        return cast("FastAPI", import_module(f"{self.package}.app").create_app(settings))


def wrong_settings(exc: ValidationError, *kinds: type[BaseSettings]) -> Failure:
    """Return the sentence that names the variables which are missing or wrong.

    Parameters
    ----------
    kinds
        Whose settings they may be, beside those that all services share.
    """
    return Failure("; ".join(_variable((*kinds, Shared), error) for error in exc.errors()))


def _variable(kinds: Sequence[type[BaseSettings]], error: Any) -> str:
    words = [str(word) for word in error["loc"]]
    # A setting that a decision has named is reported by that name, which has no prefix.
    prefixes = (kind.model_config.get("env_prefix", "") for kind in kinds if words and words[0] in kind.model_fields)
    name = f"{next(prefixes, '')}{'_'.join(words)}".upper()
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
