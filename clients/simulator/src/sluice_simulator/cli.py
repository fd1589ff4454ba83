"""``sluice simulate run``."""

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from sluice_core.cli import AsJson, Failure, console, data_directory, local, print_json, print_table

if TYPE_CHECKING:
    from sluice_simulator.roles.agent import Site
    from sluice_simulator.simulation import Simulation, Summary

__all__ = ["simulate"]

TOKEN_FILE = "admin-token"  # noqa: S105 - a file's name
# Where `sluice env` says that the door is.
STOMP_PORT = "61613"

simulate = typer.Typer(help="Play what happens at an experiment.", no_args_is_help=True)


@simulate.callback()
def _group() -> None:
    """Play what happens at an experiment."""


@simulate.command()
def run(
    stfs: Annotated[int | None, typer.Option(min=1, help="STF files of each period (default: 10).")] = None,
    periods: Annotated[int, typer.Option(min=1, help="Periods of physics.")] = 1,
    period: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds of each period, instead of a number of files.")
    ] = None,
    speed: Annotated[str, typer.Option(help="Simulated seconds in a real one, such as 100x.")] = "1x",
    tf: Annotated[int, typer.Option(min=1, max=1000, help="TF files of each STF file.")] = 7,
    slices: Annotated[
        int | None,
        typer.Option(min=1, max=10_000, help="Slices of each TF file; else one for two time frames of it."),
    ] = None,
    workers: Annotated[bool, typer.Option("--workers", help="Let workers answer the slices.")] = False,
    batches: Annotated[
        bool,
        typer.Option("--batches", help="Store many rows by one request, and count by increments; else as real agents."),
    ] = False,
    namespace: Annotated[str, typer.Option(help="Of the agents.")] = "simulation",
    daq: Annotated[
        list[str] | None,
        typer.Option("--daq", metavar="NAME=SECONDS", help="A duration such as stf_interval=1; may be repeated."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="The same samples again.")] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Take stop_workflow from /queue/workflow_control, which runners share.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Play a complete run: runner, data, fast monitoring and fast processing agents, by STOMP and HTTP.

    The platform is that of SWF_MONITOR_URL and SWF_API_TOKEN, the broker that of ACTIVEMQ_HOST and so on, as for real
    agents; without them it is the local `sluice up`. Ctrl-C stops the run. Exit code 1: not all is as it should be.
    """
    from sluice_simulator.errors import ApiError, BusAway
    from sluice_simulator.plan import Plan
    from sluice_simulator.simulation import Options, Simulation

    if stfs is not None and period is not None:
        raise Failure("a period ends with its last file or after a time: say --stfs or --period")
    files = None if period is not None else stfs or 10
    plan = Plan(files, periods, period or 0.0, tf, slices, _speed(speed), dict(map(_duration, daq or ())))
    site = _site(namespace, batches=batches)
    simulation = Simulation(site, plan, Options(workers=workers, controlled=control, seed=seed))
    try:
        summary = simulation.run() if as_json else _watched(simulation)
    except (ApiError, BusAway) as exc:
        raise Failure(str(exc)) from exc
    if as_json:
        print_json({**asdict(summary), "ok": summary.ok})
    else:
        _show(summary)
    if not summary.ok:
        raise typer.Exit(1)


def _speed(text: str) -> float:
    try:
        found = float(text.removesuffix("x"))
    except ValueError:
        found = 0.0
    if not 0 < found < float("inf"):
        raise Failure(f"{text!r} is no speed, such as 1x or 100x")
    return found


def _duration(text: str) -> tuple[str, float]:
    from sluice_simulator.plan import DAQ

    name, _, seconds = text.partition("=")
    try:
        found = float(seconds)
    except ValueError:
        found = -1.0
    if name not in DAQ or not 0 <= found < float("inf"):
        raise Failure(f"{text!r} is not NAME=SECONDS with a NAME out of {', '.join(DAQ)}")
    return name, found


def _site(namespace: str, *, batches: bool) -> "Site":
    """Find the platform and the broker.

    Raises
    ------
    Failure
        There is none.
    """
    import getpass

    from sluice_simulator.bus import Address
    from sluice_simulator.roles.agent import Site

    given = os.environ
    url = given.get("SWF_MONITOR_URL") or given.get("SLUICE_URL")
    token = given.get("SWF_API_TOKEN") or given.get("SLUICE_TOKEN")
    if not url:
        directory = data_directory()
        found = local(directory)
        if found is None:
            raise Failure(f"no `sluice up` runs with its data in {directory}: start one, or set SWF_MONITOR_URL")
        url = found["http"]
        token = token or (directory / TOKEN_FILE).read_text(encoding="utf-8").strip()
    try:
        port = int(given.get("ACTIVEMQ_PORT", STOMP_PORT))
    except ValueError:
        raise Failure("ACTIVEMQ_PORT is no number") from None
    ca = given.get("ACTIVEMQ_SSL_CA_CERTS", "")
    tls = given.get("ACTIVEMQ_USE_SSL", "").lower() == "true"
    if tls and not ca:
        raise Failure("ACTIVEMQ_USE_SSL needs ACTIVEMQ_SSL_CA_CERTS")
    broker = Address(
        given.get("ACTIVEMQ_HOST", "127.0.0.1"),
        port,
        given.get("ACTIVEMQ_USER", "admin"),
        given.get("ACTIVEMQ_PASSWORD") or token or "admin",
        ca if tls else "",
    )
    return Site(url, token, broker, namespace, getpass.getuser(), batches)


def _watched(simulation: "Simulation") -> "Summary":
    """Play the run behind a bar for each thing that is counted."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True)) as progress:
        bars = {name: progress.add_task(name.replace("_", " ")) for name in simulation.counts()}

        def draw(simulation: "Simulation") -> None:
            counts, total = simulation.counts(), simulation.total()
            for name, bar in bars.items():
                progress.update(bar, completed=counts[name], total=total[name])

        return simulation.run(draw)


def _show(summary: "Summary") -> None:
    title = f"Run {summary.run_number}, execution {summary.execution_id}, {summary.seconds:.1f} s"
    steps = [(f"{tick:.1f}", what) for what, tick in summary.ticks if what != "stf_gen"]
    print_table(["Simulated second", "What"], steps, title=title)
    print_table(["What", "Count"], [(name.replace("_", " "), str(count)) for name, count in summary.counts.items()])
    if summary.stopped:
        typer.echo("stopped")
    else:
        print_table(["", "As it should be"], [("yes" if ok else "NO", what) for what, ok in summary.checks.items()])
    for problem in summary.problems:
        typer.echo(problem, err=True)
