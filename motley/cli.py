"""The `motley` command; the only place where exceptions become exit codes."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import click
import typer

from motley import __version__
from motley.account_commands import DEFAULT_JOURNAL, JsonFile, ProjectOption, accounts, providers
from motley.errors import MotleyError

DEFAULT_FLEET = Path("config/fleet.yaml")
DEFAULT_COMPOSE = Path("docker-compose.yml")
DEFAULT_RUNS = Path("runs")
DEFAULT_POLICIES = "random,over_commit,oort,fedbuff,adaptive"
DEFAULT_SUITE = Path("config/fleets/suite")

app = typer.Typer(
    help="Federated learning on a motley crew of devices.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

FleetArgument = Annotated[Path, typer.Argument(metavar="FLEET", help="The fleet file.")]
FleetOption = Annotated[Path, typer.Option(help="The fleet file.")]
ComposeFile = Annotated[Path, typer.Option("--file", help="The compose file.")]
EngineOption = Annotated[
    Literal["grouped", "sequential", "ray"], typer.Option(help="How the training itself is computed.")
]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"motley {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say it.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Options of all commands."""


@app.command()
def compose(
    fleet: FleetOption = DEFAULT_FLEET,
    output: Annotated[Path, typer.Option(help="The compose file to write.")] = DEFAULT_COMPOSE,
    preset: Annotated[str | None, typer.Option(help="Use this preset's device classes.")] = None,
    total_clients: Annotated[int | None, typer.Option(help="Devices in all, in the file's proportions.")] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds, in place of the file's.")] = None,
    random: Annotated[bool, typer.Option("--random", help="Draw the devices from the classes.")] = False,
    seed: Annotated[int | None, typer.Option(help="Seed of --random; the fleet's own if not given.")] = None,
    fit_host: Annotated[bool, typer.Option("--fit-host", help="Scale all CPU quotas to the host's cores.")] = False,
    host_cores: Annotated[int | None, typer.Option(min=1, help="Cores of the host, if not this one.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Write nothing; say whether the file is current.")] = False,
) -> None:
    """Write the Docker Compose file of a fleet."""
    from motley.deployment import Options, deploy

    asked = Options(fleet, output, preset, total_clients, rounds, random, seed, fit_host, host_cores)
    deployment = deploy(asked)
    for warning in deployment.warnings:
        typer.echo(f"warning: {warning}", err=True)
    if check:
        outdated = deployment.outdated()
        for path in outdated:
            typer.echo(f"{path} is not current; write it with the same options, without --check", err=True)
        if outdated:
            raise typer.Exit(1)
        typer.echo(f"{output} is current")
        return
    deployment.write()
    made = deployment.fleet
    typer.echo(f"{output}: {made.total_devices} devices and the server, {made.total_cpus:g} cores in all")


@app.command()
def run(
    fleet: Annotated[
        Path | None, typer.Argument(metavar="FLEET", help="The fleet file.", show_default=str(DEFAULT_FLEET))
    ] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=100_000, help="Rounds, in place of the file's.")] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Where runs are kept.")] = DEFAULT_RUNS,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with the run kept here.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Train a fleet on this machine without Docker: the same apps as processes, without hard limits."""
    from motley.running import resume_locally, run_locally

    if resume is None:
        run_locally(fleet or DEFAULT_FLEET, rounds, directory, json_file)
    else:
        resume_locally(resume, fleet, rounds, json_file)


