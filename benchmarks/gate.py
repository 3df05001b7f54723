"""Does the ship gate give the right verdict? Planted cases through the whole ``droidmace tune``.

    python benchmarks/gate.py --seeds 2        a look, some five minutes
    python benchmarks/gate.py                  20 seeds of each case; writes results/DATE-gate.json
    python benchmarks/gate.py --simulate 1000  the rule for latency alone, on simulated phones: how
                                               small a gain it finds at which scatter

Every run tunes on an emulated phone behind the real adb server, with a ``mace_run`` whose times and
answers are planned (tests/planted): what tuning is worth is known, and the noise is that of phones.
Nothing is measured here, so a busy machine changes how long it takes and nothing else.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import datetime
import itertools
import json
import os
import queue
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from lab import private_phones  # noqa: E402
from machine import describe_machine  # noqa: E402

from droidmace.emulator import manager  # noqa: E402
from droidmace.tuning.latency import BlockRules, LatencyEvidence, compare_latency  # noqa: E402
from droidmace.tuning.sequential import Finding  # noqa: E402
from tests.planted.cases import CASES, Case, Outcome, tune_planted  # noqa: E402
from tests.planted.plan import Plan  # noqa: E402
from tests.planted.planted_mace_run import latency_ms  # noqa: E402

ERROR = "error"
GAINS = (0.05, 0.03, 0.02, 0.015, 0.01, 0.0)
SCATTERS = (0.006, 0.012, 0.025)
"""Of a process's average latency, as a share of 1."""


def main() -> None:
    """See the module's docstring."""
    arguments = _arguments()
    if arguments.simulate:
        print(_sensitivity(arguments.simulate))
        return
    cases = [case for case in CASES if case.name.startswith(tuple(arguments.cases or ("",)))]
    if not cases:
        sys.exit(f"error: no such case; there are: {', '.join(case.name for case in CASES)}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    began_s = time.monotonic()
    with private_phones():
        runs = _run_all(cases, range(arguments.first, arguments.first + arguments.seeds), arguments)
    document = {
        "benchmark": "gate",
        "machine": describe_machine(),
        "seeds": arguments.seeds,
        "wall_s": round(time.monotonic() - began_s, 1),
        "cases": [_summary(case, runs) for case in cases],
        "runs": runs,
    }
    today = datetime.datetime.now(datetime.UTC).date()
    path = arguments.out or HERE / "results" / f"{today}-gate.json"
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(_table(document["cases"]))
    print(f"{len(runs)} runs in {document['wall_s']:.0f} s: {path}")


def _run_all(
    cases: Sequence[Case], seeds: Sequence[int], arguments: argparse.Namespace
) -> list[dict[str, Any]]:
    """All seeds of all cases, shared out among phones."""
    waiting: queue.SimpleQueue[tuple[Case, int]] = queue.SimpleQueue()
    for seed in seeds:
        for case in cases:
            waiting.put((case, seed))
    runs: list[dict[str, Any]] = []

    def work(number: int) -> None:
        phone = manager.start_phone(f"gate{number}", ("adreno", "mali")[number % 2])
        try:
            while True:
                try:
                    case, seed = waiting.get_nowait()
                except queue.Empty:
                    return
                with tempfile.TemporaryDirectory(prefix="gate-run-") as folder:
                    one = _run(case, seed, phone.serial, Path(folder))
                runs.append(one)
                mark = "" if one["right"] else "   <-- wrong"
                print(f"{seed:3} {case.name}: {one['verdict']}{mark}", file=sys.stderr, flush=True)
        finally:
            manager.stop_phone(phone.name)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(arguments.phones)]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        # Interrupted: what is under way ends, so that no phone is left running.
        with contextlib.suppress(queue.Empty):
            while True:
                waiting.get_nowait()
        for thread in threads:
            thread.join()
    order = {case.name: place for place, case in enumerate(cases)}
    return sorted(runs, key=lambda run: (order[run["case"]], run["seed"]))


