"""The variables that existing clients read, for a local platform."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi

from sluice.data import PASSWORDS_FILE
from sluice.files import write_whole
from sluice_core.cli import Failure, data_directory, local

__all__ = ["local_facts", "variables", "write_bundle"]


def local_facts(data: Path | None) -> dict[str, Any]:
    """Return ``up.json`` of the local platform.

    Raises
    ------
    Failure
        None runs.
    """
    directory = data_directory(data)
    found = local(directory)
    if found is None:
        raise Failure(f"no `sluice up` runs with its data in {directory}")
    return found


def variables(data: Path | None) -> dict[str, str]:
    """Return the variables of swf agents and of this command line.

    Raises
    ------
    Failure
        No platform runs here, or its files are somebody else's.
    """
    facts = local_facts(data)
    directory = Path(facts["data"])
    bundle = directory / "ca-bundle.pem"
    # sluice_core.bus.permissions says so too, but takes longer to import than all of this.
    programs = "programs"
    host = facts["nats"].partition("://")[2]
    try:
        passwords = json.loads((directory / PASSWORDS_FILE).read_text(encoding="utf-8"))
        token = Path(facts["token_file"]).read_text(encoding="utf-8").strip()
        write_bundle(Path(facts["certificate"]), bundle)
    except OSError as exc:
        raise Failure(f"{exc.filename} cannot be used: {exc.strerror}") from exc
    return {
        "SWF_MONITOR_URL": facts["https"],
        "SWF_MONITOR_HTTP_URL": facts["http"],
        "SWF_API_TOKEN": token,
        "REQUESTS_CA_BUNDLE": str(bundle),
        **_broker(facts, token),
        "NATS_URL": f"nats://{programs}:{passwords[f'nats {programs}']}@{host}",
        "SLUICE_URL": facts["http"],
        "SLUICE_TOKEN": token,
    }


def _broker(facts: dict[str, Any], token: str) -> dict[str, str]:
    """Return where agents speak STOMP: with the platform itself, else with the broker that this shell knows."""
    if "stomp" in facts:
        found = urlsplit(facts["stomp"])
        known = {"HOST": found.hostname, "PORT": found.port, "USE_SSL": False, "USER": "admin", "PASSWORD": token}
        return {f"ACTIVEMQ_{name}": str(value) for name, value in known.items()}
    names = ("HOST", "PORT", "USE_SSL", "USER", "PASSWORD", "SSL_CA_CERTS")
    return {name: os.environ[name] for name in (f"ACTIVEMQ_{each}" for each in names) if name in os.environ}


def write_bundle(certificate: Path, bundle: Path) -> None:
    """Write a file of all roots that clients trust anyway, and ours."""
    roots = Path(certifi.where()).read_bytes()
    write_whole(bundle, roots.rstrip() + b"\n\n" + certificate.read_bytes())
