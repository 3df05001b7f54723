"""``droidmace bench``: how fast a model is on a phone, and whether that has changed."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from droidmace.cli.emulate import EmulateCommand, EmulateOption
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
from droidmace.cli.phones import one_phone, requests_of
from droidmace.config import load_deployment
from droidmace.errors import EXIT_FAILED, InputError
from droidmace.files import write_atomically
from droidmace.report.bench_view import bench_view, comparison_view
from droidmace.report.phases import PhaseReporter
from droidmace.results.bench import BenchComparison, BenchResult, CurrentUnit
from droidmace.workflows.bench import bench
from droidmace.workflows.bench_compare import (
    FEWEST_SAMPLES,
    TOLERANCE,
    BenchRecord,
    Difference,
    compare,
    read_bench,
)
from droidmace.workflows.bench_request import BenchRequest, BenchSettings, check_request

_DEFAULTS = BenchSettings()


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command("bench", cls=EmulateCommand, no_args_is_help=True)(bench_command)


def bench_command(
    config: MaybeConfigOption = None,
    serial: SerialOption = None,
    emulate: EmulateOption = 0,
    profile: ProfileOption = None,
    driver: DriverOption = None,
    model: ModelOption = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle", help="Run with what this bundle ships: compiled program and parameters."
        ),
    ] = None,
    mace_run: MaceRunOption = None,
    mace_root: MaceRootOption = None,
    processes: Annotated[
        int, typer.Option("--processes", min=1, max=1000, help="Fresh processes: the samples.")
    ] = _DEFAULTS.processes,
    rounds: Annotated[
        int | None,
        typer.Option(
            "--rounds",
            min=1,
            max=10_000_000,
            help="Inferences that a sample averages. [default: the other session's with "
            "--compare, else the deployment file's]",
            show_default=False,
        ),
    ] = None,
    cold_runs: Annotated[
        int,
        typer.Option("--cold-runs", min=0, max=1000, help="Starts without any compiled program."),
    ] = _DEFAULTS.cold_runs,
    singles: Annotated[
        int,
        typer.Option(
            "--singles",
            min=0,
            max=1000,
            help="Single inferences to time, each in an engine of its own.",
        ),
    ] = _DEFAULTS.singles,
    ops: Annotated[bool, typer.Option("--ops/--no-ops", help="Time of each op, and MACs.")] = True,
    memory: Annotated[
        bool, typer.Option("--memory/--no-memory", help="Peak memory of a process.")
    ] = True,
    energy: Annotated[
        bool,
        typer.Option(
            "--energy",
            help="Energy of an inference, from the battery: takes 50 s, and a phone that is not "
            "charged meanwhile (adb over Wi-Fi).",
        ),
    ] = False,
    current_unit: Annotated[
        CurrentUnit,
        typer.Option("--current-unit", help="What the phone's current_now counts."),
    ] = CurrentUnit.AUTO,
    pin: PinOption = True,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the result into this file (JSON).")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--compare", metavar="FILE", help="An earlier result to compare with."),
    ] = None,
    result: Annotated[
        Path | None,
        typer.Option(
            "--result", metavar="FILE", help="With --compare: no phone, take this result instead."
        ),
    ] = None,
    tolerance: Annotated[
        float,
        typer.Option(
            "--tolerance",
            min=0.0,
            max=50.0,
            metavar="PERCENT",
            help="Smaller changes do not count.",
        ),
    ] = 100 * TOLERANCE,
    allow_different: Annotated[
        list[Difference] | None,
        typer.Option("--allow-different", help="What may differ from the other session."),
    ] = None,
    gate: Annotated[
        bool,
        typer.Option(
            "--gate",
            help="With --compare: exit with 1 if a figure got slower. It judges by the scatter "
            "within the two sessions; a phone that changed between them is not told from a model "
            "that did.",
        ),
    ] = False,
    adb_port: AdbPortOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a model on a phone: start-up, latency, ops, memory, energy.

    Every figure comes from fresh mace_run processes. With --compare it says of each figure whether
    it is faster, slower, or no difference is shown.

    Exit code 0: done. 1: with --gate, a figure got slower. 2: an error.
    """
    if against is None:
        for option, is_given in (("--gate", gate), ("--allow-different", bool(allow_different)),
                                 ("--result", result is not None)):  # fmt: skip
            if is_given:
                raise InputError(
                    f"{option} needs something to compare with", hint="add --compare FILE"
                )
    other = read_bench(against) if against is not None else None
    meant = tuple(allow_different or ())
    if other is not None and result is not None:
        if out is not None:
            raise InputError(
                "--result and --out exclude each other: nothing is measured",
                hint="leave out --out; --json prints the comparison",
            )
        if serial is not None or emulate:
            raise InputError(
                "--result and a phone exclude each other",
                hint="leave out --result to measure, or --serial and --emulate to compare files",
            )
        later = read_bench(result)
        if gate:
            _check_samples(other, len(later.figures["latency_ms"]), later.where)
        comparison = compare(other, later, tolerance=tolerance / 100, meant=meant)
        _show_comparison(comparison, as_json=as_json)
        _judge(comparison, gate=gate)
        return
    if other is not None and gate:
        _check_samples(other, processes, "this session")
    if config is None:
        raise InputError("say what to measure", hint="add -c FILE, a deployment file (YAML)")
    deployment = load_deployment(config)
    if rounds is None:
        rounds = _rounds_of(other) or deployment.tune.rounds
    settings = BenchSettings(
        rounds=rounds,
        processes=processes,
        cold_runs=cold_runs,
        singles=singles,
        profile=ops,
        memory=memory,
        energy=energy,
        current_unit=current_unit,
        pin_governors=pin,
        timeout_s=deployment.tune.timeout_s,
    )
    phone_request = requests_of(deployment, model, mace_run, mace_root)

    def request(one: str, port: int | None) -> BenchRequest:
        return BenchRequest(
            phone=phone_request(one, port),
            settings=settings,
            bundle=bundle,
            against=other,
            tolerance=tolerance / 100,
            meant=meant,
        )

    # Once, before any phone is started or asked.
    check_request(request(serial or "", adb_port))
    if out is not None and not out.parent.is_dir():
        raise InputError("no such folder", where=str(out.parent), hint="make it, or check --out")
    if out is not None and out.is_dir():
        raise InputError("is a folder", where=str(out), hint="--out names a file")
    console = Console(stderr=as_json)
    with contextlib.ExitStack() as stack:
        one, port = stack.enter_context(
            one_phone(serial, emulate=emulate, profile=profile, driver=driver, adb_port=adb_port)
        )
        reporter = stack.enter_context(PhaseReporter(console))
        found = bench(request(one, port), reporter)
    # Shown first: a disk that is full by now does not take the result along.
    if as_json:
        typer.echo(json.dumps(found.as_document(), indent=2))
    else:
        Console().print(bench_view(found))
    if out is not None:
        _write(found, out)
    if found.comparison is not None:
        _judge(found.comparison, gate=gate)


