"""How fast thousands of images go through a phone: one process per image, and `droidmace validate`.

    python benchmarks/validation.py            minutes; writes results/DATE-validation.json
    python benchmarks/validation.py --repeats 1 --singles 5 --whole 1000    a look

README.md beside this file says what is measured and how.
"""

from __future__ import annotations

import argparse
import array
import dataclasses
import datetime
import gzip
import json
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT)]

from lab import private_phones  # noqa: E402
from machine import describe_machine  # noqa: E402

from droidmace.config import load_deployment  # noqa: E402
from droidmace.emulator import manager  # noqa: E402
from droidmace.emulator.adb_server import find_adb  # noqa: E402
from droidmace.macerun.invocation import Invocation  # noqa: E402
from droidmace.macerun.session import DEFAULT_ROOT  # noqa: E402
from droidmace.workflows.measure import Layout, base_invocation  # noqa: E402

CONFIG = ROOT / "configs" / "fashion_mnist.yml"
DATASETS = Path("/usr/share/datasets/fashion-mnist")
IMAGES = DATASETS / "t10k-images-idx3-ubyte.gz"
TRAIN_IMAGES = DATASETS / "train-images-idx3-ubyte.gz"
FEW = 1000
TIMEOUT_S = 600.0
_TABLE = re.compile(r"^time\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)\s*$", re.MULTILINE)
# What `wait4` counts: the largest resident set of one process, in KiB on Linux.
_MEASURED = (
    "import json, os, resource, subprocess, sys, time\n"
    "began = time.monotonic()\n"
    "code = subprocess.call([sys.executable, '-m', 'droidmace', *sys.argv[2:]])\n"
    "wall = time.monotonic() - began\n"
    "peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024\n"
    "open(sys.argv[1], 'w').write(json.dumps({'command_s': wall, 'peak_mib': peak}))\n"
    "sys.exit(code)\n"
)


def main() -> None:
    """See the module's docstring."""
    arguments = _arguments()
    if not IMAGES.is_file():
        sys.exit(f"error: {IMAGES} is not there: apt-get install dataset-fashion-mnist")
    before = describe_machine()
    with private_phones(), tempfile.TemporaryDirectory(prefix="validation-") as folder:
        # In memory: on ext4 a new file costs more for a minute after others were removed.
        phone = manager.start_phone("validation", "adreno", storage="2G")
        bench = _Bench(phone.serial, phone.adb_server_port, Path(folder))
        bench.validate(8, name="warm-up")  # brings model and program; compiles the kernels
        rounds = []
        for number in range(arguments.repeats):
            rounds.append(
                {
                    "single": bench.one_process_per_image(arguments.singles),
                    "compute": bench.compute(),
                    "validate": bench.validate(FEW, name=f"few-{number}"),
                }
            )
            print(json.dumps(rounds[-1]), file=sys.stderr, flush=True)
        whole = bench.validate(arguments.whole, name="whole")
        print(json.dumps(whole), file=sys.stderr, flush=True)
        # Beyond the test images: does the peak still grow?
        more = bench.validate(2 * arguments.whole, name="more", images=TRAIN_IMAGES)
        print(json.dumps(more), file=sys.stderr, flush=True)
    document = {
        "benchmark": "validation",
        "machine": before | {"load_after": os.getloadavg()},
        "net": "fashion_mnist",
        "driver": "intel",
        "images": {"few": FEW, "whole": arguments.whole},
        "summary": _summary(rounds, whole, more),
        "rounds": rounds,
        "whole": whole,
        "more": more,
    }
    today = datetime.datetime.now(datetime.UTC).date()
    path = arguments.out or HERE / "results" / f"{today}-validation.json"
    path.write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(json.dumps(document["summary"], indent=1))
    print(path)


