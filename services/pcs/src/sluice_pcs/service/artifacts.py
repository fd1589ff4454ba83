"""What is handed to the machines of a production: commands and task parameters (contract 10.5).

All of it comes from texts that people type, and ends in a shell: each value is quoted.
"""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePosixPath
from typing import Any

__all__ = [
    "EXTENSIONS",
    "Composition",
    "Incomplete",
    "beams",
    "condor",
    "dump",
    "evgen",
    "jedi",
    "output_name",
    "panda",
    "residual",
]

Row = Mapping[str, Any]
JOINER = " \\\n  "
EVGEN_ROOT = "/volatile/eic/EPIC/EVGEN/"
EXTENSIONS = ("hepmc3.tree.root", "hepmc.gz", "hepmc3.gz", "hepmc3", "hepmc")
IMAGES = "/cvmfs/singularity.opensciencegrid.org/eicweb/eic_xl"
PROXY = "secrets/x509_user_proxy"
_BEAMS = re.compile(r"(?<![\w.])(\d{1,4})x(\d{1,4})(?![\w.])", re.ASCII)
BACKGROUND = {
    "signal_freq": "SIGNAL_FREQ",
    "signal_status": "SIGNAL_STATUS",
    "bg_tag_prefix": "TAG_PREFIX",
    "bg_files": "BG_FILES",
}


class Incomplete(Exception):
    """Something is missing without which there is nothing to submit; the message says what."""


@dataclass(frozen=True)
class Composition:
    """A task with everything that it refers to.

    Attributes
    ----------
    task, dataset
        As on the wire.
    tags
        By the names of their kinds; without background where there is none.
    stored
        The configuration as it is stored.
    config
        The same with the task's overrides; ``data`` merged key by key.
    campaign
        Its name; empty without one.
    inputs
        Locations of the linked inputs.
    """

    task: Row
    dataset: Row
    tags: Mapping[str, Row]
    stored: Row
    config: Row
    campaign: str = ""
    inputs: Sequence[str] = ()

    @property
    def data(self) -> Row:
        """Open parameters of the submission."""
        return self.config["data"] or {}

    @property
    def location(self) -> str:
        """Where the input is; empty when nobody said."""
        return self.dataset["source_location"] or next(iter(self.inputs), "")

    @property
    def csv(self) -> str:
        """The manifest of the input; empty when there is none."""
        return self.task["csv_file"] or self.location

    def catalogue(self) -> str:
        """Return where the catalogue has the input, as far as somebody has said so."""
        said = self.task["overrides"] or {}
        entry = (said.get(f"public_catalog_{name}") for name in ("csv_path", "row_key"))
        return "\n".join(each for each in (self.csv, *entry) if isinstance(each, str))

    def background(self) -> dict[str, str]:
        """Return the variables of background mixing that the tags set; none without mixing."""
        if not self.config["bg_mixing"]:
            return {}
        sources = [self.tags[kind]["parameters"] for kind in ("background", "evgen") if kind in self.tags]
        found = {
            variable: next((_text(each[name]) for each in sources if each.get(name) not in (None, "")), "")
            for name, variable in BACKGROUND.items()
        }
        return {variable: value for variable, value in found.items() if value}


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Decimal):
        return str(value)
    return "" if value is None else str(value)


def output_name(composition: Composition) -> str:
    """Return the name of what a task makes."""
    dataset, source = composition.dataset, composition.dataset["source_location"] or ""
    if source.startswith(EVGEN_ROOT) and composition.campaign and (suffix := source.removeprefix(EVGEN_ROOT)):
        return f"/RECO/{composition.campaign}/{dataset['detector_config']}/{suffix}"
    return str(dataset["dataset_name"])