def _run(case: Case, seed: int, serial: str, folder: Path) -> dict[str, Any]:
    run: dict[str, Any] = {"case": case.name, "seed": seed}
    try:
        outcome = tune_planted(
            case,
            seed,
            serial=serial,
            environment=os.environ,
            folder=folder,
            arguments=("--gate",),
        )
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        return run | {"verdict": ERROR, "right": False, "error": str(error)[-2000:]}
    return run | _found(case, outcome)


def _found(case: Case, outcome: Outcome) -> dict[str, Any]:
    document = outcome.document
    blocks = document["raw_samples"]["latency_blocks"]
    return {
        "verdict": outcome.verdict,
        "right": outcome.verdict in case.right and outcome.exit_status == case.gate_exit,
        "exit_status": outcome.exit_status,
        "wall_s": round(outcome.wall_s, 1),
        "latency_ratio": document["latency_ratio"],
        "startup_ratio": document["startup_ratio"],
        "block_ratios": [round(one["ratio"], 4) for one in blocks if not one["thrown_out"]],
        "thrown_out": [one["thrown_out"] for one in blocks if one["thrown_out"]],
        "reasons": document["reasons"],
    }


def _summary(case: Case, runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    mine = [run for run in runs if run["case"] == case.name]
    whole = [run for run in mine if run["verdict"] != ERROR]
    blocks = [len(run["block_ratios"]) for run in whole]
    return {
        "case": case.name,
        "planted": dict(case.plan),
        "wanted": list(case.right),
        "verdicts": dict(Counter(run["verdict"] for run in mine)),
        "right": sum(run["right"] for run in mine),
        "of": len(mine),
        "blocks_median": statistics.median(blocks) if blocks else None,
        "blocks_most": max(blocks, default=None),
        "thrown_out": sum(len(run["thrown_out"]) for run in whole),
    }


def _table(cases: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| case | wanted | right | other verdicts | blocks, median (most) | thrown out |",
        "|---|---|---|---|---|---|",
    ]
    for one in cases:
        others = {
            word: count for word, count in one["verdicts"].items() if word not in one["wanted"]
        }
        lines.append(
            f"| {one['case']} | {', '.join(one['wanted'])} | {one['right']} of {one['of']} | "
            + (", ".join(f"{word} {count}" for word, count in others.items()) or "none")
            + f" | {one['blocks_median']:g} ({one['blocks_most']}) | {one['thrown_out']} |"
        )
    return "\n".join(lines)


def _sensitivity(phones: int) -> str:
    """A row per scatter, a column per true gain: share of runs that prove a gain, median blocks."""
    lines = [
        "| scatter | " + " | ".join(f"{gain:.1%}" for gain in GAINS) + " |",
        "|---" * (len(GAINS) + 1) + "|",
    ]
    for scatter in SCATTERS:
        cells = []
        for gain in GAINS:
            found = [
                _simulated(Plan(seed=seed, tuned_factor=1.0 - gain, process_sigma=scatter))
                for seed in range(phones)
            ]
            share = sum(one.finding is Finding.GAIN for one in found) / phones
            blocks = statistics.median(one.ratio.pairs for one in found)
            cells.append(f"{share:.1%} ({blocks:g})")
        lines.append(f"| {scatter:.1%} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _simulated(plan: Plan) -> LatencyEvidence:
    planned, numbers = dataclasses.asdict(plan), itertools.count()

    def run_ms(is_tuned: bool) -> float:
        return latency_ms(planned, next(numbers), is_tuned)

    return compare_latency(run_ms, BlockRules(), lot=random.Random(plan.seed))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=20, help="runs of each case (20)")
    parser.add_argument("--first", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--phones", type=int, default=2, help="phones at work (2)")
    parser.add_argument("--cases", nargs="*", metavar="NAME", help="beginnings of their names")
    parser.add_argument("--simulate", type=int, metavar="PHONES", help="no phone: see above")
    parser.add_argument("--out", type=Path, help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
