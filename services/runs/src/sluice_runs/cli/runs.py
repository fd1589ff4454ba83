"""``sluice runs``, ``sluice run``, ``sluice executions``."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from sluice_core.cli import Api, AsJson, Failure
from sluice_runs.cli.showing import Watch, clock, duration, show, table

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["executions", "run", "runs"]

# Rows of one page of the API; the newest are what people want.
MOST = 10_000
LINES = 40

runs = typer.Typer(help="Data-taking runs.", invoke_without_command=True, no_args_is_help=False)
run = typer.Typer(
    help="One run: its figures and what happened in it.",
    invoke_without_command=True,
    # Options may come behind the number.
    context_settings={"allow_interspersed_args": True},
)
executions = typer.Typer(help="Executions of workflows.", invoke_without_command=True, no_args_is_help=False)


@runs.callback()
def list_runs(
    since: Annotated[str | None, typer.Option(help="Only runs that began at this time or later.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many at most, the newest first.")] = 50,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Show runs, the newest first, and where they stand."""
    with Api.find() as api:

        def read() -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = api.get("/api/runs/", since=since)
            newest = sorted(found, key=lambda row: row["start_time"], reverse=True)[:limit]
            states = {row["run_number"]: row for row in api.get("/api/run-states/")}
            return [{**row, "state": states.get(row["run_number"])} for row in newest]

        show(read, _runs, watch=watch, as_json=as_json)


@run.callback()
def show_run(
    number: Annotated[int, typer.Argument(help="Its run number.", metavar="N")],
    lines: Annotated[int, typer.Option(min=1, max=MOST, help="Lines of the timeline, the last ones.")] = LINES,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Show the figures of a run and what happened in it."""
    with Api.find() as api:

        def read() -> dict[str, Any]:
            found = api.get("/api/runs/", run_number=number)
            if not found:
                raise Failure(f"there is no run {number}")
            key = found[0]["run_id"]
            return {
                "report": api.get(f"/api/runs/{key}/report/"),
                "state": next(iter(api.get("/api/run-states/", run_number=number)), None),
                "timeline": api.get(f"/api/runs/{key}/timeline/", limit=MOST),
            }

        show(read, lambda found: _run(found, lines), watch=watch, as_json=as_json)


@executions.callback()
def list_executions(
    status: Annotated[str | None, typer.Option(help="Such as running.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Only those of this namespace.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MOST, help="How many at most, the newest first.")] = 50,
    watch: Watch = False,
    as_json: AsJson = False,
) -> None:
    """Show executions of workflows, the newest first; those that are stale are marked."""
    with Api.find() as api:

        def read() -> list[dict[str, Any]]:
            page = api.get("/api/workflow-executions/", status=status, namespace=namespace, limit=limit)
            stale = {row["key"]: row["reason"] for row in api.get("/api/runs/stale/") if row["kind"] == "execution"}
            found: list[dict[str, Any]] = page["results"]
            return [{**row, "stale": stale.get(row["execution_id"])} for row in found]

        show(read, _executions, watch=watch, as_json=as_json)


def _runs(rows: list[dict[str, Any]]) -> "Table":
    columns = ("Run", "State", "Began", "Ended", "Took", "Slices", "Done", "Failed")
    shown = []
    for row in rows:
        state = row["state"] or {}
        counters = (state.get(f"slices_{each}") for each in ("created", "completed", "failed"))
        began, ended = row["start_time"], row["end_time"]
        shown.append((row["run_number"], _state(state), clock(began), clock(ended), duration(began, ended), *counters))
    return table(columns, shown, empty="no runs")


def _run(found: dict[str, Any], lines: int) -> "Group":
    from rich.console import Group

    report, timeline = found["report"], found["timeline"]
    stfs, latency = report["stf_files"], report["stf_files"]["seconds_to_processed"]
    figures = [
        ("state", _state(found["state"] or {})),
        ("began", clock(report["start_time"])),
        ("took", duration(report["start_time"], report["end_time"]) or "goes on"),
        ("STF files", f"{stfs['count']} ({_counts(stfs['by_status'])})"),
        ("bytes", f"{stfs['bytes']:,}"),
        ("files a second", _figure(stfs["files_per_second"])),
        ("seconds until processed", f"{_figure(latency['p50'])} (p95 {_figure(latency['p95'])})"),
        ("TF files", f"{report['tf_files']['count']} ({_counts(report['tf_files']['by_status'])})"),
        ("slices", f"{report['slices']['count']} ({_counts(report['slices']['by_status'])})"),
        ("failures", report["failures"]),
    ]
    shown = [(clock(each["at"]), each["kind"], each["what"], each["name"], each["by"]) for each in timeline[-lines:]]
    left = len(timeline) - len(shown)
    return Group(
        table(("Run", str(report["run_number"])), figures),
        table(
            ("At", "What", "", "Name", "By"), shown, title=f"{left} earlier lines" if left else "", empty="nothing yet"
        ),
    )


def _executions(rows: list[dict[str, Any]]) -> "Table":
    columns = ("Execution", "Namespace", "Status", "By", "Began", "Took", "Stale")
    shown = [
        (
            row["execution_id"],
            row["namespace"],
            row["status"],
            row["executed_by"],
            clock(row["start_time"]),
            duration(row["start_time"], row["end_time"]),
            row["stale"],
        )
        for row in rows
    ]
    return table(columns, shown, empty="no executions")


def _state(state: dict[str, Any]) -> str:
    return "/".join(state[name] for name in ("phase", "state", "substate") if state.get(name))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items())) or "none"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}"