class _Bench:
    """One phone, and the ways to run images on it."""

    def __init__(self, serial: str, port: int, folder: Path) -> None:
        self._serial = serial
        self._port = port
        self._folder = folder
        self._adb = [find_adb(), "-P", str(port), "-s", serial]
        model = load_deployment(CONFIG).models["fashion_mnist"]
        self._layout = Layout(DEFAULT_ROOT, self._engine(), model.name)
        self._base = base_invocation(self._layout, model)
        with gzip.open(IMAGES) as stream:
            stream.read(16)
            self._pixels = stream.read(28 * 28 * FEW)

    def one_process_per_image(self, count: int) -> dict[str, Any]:
        """The way of MACE's own tools, kept to what must be: input over, one process, output back.

        They push program and model again for every image as well, which is left out here.
        """
        local = self._folder / "input"
        (remote_input,) = self._base.input_paths()
        (remote_output,) = self._base.expected_outputs()
        command = self._shell(self._base, rounds=1)
        began_s = time.monotonic()
        for index in range(count):
            pixels = self._pixels[index * 784 : (index + 1) * 784]
            values = [pixel / 255 for pixel in pixels]
            local.write_bytes(_float32(values))
            self._run("push", str(local), remote_input)
            self._run("shell", command)
            self._run("pull", remote_output, str(self._folder / "output"))
        wall_s = time.monotonic() - began_s
        return {"images": count, "wall_s": wall_s, "images_per_s": count / wall_s}

    def compute(self) -> dict[str, Any]:
        """What the engine itself says: init, first warm-up, and the average of as many runs."""
        printed = self._run("shell", self._shell(self._base, rounds=FEW))
        found = _TABLE.search(printed)
        if found is None:
            sys.exit(f"error: mace_run printed no table:\n{printed[-2000:]}")
        _, init_ms, warmup_ms, run_avg_ms = map(float, found.groups())
        return {"init_ms": init_ms, "warmup_ms": warmup_ms, "run_avg_ms": run_avg_ms}

    def validate(self, count: int, *, name: str, images: Path = IMAGES) -> dict[str, Any]:
        """The whole command on the first ``count`` images, and what it says of itself."""
        notes = self._folder / f"{name}.json"
        labels = images.with_name(images.name.replace("images-idx3", "labels-idx1"))
        done = subprocess.run(
            [
                *(sys.executable, "-c", _MEASURED, str(notes)),
                *("validate", "--serial", self._serial, "--adb-port", str(self._port)),
                *("-c", str(CONFIG), "--dataset", str(images), "--labels", str(labels)),
                *("--limit", str(count), "--out", str(self._folder / name), "--json"),
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: validate ended with {done.returncode}:\n{done.stderr[-3000:]}")
        document = json.loads(done.stdout)
        # Ten classes and their confusions are of no interest here.
        document["classification"] |= {"classes": [], "confusions": []}
        return json.loads(notes.read_text()) | {"document": document}

    def _engine(self) -> str:
        return self._run("shell", "getprop ro.vendor.mace_run").strip()

    def _shell(self, invocation: Invocation, *, rounds: int) -> str:
        """A command line for the phone, with the compiled program that validating left there."""
        one = dataclasses.replace(
            invocation, rounds=rounds, storage_dir=self._layout.storage("validate")
        )
        variables = [f"{name}={value}" for name, value in one.environment().items()]
        folder = shlex.quote(DEFAULT_ROOT)
        return f"mkdir -p {folder}/input {folder}/output && cd {folder} && " + shlex.join(
            ["env", *variables, *one.argv()]
        )

    def _run(self, *arguments: str) -> str:
        done = subprocess.run(
            [*self._adb, *arguments],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode:
            sys.exit(f"error: adb {arguments[0]}: {done.stderr or done.stdout}")
        return done.stdout


def _summary(
    rounds: Sequence[dict[str, Any]], whole: dict[str, Any], more: dict[str, Any]
) -> dict[str, Any]:
    ratios, shares = [], []
    for one in rounds:
        run_s = one["validate"]["document"]["timings"]["wall_s"]
        rate = FEW / one["validate"]["command_s"]
        ratios.append(rate / one["single"]["images_per_s"])
        compute_s = FEW * one["compute"]["run_avg_ms"] / 1000
        init_s = one["compute"]["init_ms"] / 1000
        shares.append((run_s - init_s) / compute_s)
    return {
        "times_faster_than_one_process_per_image": _spread(ratios),
        "wall_less_one_init_by_compute": _spread(shares),
        "whole_command_s": whole["command_s"],
        "peak_mib": {
            "few": [one["validate"]["peak_mib"] for one in rounds],
            "whole": whole["peak_mib"],
            "more": more["peak_mib"],
        },
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def _float32(values: Sequence[float]) -> bytes:
    return array.array("f", values).tobytes()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5, help="rounds of all ways in turns (5)")
    parser.add_argument("--singles", type=int, default=20, help="images by one process each (20)")
    parser.add_argument("--whole", type=int, default=10_000, help="images of the long run (10000)")
    parser.add_argument("--out", type=Path, help="where the results go")
    return parser.parse_args()


if __name__ == "__main__":
    main()