@app.command()
def simulate(
    fleet: FleetArgument = DEFAULT_FLEET,
    policy: Annotated[str | None, typer.Option(help="Policy, in place of the file's.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Seed, in place of the file's.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, max=100_000, help="Rounds, in place of the file's.")] = None,
    engine: EngineOption = "grouped",
    processes: Annotated[int, typer.Option(min=1, max=1024, help="Processes to train in.")] = 1,
    directory: Annotated[Path, typer.Option("--dir", help="Where runs are kept.")] = DEFAULT_RUNS,
    resume: Annotated[Path | None, typer.Option(metavar="DIR", help="Go on with the run kept here.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Train a fleet on a virtual clock: any number of devices, of any speed, on this machine."""
    from motley.simulating import Request, run_simulation

    run_simulation(Request(fleet, policy, seed, rounds, engine, processes, directory, resume, json_file))


@app.command()
def compare(
    fleets: Annotated[list[Path] | None, typer.Argument(metavar="FLEET...", help="The fleet files.")] = None,
    policies: Annotated[str, typer.Option(help="Policies, with commas between them, or 'all'.")] = DEFAULT_POLICIES,
    seeds: Annotated[str, typer.Option(help="How many ('5'), or which ones ('3,7,11'; '7,' for one).")] = "3",
    rounds: Annotated[int | None, typer.Option(min=1, max=100_000, help="Rounds of 'random'.")] = None,
    target: Annotated[
        float | None, typer.Option(min=0, max=1, help="Accuracy to reach; else 95 % of the best of 'random'.")
    ] = None,
    suite: Annotated[bool, typer.Option("--suite", help="All fleets of the suite.")] = False,
    suite_dir: Annotated[Path, typer.Option(help="Where the suite is.")] = DEFAULT_SUITE,
    out: Annotated[
        Path | None, typer.Option(help="Where page and figures go; a new place under runs/ if not given.")
    ] = None,
    processes: Annotated[
        int | None, typer.Option(min=1, max=1024, help="Runs at one time; one a core if not given.")
    ] = None,
    engine: EngineOption = "grouped",
    json_file: JsonFile = None,
) -> None:
    """Hold policies against each other: same fleets, same seeds, same virtual time."""
    from motley.comparing import run_comparison, suite_files
    from motley.comparison.request import Comparison

    paths = [*(fleets or []), *(suite_files(suite_dir) if suite or suite_dir != DEFAULT_SUITE else [])]
    asked = Comparison(paths or [DEFAULT_FLEET], policies, seeds, rounds, target, out, processes, engine, json_file)
    run_comparison(asked)


@app.command()
def plan(
    fleet: FleetArgument = DEFAULT_FLEET,
    objective: Annotated[
        str, typer.Option(help="time, dollars, energy, or weights: 'time=1,dollars=0.2' (of an hour, a dollar, a kWh).")
    ] = "time",
    max_dollars: Annotated[float | None, typer.Option(help="Most that a run may cost.")] = None,
    max_hours: Annotated[float | None, typer.Option(help="Most that a run may take.")] = None,
    max_energy: Annotated[float | None, typer.Option(metavar="WH", help="Most that a run may draw.")] = None,
    min_data: Annotated[
        float | None, typer.Option(min=0, max=1, help="Least share of the examples; as the file has it if not given.")
    ] = None,
    history: Annotated[Path | None, typer.Option(help="A run to learn from: its directory or history.db.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Estimate what a run costs in time, dollars and energy, and what other plans would. Trains nothing."""
    from motley.costing.command import Request
    from motley.costing.command import plan as show_plans

    show_plans(Request(fleet, objective, max_dollars, max_hours, max_energy, min_data, history, json_file))


@app.command()
def up(
    file: ComposeFile = DEFAULT_COMPOSE,
    services: Annotated[list[str] | None, typer.Argument(help="Just these services.")] = None,
) -> None:
    """Start the fleet in containers and follow the server's log to the end of the run."""
    from motley.containers import up as start

    start(file, services or [])


@app.command()
def scale(
    file: ComposeFile = DEFAULT_COMPOSE,
    project: ProjectOption = None,
    accounts: Annotated[Path | None, typer.Option(help="The accounts file; this host's engine if not given.")] = None,
    journal: Annotated[Path, typer.Option(help="The journal of launches.")] = DEFAULT_JOURNAL,
) -> None:
    """Add devices to the running fleet and take them away, as its file's section 'scaling' says."""
    from motley.growing.command import scale as grow

    grow(file, project, accounts, journal)


@app.command()
def down(
    file: ComposeFile = DEFAULT_COMPOSE,
    volumes: Annotated[bool, typer.Option("--volumes", "-v", help="Remove history and models too.")] = False,
) -> None:
    """Stop and remove the containers."""
    from motley.containers import down as stop

    stop(file, volumes)


@app.command()
def status(
    file: ComposeFile = DEFAULT_COMPOSE,
    state: Annotated[Path | None, typer.Option(help="Read this state directory, not the containers'.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Show the newest run: where it is, and what became of each device."""
    from motley.containers import show_status

    show_status(file, state, json_file)


@app.command()
def runs(
    directory: Annotated[Path, typer.Option("--dir", help="Where runs are kept.")] = DEFAULT_RUNS,
    everything: Annotated[bool, typer.Option("--all", help="Those that motley compare made, too.")] = False,
    json_file: JsonFile = None,
) -> None:
    """List the runs that are kept, on the virtual clock or not, newest first."""
    from motley.reporting.command import list_runs

    list_runs(directory, everything, json_file)


@app.command()
def report(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN [RUN]]", help="Name, id, directory or history.db; two to compare."),
    ] = None,
    directory: Annotated[Path, typer.Option("--dir", help="Where runs are kept.")] = DEFAULT_RUNS,
    form: Annotated[Literal["html", "md", "json", "csv"], typer.Option("--format", help="Of the report.")] = "html",
    table: Annotated[
        Literal["orders", "rounds", "devices", "classes", "outcomes", "reasons"] | None,
        typer.Option(help="Which one --format csv writes; the orders if not given."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; the run's report.html, or the terminal, if not given.")
    ] = None,
    from_compose: Annotated[bool, typer.Option("--compose", help="Of a fleet in containers.")] = False,
    file: Annotated[Path | None, typer.Option(help="Its compose file, if not docker-compose.yml.")] = None,
    project: Annotated[str | None, typer.Option(help="Its Compose project, in place of a file.")] = None,
) -> None:
    """Report on a run, or on two side by side: one page that opens offline, or Markdown, JSON, CSV."""
    from motley.reporting.command import Request
    from motley.reporting.command import report as write_report

    compose_file = file or (DEFAULT_COMPOSE if from_compose and project is None else None)
    write_report(Request(run or (), directory, form, table, out, compose_file, project))


@app.command()
def monitor(
    interval: Annotated[str, typer.Option(help="Between two samples: '500ms', or seconds.")] = "1s",
    duration: Annotated[str | None, typer.Option(help="How long: '30s', '5m'; else until Ctrl-C.")] = None,
    max_memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory limit: '512m'.")] = None,
    max_cpu_percent: Annotated[float | None, typer.Option(help="CPU limit, of the quota or of all cores.")] = None,
    max_gpu_memory: Annotated[str | None, typer.Option(metavar="SIZE", help="Memory limit of each GPU.")] = None,
    max_temp: Annotated[float | None, typer.Option(metavar="CELSIUS", help="Temperature limit.")] = None,
    max_power: Annotated[str | None, typer.Option(metavar="WATTS", help="Power limit: '15w'.")] = None,
    min_battery: Annotated[str | None, typer.Option(metavar="SHARE", help="Least charge: '20%'.")] = None,
    pid: Annotated[int | None, typer.Option(min=1, help="Watch this process and its descendants.")] = None,
    simulate_load: Annotated[bool, typer.Option("--simulate-load", help="Use real CPU and memory, governed.")] = False,
    strategy: Annotated[str | None, typer.Option(help="What governs it; dynamic if not given.")] = None,
    save: Annotated[Path | None, typer.Option(help="Write each sample here: .jsonl or .csv.")] = None,
    serve: Annotated[int | None, typer.Option(metavar="PORT", min=0, max=65535, help="Prometheus on loopback.")] = None,
    otel: Annotated[bool, typer.Option("--otel", help="Export over OTLP, as the OTEL_ variables say.")] = False,
    json_file: JsonFile = None,
) -> None:
    """Watch this machine or one process against limits; on a terminal live, else a line a sample."""
    from motley.watching.command import watch
    from motley.watching.request import Request

    watch(
        Request(
            interval,
            duration,
            max_memory,
            max_cpu_percent,
            max_gpu_memory,
            max_temp,
            max_power,
            min_battery,
            strategy,
            simulate_load,
            save,
            serve,
            otel,
            json_file,
            pid,
        )
    )


@app.command()
def doctor(
    fleet: FleetArgument = DEFAULT_FLEET,
    json_file: JsonFile = None,
) -> None:
    """Check whether this machine can run a fleet, and say what to do about what it lacks."""
    from motley.doctor import report

    if not report(fleet, json_file):
        raise typer.Exit(1)


app.add_typer(accounts, name="accounts")
app.add_typer(providers, name="providers")


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command; one line for what a user can act on, a traceback only with --debug."""
    given = list(sys.argv[1:] if argv is None else argv)
    arguments = [each for each in given if each != "--debug"]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(args=arguments, prog_name="motley", standalone_mode=False) or 0
    except click.exceptions.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = 130
    except Exception as error:
        if "--debug" in given:
            raise
        known = isinstance(error, MotleyError)
        typer.echo(f"motley: {error}" if known else f"motley: {type(error).__name__}: {error}; see --debug", err=True)
        code = error.exit_code if isinstance(error, MotleyError) else 1
    sys.exit(code)


if __name__ == "__main__":
    main()
