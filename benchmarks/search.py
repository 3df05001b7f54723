"""How fast a search for local sizes gets near the best there is.

    python benchmarks/search.py record --driver intel --net mobilenet_v2
    python benchmarks/search.py compare
    python benchmarks/search.py phone --driver intel --net mobilenet_v2

README.md beside this file says what is measured and how.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import rich.table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "examples/nets"), str(ROOT)]

DATA = HERE / "search_data"
_NETS = "efficientnet_lite0, mobilenet_v2, fashion_mnist, or another of examples/nets"


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


def _compare(arguments: argparse.Namespace) -> None:
    # small matrices: a second thread would only be in the way, and there is a process for each core
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    warnings.simplefilter("ignore")  # scipy's, about steps that are too large
    from machine import describe_machine  # noqa: PLC0415
    from searching.compare import STRATEGIES, compare, gain_rows, rows  # noqa: PLC0415
    from tables import show  # noqa: PLC0415

    paths = arguments.journals or sorted(DATA.glob("*.jsonl.gz"))
    strategies = arguments.strategies or list(STRATEGIES)
    begun_s = time.monotonic()
    document = {
        "machine": describe_machine(),
        "seeds": arguments.seeds,
        "budget_share": arguments.budget,
        "tables": [],
    }
    out = arguments.out or HERE / "results" / f"{document['machine']['date'][:10]}-search.json"
    for table in compare(paths, strategies, arguments.seeds, arguments.budget, arguments.processes):
        document["tables"].append(table)
        document["seconds"] = round(time.monotonic() - begun_s, 1)
        # what is there is kept, should the rest be broken off
        out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    show([_table(*one) for one in (*rows(document), gain_rows(document))])
    print(out)


def _phone(arguments: argparse.Namespace) -> None:
    from machine import describe_machine  # noqa: PLC0415
    from searching.phone import PhoneError, measure_phone  # noqa: PLC0415

    machine = describe_machine()
    with tempfile.TemporaryDirectory(prefix="search_benchmark_") as scratch:
        try:
            rows = measure_phone(
                arguments.net, arguments.driver, arguments.search, arguments.repeats, Path(scratch)
            )
        except PhoneError as exc:
            sys.exit(f"error: {exc}")
    machine["load_after"] = os.getloadavg()
    name = f"{machine['date'][:10]}-search-phone-{arguments.net}.json"
    out = arguments.out or HERE / "results" / name
    document = {"machine": machine, "net": arguments.net, "tunes": rows}
    out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(out)


def _table(title: str, cells: list[list[str]]) -> rich.table.Table:
    from rich.table import Table  # noqa: PLC0415

    table = Table(title=title, title_justify="left")
    for index, name in enumerate(cells[0]):
        table.add_column(name, justify="right" if index else "left")
    for row in cells[1:]:
        table.add_row(*row)
    return table


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
    record.add_argument("--net", required=True, help=_NETS)
    record.add_argument("--seconds", type=float, default=600.0, help="of measuring at most")
    record.add_argument("--passes", type=int, default=12, help="samples of each candidate at most")
    record.add_argument("--cores", type=_cores, help="such as 0-7; all by default")
    record.add_argument("--cores-per-process", type=int, default=2)
    record.add_argument("--rounds", type=int, default=1, help="runs that a sample is the mean of")
    record.add_argument("--powers-only", action="store_true", help="where each size is compiled")
    record.add_argument("--work", type=Path, help="folder for converted nets, kept")
    record.add_argument("--out", type=Path, help="folder of the journal; search_data by default")
    compare = commands.add_parser("compare", help="replay searches on what was recorded")
    compare.set_defaults(command=_compare)
    compare.add_argument("journals", type=Path, nargs="*", help="all of search_data by default")
    compare.add_argument("--seeds", type=int, default=50, help="searches of each strategy")
    compare.add_argument(
        "--budget", type=float, default=0.05, help="of an exhaustive search's evaluations"
    )
    compare.add_argument("--strategies", type=lambda text: text.split(","), help="by comma")
    compare.add_argument("--processes", type=int, default=os.cpu_count())
    compare.add_argument("--out", type=Path, help="JSON file; results/DATE-search.json by default")
    phone = commands.add_parser("phone", help="what a search costs on an emulated phone")
    phone.set_defaults(command=_phone)
    phone.add_argument("--driver", required=True, help="intel or pocl")
    phone.add_argument("--net", required=True, help=_NETS)
    phone.add_argument("--search", type=lambda text: text.split(","), default=["mace", "fast"])
    phone.add_argument("--repeats", type=int, default=1)
    phone.add_argument("--out", type=Path, help="results/DATE-search-phone-NET.json by default")
    return parser


if __name__ == "__main__":
    main()
