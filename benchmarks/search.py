"""How fast a search for local sizes gets near the best there is.

    python benchmarks/search.py record --driver intel --net mobilenet_v2

README.md beside this file says what is measured and how.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "examples/nets"), str(ROOT)]

DATA = HERE / "search_data"
NETS = ("efficientnet_lite0", "mobilenet_v2")


def main() -> None:
    """See the module's docstring."""
    arguments = _parser().parse_args()
    arguments.command(arguments)


def _record(arguments: argparse.Namespace) -> None:
    from drivers import find_drivers  # noqa: PLC0415 - comparing needs no driver
    from searching.record import Effort, RecordError, record, write_journal  # noqa: PLC0415

    drivers = find_drivers()
    if arguments.library:
        from drivers import Driver  # noqa: PLC0415

        drivers[arguments.driver] = Driver(arguments.driver, arguments.library)
    if arguments.driver not in drivers:
        sys.exit(f"error: no OpenCL driver {arguments.driver}; found: {', '.join(drivers)}")
    cores = arguments.cores or sorted(os.sched_getaffinity(0))
    effort = Effort(
        arguments.seconds,
        arguments.passes,
        cores,
        arguments.cores_per_process,
        arguments.rounds,
        arguments.powers_only,
    )
    out = arguments.out or DATA
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="search_benchmark_") as scratch:
        folder = arguments.work or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        path = out / f"{arguments.net}-{arguments.driver}.jsonl.gz"
        try:
            lines = record(drivers[arguments.driver], arguments.net, effort, folder)
            write_journal(path, lines)
        except RecordError as exc:
            sys.exit(f"error: {exc}")
    print(f"{path}: {path.stat().st_size} bytes, {time.monotonic() - begun_s:.0f} s")


def _cores(text: str) -> list[int]:
    """``0-3,8`` as a list."""
    cores: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        cores += range(int(first), int(last or first) + 1)
    return cores


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    record = commands.add_parser("record", help="measure every local size of a net's kernels")
    record.set_defaults(command=_record)
    record.add_argument("--driver", required=True, help="intel, pocl or nvidia")
    record.add_argument("--library", help="the driver's library, where it is not found by itself")
    record.add_argument("--net", required=True, help=f"of {', '.join(NETS)} and examples/nets")
    record.add_argument("--seconds", type=float, default=600.0, help="stop after so long")
    record.add_argument("--passes", type=int, default=12, help="samples of each candidate at most")
    record.add_argument("--cores", type=_cores, help="such as 0-7; all by default")
    record.add_argument("--cores-per-process", type=int, default=2)
    record.add_argument("--rounds", type=int, default=1, help="runs that a sample is the mean of")
    record.add_argument("--powers-only", action="store_true", help="where each size is compiled")
    record.add_argument("--work", type=Path, help="folder for converted nets, kept")
    record.add_argument("--out", type=Path, help="folder of the journal; search_data by default")
    return parser


if __name__ == "__main__":
    main()
