#!/vendor/bin/python3 -ISE
"""A stand-in for ``mace_run`` in batch mode: each output is a function of its sample's inputs.

An output's values are the sum over all inputs of the sample, plus their place. ``X_SCENARIO`` lets
something go wrong at the third sample.
"""

import contextlib
import os
import signal
import struct
import sys
import time
from pathlib import Path

flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
scenario = os.environ.get("X_SCENARIO", "fine")


def log(text, level="I"):
    sys.stdout.write(f"{level} mace/tools/mace_run.cc:1] {text}\n")


def file_name(tensor):
    return "".join(c if c.isalnum() else "_" for c in tensor)


def elements(shape):
    total = 1
    for size in shape.split(","):
        total *= int(size)
    return total


def tensors(side):
    names, shapes = flags[f"{side}_node"].split(","), flags[f"{side}_shape"].split(":")
    return [(file_name(name), elements(shape)) for name, shape in zip(names, shapes, strict=True)]


if scenario == "retry":
    while True:
        log("Create engine runtime error, retry ... errcode: Out of resources", "E")
if scenario == "flag":
    sys.stderr.write("ERROR: unknown command line flag 'input_dir'\n")
    sys.exit(1)
inputs, outputs = tensors("input"), tensors("output")
if scenario == "retry-once":
    log("x->Init failed with error: MACE_OUT_OF_RESOURCES")
    log("Create engine runtime error, retry ... errcode: MACE_OUT_OF_RESOURCES", "E")
log("Create Mace Engine latency: 1.5 ms")
log("runtimes: [CPU, GPU]")
for name, _ in inputs:
    Path(f"{flags['input_file']}_{name}").read_bytes()
first = inputs[0][0]
suffixes = [
    path.name.removeprefix(first)
    for path in Path(flags["input_dir"]).iterdir()
    if path.name.startswith(first)
]
for number, suffix in enumerate(sorted(suffixes)):
    total = 0.0
    for name, count in inputs:
        data = Path(f"{flags['input_dir']}/{name}{suffix}").read_bytes()
        assert len(data) == 4 * count, (name, suffix, len(data))
        total += sum(struct.unpack(f"<{count}f", data))
    if number == 2:
        if scenario == "abort":
            os.abort()
        elif scenario == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        elif scenario == "hang":
            time.sleep(1000)
        elif scenario == "missing":
            continue
        elif scenario == "failed-run":
            log("op->Forward(&context) failed with error: MACE_OUT_OF_RESOURCES")
        elif scenario == "extra":
            Path(f"{flags['output_dir']}/other").write_bytes(b"")
    for name, count in outputs:
        values = [total + place for place in range(count)]
        short = scenario == "short" and number == 2
        path = f"{flags['output_dir']}/{name}{suffix}"
        with contextlib.suppress(OSError):  # the real one does not look either
            Path(path).write_bytes(struct.pack(f"<{count}f", *values)[: 4 if short else None])
        log(f"Write output file {path} with size {count} done.")
    time.sleep(float(os.environ.get("X_SAMPLE_S", "0")))