def _environment(composition: Composition, background: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a job in their order, empty ones left out."""
    config, dataset = composition.config, composition.dataset
    beams = composition.tags["physics"]["parameters"]
    found = {
        "EBEAM": beams.get("beam_energy_electron"),
        "PBEAM": beams.get("beam_energy_hadron"),
        "DETECTOR_VERSION": dataset["detector_version"],
        "DETECTOR_CONFIG": dataset["detector_config"],
        "JUG_XL_TAG": config["jug_xl_tag"],
        "COPYRECO": config["copy_reco"],
        "COPYFULL": config["copy_full"],
        "COPYLOG": config["copy_log"],
        **({"USERUCIO": True, "X509_USER_PROXY": PROXY} if config["use_rucio"] else {}),
        "OUT_RSE": config["rucio_rse"],
        "CSV_FILE": composition.location,
        **background,
    }
    texts = {name: _text(value) for name, value in found.items()}
    return {name: value for name, value in texts.items() if value}


def _assignments(environment: Mapping[str, str]) -> Iterator[str]:
    return (f"{name}={shlex.quote(value)}" for name, value in environment.items())


def condor(composition: Composition) -> str:
    """Return the command that submits a task to HTCondor."""
    background = composition.background()
    if composition.config["bg_mixing"]:
        background = {"SIGNAL_FREQ": "0", "SIGNAL_STATUS": "0"} | background
    hours = _text(composition.config["target_hours_per_job"] or 2)
    csv = composition.csv or "<csv_file>"
    submit = shlex.join(["scripts/submit_csv.sh", "osg_csv", "hepmc3", csv, hours])
    return JOINER.join([*_assignments(_environment(composition, background)), submit])


def panda(composition: Composition) -> str:
    """Return the command line of ``prun``."""
    config, data = composition.config, composition.data
    options: list[tuple[str, Any]] = [
        ("--exec", data.get("exec_command")),
        ("--outDS", output_name(composition)),
        ("--official", bool(data.get("official"))),
        ("--containerImage", config["container_image"]),
        ("--site", config["panda_site"]),
        ("--workingGroup", config["panda_working_group"]),
        ("--resourceType", config["panda_resource_type"]),
        ("--prodSourceLabel", data.get("prod_source_label") or "test"),
        ("--vo", data.get("vo") or "wlcg"),
        ("--processingType", data.get("processing_type")),
        ("--nJobs", data.get("n_jobs")),
        ("--nEventsPerJob", data.get("events_per_job")),
        ("--nCore", data.get("corecount")),
        ("--noBuild", bool(data.get("no_build"))),
        ("--expertOnly_skipScout", bool(data.get("skip_scout"))),
        ("--outputs", data.get("outputs")),
    ]
    words = ["prun"]
    for name, value in options:
        if value is True:
            words.append(name)
        elif value is not False and (text := _text(value)):
            # A command in quotes even where a shell would not ask for them.
            quoted = shlex.quote(text) if name != "--exec" or shlex.quote(text) != text else f"'{text}'"
            words.append(f"{name} {quoted}")
    return JOINER.join(words)


def jedi(composition: Composition, transformation: str) -> dict[str, Any]:
    """Return the parameters of a task of JEDI.

    Parameters
    ----------
    transformation
        URL of the one that runs where the configuration names none.
    """
    config, data, task = composition.config, composition.data, composition.task
    name, scope = output_name(composition), data.get("scope") or composition.dataset["scope"]
    group = config["panda_working_group"] or "EIC"
    lfn = "_".join(str(tag["tag_label"]) for tag in composition.tags.values())
    environment = _environment(composition, composition.background())
    command = " ".join([*_assignments(environment), data.get("exec_command") or "./run.sh"])
    local = {"type": "template", "token": "local", "destination": "local"}
    optional = {
        "nFiles": data.get("n_jobs"),
        "nEventsPerJob": data.get("events_per_job"),
        "nEvents": config["events_per_task"],
        "walltime": None if data.get("walltime_hours") is None else round(data["walltime_hours"] * 3600),
        "skipScout": data.get("skip_scout") or None,
        "disableAutoRetry": data.get("disable_auto_retry") or None,
        "useRucio": config["use_rucio"] or None,
    }
    return {
        "taskName": name,
        "userName": task["created_by"],
        "vo": data.get("vo") or "eic",
        "workingGroup": group,
        "campaign": composition.dataset["detector_version"],
        "prodSourceLabel": data.get("prod_source_label") or "test",
        "taskType": data.get("task_type") or "production",
        "processingType": data.get("processing_type") or "epicproduction",
        "taskPriority": _or(data.get("task_priority"), 900),
        "transPath": data.get("transformation") or transformation,
        "transUses": "",
        "transHome": "",
        "architecture": "",
        "container_name": config["container_image"],
        "noInput": True,
        "nFilesPerJob": _or(data.get("files_per_job"), 1),
        "coreCount": _or(data.get("corecount"), 1),
        "ramCount": _or(data.get("ram_count"), 2000),
        "ramUnit": "MBPerCore",
        "site": config["panda_site"],
        "cloud": data.get("cloud") or group,
        **{key: value for key, value in optional.items() if value is not None},
        "log": {
            "dataset": f"{scope}:{name}.log",
            **local,
            "param_type": "log",
            "value": f"{lfn}.$PANDAID.log.${{SN}}.log.tgz",
        },
        "jobParameters": [
            {"type": "constant", "value": command},
            {
                **local,
                "param_type": "output",
                "dataset": f"{scope}:{name}",
                "value": f"{lfn}.$PANDAID.${{SN}}.edm4eic.root",
                "offset": _or(data.get("output_offset"), 1000),
            },
        ],
    }


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def evgen(composition: Composition, name: str, number: int, outputs: Collection[str] | None = None) -> dict[str, Any]:
    """Return what the submitting agent needs to run over files of generated events.

    Parameters
    ----------
    name, number
        Of the attempt.
    outputs
        Files that attempts before have made: only what is missing is run over; None: everything.

    Raises
    ------
    Incomplete
        There is no number of events, no container or no input.
    """
    config, data = composition.config, composition.data
    events = data.get("events_per_job")
    if not events:
        raise Incomplete("events_per_job is not set in the configuration's data.")
    image = config["container_image"] or (f"{IMAGES}:{config['jug_xl_tag']}" if config["jug_xl_tag"] else "")
    if not image:
        raise Incomplete("Neither container_image nor jug_xl_tag is set.")
    files = _files(composition)
    if not files:
        raise Incomplete("The dataset names no input files.")
    rows = [_row(file, events) for file in files]
    if outputs is not None:
        rows = residual(composition, rows, outputs)
    environment = _environment(composition, composition.background())
    if number > 1:
        environment["TAG_PREFIX"] = "/".join(filter(None, (environment.get("TAG_PREFIX"), f"try{number}")))
    base = PurePosixPath(composition.csv).name.removesuffix(".csv") or name
    return {
        "outDS": name,
        "vo": data.get("vo") or "epic",
        "userName": composition.task["created_by"],
        "workingGroup": config["panda_working_group"] or "EIC",
        "site": config["panda_site"] or "BNL_OSG_PanDA_1",
        "prodSourceLabel": data.get("prod_source_label") or "test",
        "taskType": data.get("task_type") or "prod",
        "processingType": data.get("processing_type") or "epicproduction",
        "containerImage": image,
        "nCore": _or(data.get("corecount"), 1),
        "memory": _or(data.get("ram_count"), 4096),
        "disk": _or(data.get("disk_count"), 4096),
        "walltimeHours": data.get("walltime_hours"),
        "skipScout": _or(data.get("skip_scout"), True),
        "nJobs": len(rows),
        "nEventsPerJob": 1,
        "exec": f"python3 evgen_job_dispatcher.py %RNDM=0 {shlex.quote(base)}",
        "csvBase": base,
        "csvRows": rows,
        "env": environment,
        "residual": outputs is not None,
    }


def residual(composition: Composition, rows: Sequence[str], outputs: Collection[str]) -> list[str]:
    """Return the rows of a manifest for which nothing was made.

    What is made of an input file begins with the name of that file, up to a dot.

    Raises
    ------
    Incomplete
        Nobody can say, or nothing is missing.
    """
    if not outputs:
        raise Incomplete("No outputs are recorded.")
    if composition.config["bg_mixing"]:
        raise Incomplete("Background is mixed into the task: its outputs do not follow its inputs.")
    stems = [PurePosixPath(row.partition(",")[0]).name for row in rows]
    if len(set(stems)) < len(stems):
        raise Incomplete("Two input files have the same name.")
    made = {beginning for output in outputs for beginning in _beginnings(PurePosixPath(output).name)}
    missing = [row for row, stem in zip(rows, stems, strict=True) if stem not in made]
    if not missing:
        raise Incomplete("Nothing is missing.")
    return missing


def _beginnings(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:count]) for count in range(1, len(parts) + 1))


def beams(text: str) -> tuple[str, str] | None:
    """Return the energies of electron and hadron that the place of an input names, such as ``18x275``."""
    found = _BEAMS.search(text)
    return None if found is None else (found[1], found[2])


def _files(composition: Composition) -> Sequence[str]:
    """Return the input files that the data set lists."""
    metadata = composition.dataset["metadata"]
    source = metadata.get("source") if isinstance(metadata, dict) else None
    files = source.get("files") if isinstance(source, dict) else None
    return [each for each in files if isinstance(each, str)] if isinstance(files, list) else []


def _row(file: str, events: int) -> str:
    for extension in EXTENSIONS:
        if file.endswith(f".{extension}"):
            stem = file.removesuffix(f".{extension}")
            if "," in stem or not stem.isprintable():
                break
            return f"{stem},{extension},{events},0000"
    raise Incomplete(f"Not a file of events, or a name that no manifest can hold: {file}")


def dump(composition: Composition) -> dict[str, Any]:
    """Return everything that a task is made of."""
    return {
        "task": composition.task,
        "dataset": composition.dataset,
        "tags": composition.tags,
        "prod_config": composition.stored,
        "effective_config": composition.config,
    }
