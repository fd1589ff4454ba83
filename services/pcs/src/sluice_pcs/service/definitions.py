"""Which parameters tags have, which they must have, and what may be in them (contract 4)."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC
from functools import lru_cache
from importlib import resources
from typing import Any

from sqlalchemy import Connection

from sluice_core.auth import Identity
from sluice_core.database import Database
from sluice_core.rest import ApiError, FieldError, Json
from sluice_pcs.events import Events
from sluice_pcs.kinds import BACKGROUND, Kind
from sluice_pcs.store.tags import DefinitionStore

__all__ = ["Definition", "Definitions", "builtin_campaign", "complaints"]

Definition = dict[str, Any]

CAMPAIGN = "26.02.0"
# Far more than a form has.
MOST = 200
LONGEST_NAME = 200
ANY_JSON = Json("defs")

TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "float": (int, float),
    "boolean": (bool,),
}


def _define(name: str, required: bool = False, choices: Sequence[str] = ()) -> Definition:
    return {"name": name, "type": "string", "required": required, "choices": list(choices), "allow_other": True}


# contract 10.1
_BACKGROUND = (
    _define("background_type", True, ["BEAMGAS", "SYNRAD"]),
    _define("bg_source", False, ["electron", "proton"]),
    _define("bg_mechanism", False, ["brems", "coulomb", "touschek"]),
    *map(
        _define,
        (
            "bg_generator",
            "beam_energy_electron",
            "beam_energy_hadron",
            "beam_species",
            "cross_section",
            "signal_freq",
            "signal_status",
            "bg_tag_prefix",
            "bg_files",
            "evtgen_file",
            "notes",
        ),
    ),
)


def builtin_campaign(name: str = CAMPAIGN) -> dict[str, Any] | None:
    """Return a campaign that ships with the service (contract 8); None when there is none of this name."""
    folder = resources.files("sluice_pcs") / "data"
    for each in folder.iterdir():
        if each.name == f"campaign-{name}.json":
            found: dict[str, Any] = json.loads(each.read_text(encoding="utf-8"))
            return found
    return None


@lru_cache(1)
def _builtin() -> Mapping[str, list[Definition]]:
    campaign = builtin_campaign()
    assert campaign is not None
    found: dict[str, list[Definition]] = {
        letter: schema["fields"] for letter, schema in campaign["parameter_schemas"].items()
    }
    found[BACKGROUND.letter] = [{**each, "sort_order": at} for at, each in enumerate(_BACKGROUND)]
    return found


def complaints(defs: Sequence[Definition], parameters: Mapping[str, Any], category: int | None = None) -> list[str]:
    """Say what definitions object to in the parameters of a tag.

    Parameters
    ----------
    defs
        In their order.
    parameters
        Of the tag; unknown ones are taken as they are.
    category
        Of a physics tag: a definition with ``required_categories`` is required in those only.
    """
    missing = [each["name"] for each in defs if _requires(each, category) and not parameters.get(each["name"])]
    found = [f"Missing required parameters: {', '.join(missing)}"] if missing else []
    for each in defs:
        value = parameters.get(each["name"])
        if value is None or value == "":
            continue
        types = TYPES.get(each.get("type", ""))
        if types is not None and (not isinstance(value, types) or (isinstance(value, bool) and bool not in types)):
            found.append(f"{each['name']}: a value of type {each['type']} is required.")
        elif each.get("choices") and not each.get("allow_other", True) and str(value) not in each["choices"]:
            found.append(f"{each['name']}: only one of {', '.join(each['choices'])} is allowed.")
    return found


def _requires(definition: Definition, category: int | None) -> bool:
    where = definition.get("required_categories")
    return bool(definition.get("required")) and (where is None or category is None or category in where)


class Definitions:
    """Definitions of parameters, one list a kind; whole lists are replaced, and tags are not looked at again."""

    def __init__(self, database: Database, events: Events) -> None:
        self._database = database
        self._events = events

    def of(self, connection: Connection, kind: Kind) -> list[Definition]:
        """Return the definitions that hold, on a connection of the caller's."""
        stored = DefinitionStore(connection).get(kind.letter)
        return _builtin()[kind.letter] if stored is None else stored

    async def get(self, kind: Kind) -> list[Definition]:
        """Return the definitions of a kind."""
        return await self._database.run(self._database.read, lambda connection: self.of(connection, kind))

    async def replace(self, kind: Kind, raw: Any, by: Identity) -> list[Definition]:
        """Replace the definitions of a kind.

        Raises
        ------
        ApiError
            400 in the words of 4.1.
        """
        defs = _read(raw)

        def work(connection: Connection) -> None:
            DefinitionStore(connection).put(kind.letter, defs, by.subject)
            self._events.say(connection, "params", "replaced", kind.letter, {"by": by.subject, "defs": defs})

        await self._database.run(self._database.transact, work)
        return defs


def _read(raw: Any) -> list[Definition]:
    if not isinstance(raw, list):
        raise _refused("defs must be a list")
    if len(raw) > MOST:
        raise _refused(f"There are no more than {MOST} parameters.")
    found: dict[str, Definition] = {}
    for at, each in enumerate(raw):
        name = each.get("name") if isinstance(each, dict) else None
        name = name.strip() if isinstance(name, str) else ""
        if not 0 < len(name) <= LONGEST_NAME or not _is_sound(each):
            raise _refused(f"Invalid param def at index {at}")
        if name in found:
            raise _refused(f"Duplicate param name: {name}")
        defaults = {"type": "string", "required": False, "choices": [], "allow_other": True}
        found[name] = {**defaults, **each, "name": name, "sort_order": at}
    return list(found.values())


def _is_sound(definition: Definition) -> bool:
    try:
        ANY_JSON.convert(definition, UTC)
    except FieldError:
        return False
    choices, where = definition.get("choices", []), definition.get("required_categories", [])
    return (
        isinstance(definition.get("type", ""), str)
        and isinstance(definition.get("required", False), bool)
        and isinstance(definition.get("allow_other", True), bool)
        and isinstance(choices, list)
        and all(isinstance(each, str) for each in choices)
        and isinstance(where, list)
        and all(type(each) is int and 1 <= each <= 9 for each in where)
    )


def _refused(error: str) -> ApiError:
    return ApiError(400, {"error": error})
