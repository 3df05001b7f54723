"""Runs a search on a phone as a program of its own, so that it can be killed like one.

    python search_entry.py JSON

with serial, config, journal, kind, and optionally evaluations, budget_s, repeats, mace_run. Prints
a line of JSON for each note of progress, and last one with what came out.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from droidmace.config import SearchConfig, SearchKind, load_deployment
from droidmace.devices.adb import AdbDevice
from droidmace.devices.lock import DeviceLock
from droidmace.devices.probe import probe
from droidmace.devices.select import find_device
from droidmace.errors import DroidmaceError
from droidmace.macerun.session import DEFAULT_ROOT, MaceRunSession
from droidmace.tuning.journal import Journal
from droidmace.workflows.binaries import choose_binary
from droidmace.workflows.measure import Layout, base_invocation
from droidmace.workflows.models import find_model_files
from droidmace.workflows.samples import load_samples
from droidmace.workflows.search import SearchTarget, run_search_on_phone
from droidmace.workflows.staging import push


def say(**document: object) -> None:
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def prepare(device: AdbDevice, config: Path, mace_run: Path | None = None) -> SearchTarget:
    """Bring the phone what a search needs."""
    deployment = load_deployment(config)
    model = next(iter(deployment.models.values()))
    report = probe(device)
    binary = choose_binary(
        device.serial,
        report.abis,
        report.emulated_engine or None,
        deployment,
        mace_run=mace_run,
    )
    layout = Layout(DEFAULT_ROOT, binary.on_device or f"{DEFAULT_ROOT}/mace_run", model.name)
    base = base_invocation(layout, model)
    samples = load_samples(deployment, model, 1)
    files = find_model_files(deployment, model)
    push(device, layout, binary, base, files, samples, lambda *_: None)
    session = MaceRunSession(device, layout.root)
    return SearchTarget(device, session, layout, base, timeout_s=120.0)


def main(task: dict[str, Any]) -> None:
    device = find_device(task["serial"], None)
    search = SearchConfig(
        kind=SearchKind(task["kind"]),
        budget_s=task.get("budget_s"),
        evaluations=task.get("evaluations"),
        repeats=task.get("repeats", 1),
    )
    own = task.get("mace_run")
    with DeviceLock(device):
        target = prepare(device, Path(task["config"]), Path(own) if own else None)
        identity = {"model": target.base.model_name, "device_name": probe(device).device_name}
        with Journal.open(Path(task["journal"]), identity) as journal:
            say(searching=True)
            outcome = run_search_on_phone(
                target, search, journal, lambda text, done, total: say(text=text)
            )
    say(
        entries={key: list(values) for key, values in outcome.entries.items()},
        readable=sorted(outcome.readable),
        summary=outcome.summary.as_document() if outcome.summary else None,
        tuning_s=outcome.tuning_s,
        notes=list(outcome.notes),
    )


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]))
    except DroidmaceError as error:
        say(error=type(error).__name__, message=str(error), details=error.details)
        sys.exit(2)
