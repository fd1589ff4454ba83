"""``sluice pcs``."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from sluice_core.cli import Api, AsJson, Failure, print_json, print_table
from sluice_pcs.kinds import BY_LETTER, Kind
from sluice_pcs.service.definitions import builtin_campaign

__all__ = ["commands"]

API = "/pcs/api/"

commands = typer.Typer(help="Physics configurations: tags, datasets, tasks.", no_args_is_help=True)
tasks = typer.Typer(help="Production tasks.", no_args_is_help=True)
queues = typer.Typer(help="Queues of PanDA.", no_args_is_help=True)
endpoints = typer.Typer(help="Storage elements of Rucio.", no_args_is_help=True)
commands.add_typer(tasks, name="task")
commands.add_typer(queues, name="queues")
commands.add_typer(endpoints, name="endpoints")

Label = Annotated[str, typer.Argument(help="Such as p1001, e3 or k1.")]


@commands.command("tags")
def list_tags(
    kind: Annotated[str, typer.Argument(help="p, e, s, r or k.")],
    status: Annotated[str | None, typer.Option(help="draft or locked.")] = None,
    search: Annotated[str | None, typer.Option(help="Text in label, description or parameters.")] = None,
    as_json: AsJson = False,
) -> None:
    """List the tags of a kind."""
    if kind not in BY_LETTER:
        raise Failure(f"there is no kind of tags {kind!r}: {', '.join(BY_LETTER)}")
    with Api.find() as api:
        rows = api.get(f"{API}{BY_LETTER[kind].resource}/", status=status, search=search)
    if as_json:
        return print_json(rows)
    print_table(
        ("Tag", "Status", "Description", "Created by", "Parameters"),
        (
            (row["tag_label"], row["status"], row["description"], row["created_by"], _in_line(row["parameters"]))
            for row in rows
        ),
    )
    return None


@commands.command("show")
def show_tag(label: Label, as_json: AsJson = False) -> None:
    """Show one tag."""
    path = _path(label)
    with Api.find() as api:
        row = api.get(path)
    if as_json:
        return print_json(row)
    shown = {name: value for name, value in row.items() if name not in ("id", "tag_label", "parameters")}
    print_table(("", ""), [*shown.items(), *row["parameters"].items()], title=row["tag_label"])
    return None


@commands.command("diff")
def diff_tags(one: Label, other: Label, as_json: AsJson = False) -> None:
    """Show in what two tags of a kind differ."""
    kind, number = _parse(one)
    if kind != _parse(other)[0]:
        raise Failure(f"{one} and {other} are tags of different kinds")
    with Api.find() as api:
        found = api.get(f"{API}{kind.resource}/{number}/diff/{_parse(other)[1]}/")
    if as_json:
        return print_json(found)
    lines = [*found["fields"].items(), *found["parameters"].items()]
    print_table(("", one, other), ((name, both.get("left"), both.get("right")) for name, both in lines))
    return None


@commands.command("lock")
def lock_tag(label: Label, as_json: AsJson = False) -> None:
    """Lock a draft; nobody can change it any more."""
    path = _path(label)
    with Api.find() as api:
        row = api.post(f"{path}lock/")
    print_json(row) if as_json else typer.echo(f"{row['tag_label']} is locked.")


@commands.command("datasets")
def list_datasets(
    search: Annotated[str | None, typer.Option(help="Text in name or description.")] = None, as_json: AsJson = False
) -> None:
    """List datasets, one line for all blocks of one."""
    with Api.find() as api:
        rows = api.get(f"{API}datasets/", search=search, block_num=1)
    if as_json:
        return print_json(rows)
    print_table(
        ("Dataset", "Blocks", "Created by", "Created at"),
        ((row["dataset_name"], row["blocks"], row["created_by"], row["created_at"]) for row in rows),
    )
    return None


@commands.command("import")
def import_campaign(
    file: Annotated[Path | None, typer.Argument(help="A campaign, as `export` writes it.")] = None,
    builtin: Annotated[str | None, typer.Option(help="A campaign that ships with Sluice, such as 26.02.0.")] = None,
    created_by: Annotated[str | None, typer.Option(help="Creator of what is new; else the file's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
    as_json: AsJson = False,
) -> None:
    """Store what a campaign has and the service has not; what is there stays as it is."""
    if (file is None) == (builtin is None):
        raise Failure("name a file or --builtin, one of them")
    campaign = _read(file) if file is not None else builtin_campaign(builtin or "")
    if campaign is None:
        raise Failure(f"no campaign {builtin} ships with Sluice")
    body = {"campaign": campaign, "created_by": created_by, "dry_run": dry_run}
    with Api.find() as api:
        report = api.post(f"{API}import/", body)
    if as_json:
        return print_json(report)
    print_table(
        ("", "created", "unchanged", "different"),
        [("would be" if dry_run else "", *report["counts"].values())],
    )
    for each in report["different"]:
        typer.echo(f"{each['name']}: {each['reason']}")
    return None


@commands.command("export")
def export_campaign(
    name: Annotated[str, typer.Option(help="Of the campaign, for the file.")] = "",
    output: Annotated[Path | None, typer.Option(help="File to write; else it is printed.")] = None,
) -> None:
    """Write all categories, tags and definitions as one campaign."""
    with Api.find() as api:
        campaign = api.get(f"{API}export/", name=name)
    if output is None:
        return print_json(campaign)
    try:
        output.write_text(json.dumps(campaign, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as exc:
        raise Failure(f"{output} cannot be written: {exc.strerror}") from exc
    return None


def _parse(label: str) -> tuple[Kind, int]:
    kind = BY_LETTER.get(label[:1].lower())
    if kind is None or not label[1:].isdecimal():
        raise Failure(f"{label!r} is no label of a tag: p1001, e3, s1, r1, k1")
    return kind, int(label[1:])


def _path(label: str) -> str:
    kind, number = _parse(label)
    return f"{API}{kind.resource}/{number}/"


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as exc:
        raise Failure(f"{file} cannot be read: {exc.strerror}") from exc
    except ValueError as exc:
        raise Failure(f"{file} is no JSON: {exc}") from exc


def _in_line(parameters: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in parameters.items())


def _load(path: str, file: Path, sync: bool, as_json: bool) -> None:
    """Bring what a file says about queues or storage elements to the service: what differs is changed, no more."""
    rows = _configurations(_read(file))
    with Api.find() as api:
        counts = {"created": 0, "changed": 0, "unchanged": 0, "deleted": 0}
        known = {row["name"]: row for row in api.get(path)}
        for row in rows:
            wanted = {"description": "", "status": "active", **row}
            old = known.pop(row["name"], None)
            if old is None:
                api.post(path, wanted)
                counts["created"] += 1
            elif any(old[name] != value for name, value in row.items()):
                api.request("PATCH", f"{path}{quote(row['name'], safe='')}/", body=row)
                counts["changed"] += 1
            else:
                counts["unchanged"] += 1
        for name in known if sync else ():
            api.request("DELETE", f"{path}{quote(name, safe='')}/")
            counts["deleted"] += 1
    if as_json:
        return print_json(counts)
    print_table(tuple(counts), [tuple(counts.values())])
    return None


FIELDS = {"name", "description", "status", "configuration"}


def _configurations(found: Any) -> Iterable[dict[str, Any]]:
    """Read a file: an object of configurations by name, or a list of rows."""
    if isinstance(found, dict) and all(isinstance(each, dict) for each in found.values()):
        return [{"name": name, "configuration": each, **_status(each)} for name, each in found.items()]
    if isinstance(found, list) and all(isinstance(each, dict) and isinstance(each.get("name"), str) for each in found):
        if unknown := sorted({name for each in found for name in each} - FIELDS):
            raise Failure(f"rows have name, description, status and configuration, not {', '.join(unknown)}")
        return found
    raise Failure("the file is neither an object of configurations by name nor a list of rows with names")


def _status(configuration: dict[str, Any]) -> dict[str, str]:
    status = configuration.get("status")
    return {"status": status} if isinstance(status, str) and 0 < len(status) <= 20 else {}


Name = Annotated[str, typer.Argument(help="Composed name, name, or the beginning of one up to a dot.")]


@tasks.command("list")
def list_tasks(
    status: Annotated[str | None, typer.Option(help="Such as draft or submitted.")] = None, as_json: AsJson = False
) -> None:
    """List production tasks, what changed last first."""
    with Api.find() as api:
        rows = api.get(f"{API}prod-tasks/", status=status)
    if as_json:
        return print_json(rows)
    print_table(
        ("Task", "Status", "Dataset", "Configuration", "JEDI task"),
        (
            (row["name"], row["status"], row["dataset_name"], row["prod_config_name"], row["panda_task_id"])
            for row in rows
        ),
    )
    return None


@tasks.command("show")
def show_task(name: Name, as_json: AsJson = False) -> None:
    """Show one production task."""
    with Api.find() as api:
        row = api.get(_task(name))
    if as_json:
        return print_json(row)
    attempts = row.pop("panda_tasks")
    print_table(("", ""), row.items(), title=row["name"])
    print_table(
        ("Try", "Name", "JEDI task", "Status"),
        ((each["try_number"], each["task_name"], each["jedi_task_id"], each["status_snapshot"]) for each in attempts),
    )
    return None


@tasks.command("lock")
def lock_task(name: Name, as_json: AsJson = False) -> None:
    """Make a draft ready for submission."""
    with Api.find() as api:
        row = api.post(f"{_task(name)}lock/")
    print_json(row) if as_json else typer.echo(f"{row['name']} is {row['status']}.")


@tasks.command("command")
def task_command(
    name: Name,
    fmt: Annotated[str, typer.Option("--format", help="condor, panda, jedi, evgen or dump.")] = "condor",
    as_json: AsJson = False,
) -> None:
    """Print what a task is submitted with."""
    with Api.find() as api:
        text = api.text(f"{API}prod-tasks/command/", name=name, fmt=fmt)
    print_json({fmt: text}) if as_json and fmt in ("condor", "panda") else typer.echo(text)


@tasks.command("submit")
def submit_task(
    name: Name,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be handed over.")] = False,
    as_json: AsJson = False,
) -> None:
    """Hand a ready task to whoever submits."""
    with Api.find() as api:
        found = api.post(f"{_task(name)}submit/{'?dry_run=true' if dry_run else ''}")
    if as_json or dry_run:
        return print_json(found)
    return typer.echo(f"{found['name']} is {found['status']}.")


def _task(name: str) -> str:
    return f"{API}prod-tasks/{quote(name, safe='')}/"


File = Annotated[Path, typer.Argument(help="JSON: configurations by name.")]
Sync = Annotated[bool, typer.Option("--sync", help="Also delete what the file does not name; in use is refused.")]


@queues.command("load")
def load_queues(file: File, sync: Sync = False, as_json: AsJson = False) -> None:
    """Bring a file of queues to the service."""
    _load("/api/panda-queues/", file, sync, as_json)


@endpoints.command("load")
def load_endpoints(file: File, sync: Sync = False, as_json: AsJson = False) -> None:
    """Bring a file of storage elements to the service."""
    _load("/api/rucio-endpoints/", file, sync, as_json)
