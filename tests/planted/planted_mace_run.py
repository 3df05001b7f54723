#!/vendor/bin/python3 -ISE
"""A ``mace_run`` whose times and answers follow a plan; it computes nothing and takes some 40 ms.

It runs on emulated phones, speaks as MACE v1.1.1 does (``mace/tools/mace_run.cc``,
``mace/utils/tuner.h``, ``mace/runtimes/opencl/core/opencl_executor.cc``), and keeps to what the
real one keeps to: a stored program is used if it is there and its checksum is right, parameters are
read from ``--opencl_parameter_file``, and both files are written where the environment says.

How to plan it: :func:`tests.planted.plan.planted_program` puts a plan into the line ``PLAN = ...``
below; its fields are explained there. The files that it leaves behind are part of the plan, so that
nothing of droidmace is needed here. Processes are counted in files beside the program: the n-th
process of a plan always says the same.
"""

import base64
import json
import math
import os
import random
import signal
import struct
import sys
import zlib

PLAN = json.loads("{}")

PROGRAM_FILE = "mace_cl_compiled_program.bin"
RULE = "=" * 56


def latency_ms(plan, number, tuned, after_tuned=False):
    """Average latency of a process, the ``number``-th that measures one."""
    chance = random.Random(f"{plan['seed']} {number}")
    time_ms = plan["untuned_ms"] * (plan["tuned_factor"] if tuned else 1.0)
    time_ms *= math.exp(chance.gauss(0.0, plan["process_sigma"]))
    if chance.random() < plan["outlier_share"]:
        time_ms *= 1.0 + chance.uniform(*plan["outlier_range"])
    # Slow waves, as from a room's temperature or another app's work.
    time_ms *= 1.0 + plan["drift"] * math.sin(2 * math.pi * (number / 40 + plan["seed"] / 7))
    if number >= plan["throttle_after"]:
        time_ms *= plan["throttle_factor"]
    if after_tuned:
        time_ms *= plan["after_tuned_factor"]
    return time_ms


def start_ms(plan, number, warm):
    """Init and first warm-up."""
    chance = random.Random(f"start {plan['seed']} {number}")
    return [
        time_ms * math.exp(chance.gauss(0.0, plan["start_sigma"]))
        for time_ms in plan["warm_ms" if warm else "cold_ms"]
    ]


def say(source, text, level="I"):
    """A line of MACE's log."""
    sys.stdout.write(f"{level} mace/{source}] {text}\n")


def intact(path):
    """Whether a key-value file is there with the right checksum; None: it is not there."""
    try:
        with open(path, "rb") as stream:  # noqa: PTH123
            data = stream.read()
    except OSError:
        return None
    return len(data) >= 4 and zlib.crc32(data[:-4]) == struct.unpack("<I", data[-4:])[0]


def write(path, data):
    """A whole file."""
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(data)


def file_name(tensor):
    """A tensor's name in file names."""
    return "".join(c if c.isalnum() and c.isascii() else "_" for c in tensor)


def count_process(kind, tuned):
    """How many processes of this kind the plan had before, and whether the last was tuned."""
    with open(f"{sys.argv[0]}.{PLAN['seed']}.{kind}", "a+b") as stream:  # noqa: PTH123
        stream.seek(0)
        before = stream.read()
        stream.write(b"t" if tuned else b"u")
    return len(before), before.endswith(b"t")


def has_stored_program(path):
    """Whether this process takes its programs from the cache; says why not."""
    found = intact(path)
    if found is None:
        say("core/kv_storage.cc:90", f"Failed to read kv store file: {path}", "W")
    elif not found:
        say(
            "core/kv_storage.cc:98", f"CRC32 value of {path} is invalid, aborting loading file", "W"
        )
    elif PLAN["crashes_on_stored_program"]:
        # As some Mali drivers do in clCreateProgramWithBinary.
        os.kill(os.getpid(), signal.SIGSEGV)
    return bool(found)


def has_parameters(path):
    """Whether this process runs with parameters from a file; says why not."""
    found = intact(path) if path else False
    if found is None:
        say("utils/tuner.h:189", f"Failed to read tuned param file: {path}", "W")
    elif path and not found:
        say("utils/tuner.h:199", f"CRC value of {path}is invalid", "W")
    return bool(found)