def _check_samples(other: BenchRecord, count: int, where: str) -> None:
    """Refuse a gate that no latency could fail, as there are too few samples for a verdict."""
    for samples, of in ((len(other.figures["latency_ms"]), other.where), (count, where)):
        if samples < FEWEST_SAMPLES:
            raise InputError(
                f"--gate cannot judge: {samples} of at least {FEWEST_SAMPLES} processes",
                where=of,
                hint=f"measure with --processes {FEWEST_SAMPLES} or more, better 10",
            )


def _rounds_of(other: BenchRecord | None) -> int | None:
    """How many inferences the other session's samples average."""
    text = other.identity.get("rounds", "") if other is not None else ""
    return int(text) if text.isdigit() and 0 < int(text) <= 10_000_000 else None


def _write(result: BenchResult, path: Path) -> None:
    try:
        write_atomically(path, (json.dumps(result.as_document(), indent=2) + "\n").encode())
    except OSError as error:
        raise InputError(
            f"cannot be written: {error.strerror or error}", where=str(path), hint="check --out"
        ) from error


def _show_comparison(comparison: BenchComparison, *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(comparison.as_document(), indent=2))
    else:
        Console().print(comparison_view(comparison))


def _judge(comparison: BenchComparison, *, gate: bool) -> None:
    if not gate or not comparison.slower:
        return
    Console(stderr=True).print(
        f"gate: slower than {comparison.against}: {', '.join(comparison.slower)}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    raise typer.Exit(EXIT_FAILED)
