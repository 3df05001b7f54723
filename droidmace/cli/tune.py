"""``droidmace tune``: the main job, on one phone, all of them, or emulated ones."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from droidmace.cli.emulate import EmulateCommand, EmulateSeveralOption
from droidmace.cli.options import (
    AdbPortOption,
    DriverOption,
    JsonOption,
    MaceRootOption,
    MaceRunOption,
    MaybeConfigOption,
    ModelOption,
    PinOption,
    ProfileOption,
    SerialOption,
)
from droidmace.cli.phones import (
    DEFAULT_PROFILE,
    check_choice,
    emulated,
    named_phone,
    requests_of,
    usable_serials,
)
from droidmace.cli.replay import STRATEGIES, show_replay
from droidmace.cli.search_options import search_settings
from droidmace.config import SearchKind, load_deployment
from droidmace.config.search import MAX_EVALUATIONS, MAX_REPEATS
from droidmace.errors import EXIT_FAILED, InputError
from droidmace.report.curve import best_so_far_svg
from droidmace.report.phases import PhaseReporter
from droidmace.report.tune_view import failure_view, result_view, summary_view
from droidmace.results import TuneFailure, TuneResult
from droidmace.workflows.tune import tune
from droidmace.workflows.tune_many import tune_many
from droidmace.workflows.tune_request import TuneRequest, check_request

DEFAULT_OUT = Path("out")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("tune", cls=EmulateCommand, no_args_is_help=True)(tune_command)


def tune_command(
    config: MaybeConfigOption = None,
    serial: SerialOption = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every usable phone, all at the same time.")
    ] = False,
    emulate: EmulateSeveralOption = 0,
    profile: ProfileOption = None,
    driver: DriverOption = None,
    model: ModelOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the bundles.")] = DEFAULT_OUT,
    mace_run: MaceRunOption = None,
    mace_root: MaceRootOption = None,
    search: Annotated[
        SearchKind | None,
        typer.Option(
            "--search",
            help="Who looks for work-group sizes: mace, the phone's own tuner alone; fast, the "
            "host in no more time than that; deep, the host until the budget is spent; exhaustive, "
            "every legal size. [default: mace]",
            show_default=False,
        ),
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="Time for the search: 90s, 10m, 1h30m."),
    ] = None,
    evaluations: Annotated[
        int | None,
        typer.Option(
            "--evaluations",
            min=1,
            max=MAX_EVALUATIONS,
            help="Sizes to try at most, counted per kernel.",
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            "--repeats",
            min=1,
            max=MAX_REPEATS,
            help="Independent searches that vote on every kernel. [default: 1]",
            show_default=False,
        ),
    ] = None,
    fresh: Annotated[
        bool,
        typer.Option("--fresh", help="Begin anew instead of going on with a broken-off search."),
    ] = False,
    replay: Annotated[
        Path | None,
        typer.Option(
            "--replay",
            metavar="JOURNAL",
            help="No phone: let a strategy search the measurements of a journal or bundle.",
        ),
    ] = None,
    strategy: Annotated[
        str | None,
        typer.Option(
            "--strategy",
            help=f"With --replay: {', '.join(STRATEGIES[:-1])} or {STRATEGIES[-1]}. "
            "[default: guided]",
            show_default=False,
        ),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="Exit with 1 unless every verdict is one that the file's gate accepts. "
            "[default there: ship, params-only, program-only]",
        ),
    ] = False,
    pin: PinOption = True,
    rounds: Annotated[
        int | None, typer.Option("--rounds", min=1, help="Inferences per latency process.")
    ] = None,
    blocks: Annotated[
        int | None,
        typer.Option("--blocks", min=1, help="Blocks of four latency processes at most."),
    ] = None,
    startup_runs: Annotated[
        int | None,
        typer.Option("--startup-runs", min=1, help="Pairs of cold and warm starts."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Labelled images to use at most.")
    ] = None,
    adb_port: AdbPortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tune a model's OpenCL kernels on a phone, prove the gain, and write a bundle.

    The phone compiles and tunes; droidmace pulls the compiled program and the tuned parameters,
    loads them in a fresh process, measures start-up in pairs and latency in blocks of fresh
    processes, and holds the answers against a reference.

    Exit code 0: done. 1: some or all of several phones failed, or --gate is not satisfied.
    2: an error.
    """
    if replay is not None:
        show_replay(
            replay, strategy, evaluations=evaluations, repeats=repeats or 1, as_json=as_json
        )
        return
    if strategy is not None:
        raise InputError("--strategy is for --replay", hint="a phone is searched with --search")
    check_choice(serial, every=every, emulate=emulate)
    if not emulate and (profile or driver):
        raise InputError(
            "--profile and --driver are for the phones that --emulate starts",
            hint="add --emulate, or leave them out",
        )
    if config is None:
        raise InputError("say what to tune", hint="add -c FILE, a deployment file (YAML)")
    deployment = load_deployment(config)
    settings = search_settings(deployment.search, search, budget, evaluations, repeats)
    overrides = {
        name: value
        for name, value in (
            ("rounds", rounds),
            ("blocks", blocks),
            ("startup_runs", startup_runs),
        )
        if value is not None
    }
    phone_request = requests_of(deployment, model, mace_run, mace_root)

    def request(one: str, port: int | None) -> TuneRequest:
        return TuneRequest(
            phone=phone_request(one, port),
            out_dir=out,
            overrides=overrides,
            search=settings,
            fresh=fresh,
            pin_governors=pin,
            draw=best_so_far_svg,
            image_limit=limit,
        )

    # Once, before any phone is started or asked.
    cargo = check_request(request(serial or "", adb_port))
    console = Console(stderr=as_json)
    with contextlib.ExitStack() as stack:
        port = adb_port
        if emulate:
            serials, port = stack.enter_context(
                emulated(emulate, profile or DEFAULT_PROFILE, driver, adb_port)
            )
        elif serial is not None:
            one, port = named_phone(serial, adb_port)
            serials = [one]
        else:
            serials = usable_serials(adb_port, console)
        reporter = stack.enter_context(PhaseReporter(console))
        requests = [request(one, port) for one in serials]
        outcomes: list[TuneResult | TuneFailure]
        single = len(requests) == 1 and not every
        try:
            if single:
                outcomes = [tune(requests[0], reporter, cargo=cargo)]
            else:
                del cargo  # each phone's process reads its own
                outcomes = tune_many(requests, reporter)
        except (KeyboardInterrupt, SystemExit) as interrupt:
            # What was kept of the work, if anything was; SystemExit is SIGTERM or SIGHUP.
            for kept in getattr(interrupt, "__notes__", ()):
                console.print(f"interrupted: {kept}", markup=False, soft_wrap=True)
            raise
    _show(outcomes, as_json=as_json, single=single)
    if any(isinstance(outcome, TuneFailure) for outcome in outcomes):
        raise typer.Exit(EXIT_FAILED)
    refused = [
        outcome
        for outcome in outcomes
        if isinstance(outcome, TuneResult) and outcome.verdict not in deployment.gate.accept
    ]
    if gate and refused:
        accepted = ", ".join(deployment.gate.accept)
        for outcome in refused:
            Console(stderr=True).print(
                f"gate: {outcome.device.serial} got {outcome.verdict}, accepted are {accepted}",
                markup=False,
                highlight=False,
                soft_wrap=True,
            )
        raise typer.Exit(EXIT_FAILED)


def _show(outcomes: list[TuneResult | TuneFailure], *, as_json: bool, single: bool) -> None:
    if as_json:
        documents = [outcome.as_document() for outcome in outcomes]
        typer.echo(json.dumps(documents[0] if single else documents, indent=2))
        return
    console = Console()
    if single:
        assert isinstance(outcomes[0], TuneResult)
        console.print(result_view(outcomes[0]))
        return
    console.print(summary_view(outcomes), soft_wrap=True)
    for outcome in outcomes:
        if isinstance(outcome, TuneFailure):
            console.print(failure_view(outcome), soft_wrap=True)