def log_kernels(*, warm, tuning, tuned):
    """Where programs and parameters came from, at VLOG 3."""
    executor = "runtimes/opencl/core/opencl_executor.cc:500"
    for key in PLAN["programs"]:
        say(executor, f"Program from {'Cache' if warm else 'source'}: {key}")
    for key, values in PLAN["winners"].items():
        if tuning:
            say("utils/tuner.h:106", f"Tuning {key} result: {values}")
        elif tuned:
            say("utils/tuner.h:113", f"{key}: {values}")


def answer_folder(flags, rows):
    """Batch mode: the sample of the number i is answered with row i."""
    prefix, output = file_name(flags["input_node"]), file_name(flags["output_node"])
    for name in sorted(os.listdir(flags["input_dir"])):  # noqa: PTH208
        suffix = name.removeprefix(prefix)
        write(f"{flags['output_dir']}/{output}{suffix}", rows[int(suffix[1:]) % len(rows)])


def run_model(flags, row, init_ms, warmup_ms, *, tuned):
    """Warm-up and rounds: times, the output, the table."""
    say("tools/mace_run.cc:592", f"1st warm up run latency: {warmup_ms:.6g} ms")
    rounds = int(flags.get("round", "1"))
    average_ms = -1.0
    if rounds:
        say("tools/mace_run.cc:600", "Run model")
        # Processes of one round are for the start-up; they do not count towards the throttling.
        number, after_tuned = count_process("latency", tuned) if rounds > 1 else (0, False)
        average_ms = latency_ms(PLAN, number, tuned, after_tuned)
        say("tools/mace_run.cc:668", f"Average latency: {average_ms:.6g} ms")
    path = f"{flags['output_file']}_{file_name(flags['output_node'])}"
    write(path, row)
    say("tools/mace_run.cc:681", f"Write output file {path} with size {len(row) // 4} done.")
    sys.stdout.write(
        f"{RULE}\n     capability(CPU)        init      warmup     run_avg\n{RULE}\n"
        f"time {0.0:15.3f} {init_ms:11.3f} {warmup_ms:11.3f} {average_ms:11.3f}\n"
    )


def main():
    """One process."""
    flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
    tuning = os.environ.get("MACE_TUNING") == "1"
    stored = f"{os.environ.get('MACE_INTERNAL_STORAGE_PATH', 'interior')}/{PROGRAM_FILE}"
    say("tools/mace_run.cc:719", f"model name: {flags['model_name']}")
    say("tools/mace_run.cc:720", "mace version: v1.1.1")
    warm = has_stored_program(stored)
    tuned = not tuning and has_parameters(flags.get("opencl_parameter_file", ""))
    init_ms, warmup_ms = start_ms(PLAN, count_process("start", tuned)[0], warm)
    say("tools/mace_run.cc:459", f"Create Mace Engine latency: {init_ms:.6g} ms")
    say("tools/mace_run.cc:466", f"Total init latency: {init_ms:.6g} ms")
    say("tools/mace_run.cc:315", "runtimes: [CPU, GPU]")
    if not flags.get("input_dir"):
        say("tools/mace_run.cc:550", "Warm up run")
    if int(os.environ.get("MACE_CPP_MIN_VLOG_LEVEL", "0")) >= 3:
        log_kernels(warm=warm, tuning=tuning, tuned=tuned)
    if not warm:
        write(stored, base64.b64decode(PLAN["program_file"]))
    rows = [base64.b64decode(row) for row in PLAN["tuned_outputs" if tuned else "untuned_outputs"]]
    if flags.get("input_dir"):
        answer_folder(flags, rows)
    else:
        run_model(flags, rows[0], init_ms, warmup_ms, tuned=tuned)
    if os.environ.get("MACE_RUN_PARAMETER_PATH"):
        write(os.environ["MACE_RUN_PARAMETER_PATH"], base64.b64decode(PLAN["parameter_file"]))


if __name__ == "__main__":
    main()
