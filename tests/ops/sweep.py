"""Run all cases and print what becomes of each as JSON, one a line; the last line is the rest.

In a process of its own: the OpenCL driver is chosen by the environment, and a crash in it is seen.
``python tests/ops/sweep.py [--runtime gpu] [--memory buffer] [--op Conv] [--large]``
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
import tempfile
from pathlib import Path

from case_runner import Runner
from onnx_cases import LARGE, LIGHT, Case, light_case, light_names, node_cases


def main() -> None:
    """Parse, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runtime", action="append", choices=("gpu", "cpu"))
    parser.add_argument("--memory", choices=("image", "buffer"), default="image")
    parser.add_argument("--op", action="append", help=f"only cases of this op ({LIGHT}: nets)")
    parser.add_argument("--large", action="store_true", help="the large light models as well")
    arguments = parser.parse_args()
    found = node_cases()

    def wanted(op: str) -> bool:
        return not arguments.op or op in arguments.op

    with tempfile.TemporaryDirectory() as folder:
        runners = [
            Runner(runtime, Path(folder), arguments.memory)
            for runtime in arguments.runtime or ("gpu", "cpu")
        ]

        def run(case: Case) -> None:
            for runner in runners:
                write(dataclasses.asdict(runner.run(case)))

        for case in found.cases:
            if wanted(case.op):
                run(case)
        for name in light_names():
            if wanted(LIGHT) and (arguments.large or name not in LARGE):
                run(light_case(name))
    write({"not_float": sorted(found.not_float), "too_new": sorted(found.too_new)})


def write(record: dict[str, object]) -> None:
    """One line, at once: whoever waits sees how far it came."""
    sys.stdout.write(json.dumps(record) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
