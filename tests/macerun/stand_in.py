"""A stand-in for ``mace_run``: says what the real one said, ends as the real one ends.

``X_SCENARIO`` chooses what happens, ``X_LOG`` names a recorded log that is printed first. Python's
stdout behaves as stdio's: by block on a pipe, by line on a terminal, lost on an abort.
"""

import fcntl
import os
import signal
import sys
from pathlib import Path

flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
scenario = os.environ.get("X_SCENARIO", "fine")
log = os.environ.get("X_LOG")


def say(*lines):
    for line in lines:
        sys.stdout.write(line + "\n")


def name(tensor):
    return "".join(c if c.isalnum() else "_" for c in tensor)


def count(shape):
    total = 1
    for size in shape.split(","):
        total *= int(size)
    return total


def write_outputs(prefix, suffix="", extra=0):
    tensors = zip(flags["output_node"].split(","), flags["output_shape"].split(":"), strict=True)
    for tensor, shape in tensors:
        path = Path(prefix + name(tensor) + suffix)
        path.write_bytes(bytes(4 * count(shape) + extra))


def write_parameters():
    if os.environ.get("MACE_TUNING") == "1" and "MACE_RUN_PARAMETER_PATH" in os.environ:
        Path(os.environ["MACE_RUN_PARAMETER_PATH"]).write_bytes(b"tuned")


with Path("runs").open("a") as stream:
    stream.write(scenario + (" tty" if sys.stdout.isatty() else " pipe") + "\n")
lock = Path("alive").open("w")  # noqa: SIM115 - held until the process is gone
fcntl.flock(lock, fcntl.LOCK_EX)
if log:
    say(*Path(log).read_text(errors="replace").splitlines())

if scenario == "fine":
    write_outputs(flags["output_file"] + "_")
    write_parameters()
elif scenario == "wrong-size":
    write_outputs(flags["output_file"] + "_", extra=4)
elif scenario == "no-parameters":
    write_outputs(flags["output_file"] + "_")
elif scenario == "status-7":
    write_outputs(flags["output_file"] + "_")
    sys.stdout.flush()
    os._exit(7)
elif scenario == "batch":
    first = name(flags["input_node"].split(",")[0])
    for sample in sorted(Path(flags["input_dir"]).iterdir()):
        if sample.name.startswith(first):
            write_outputs(flags["output_dir"] + "/", sample.name[len(first) :])
elif scenario == "abort":
    os.abort()
elif scenario == "abort-flushed":
    sys.stdout.flush()
    os.abort()
elif scenario == "abort-once":
    if sys.stdout.isatty():
        sys.exit(0)
    os.abort()
elif scenario == "segfault-at-the-end":
    write_outputs(flags["output_file"] + "_")
    sys.stdout.flush()
    os.kill(os.getpid(), signal.SIGSEGV)
elif scenario == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
elif scenario == "unknown-flag":
    sys.stderr.write("ERROR: unknown command line flag 'input_data_format'\n")
    sys.exit(1)
elif scenario == "no-library":
    sys.stderr.write('CANNOT LINK EXECUTABLE "./mace_run": library "libx.so" not found\n')
    sys.exit(1)
elif scenario == "retry":
    while True:
        say(
            "E opencl_wrapper.cc:1] Failed to load OpenCL library",
            "E mace_run.cc:456] Create engine runtime error, retry ... errcode: Out of resources",
        )
elif scenario == "retry-silently":
    say("E x.cc:9] clEnqueueNDRangeKernel failed",
        "E mace_run.cc:555] Warmup runtime error, retry ... errcode: Runtime error")  # fmt: skip
    sys.stdout.flush()
    signal.pause()
elif scenario == "recovers":
    for _ in range(9):
        say("E mace_run.cc:555] Warmup runtime error, retry ... errcode: Runtime error",
            "I mace_run.cc:592] 1st warm up run latency: 1e-05 ms")  # fmt: skip
        sys.stdout.flush()
    write_outputs(flags["output_file"] + "_")
elif scenario == "hang":
    say("I mace_run.cc:550] Warm up run")
    sys.stdout.flush()
    signal.pause()
elif scenario != "nothing":
    sys.exit(f"no scenario {scenario!r}")
