#!/vendor/bin/python3 -ISE
"""A mace_run for tests of searches: a small net whose times follow from its parameter file.

Speaks as the real one does (v1.1.1), takes some 30 ms, and writes a line into ``processes`` beside
itself when it begins. Work-groups of more than 256 items make it retry for ever. ``QUICK_FAULT``
lets something go wrong: ``tuner`` (it crashes on its third kernel), ``keys`` (no key is as
guessed), ``name`` (a kernel's name is no name), ``guess`` (it crashes on the softmax with
parameters), ``table`` (none is printed), ``killed`` (the first two that are measured are killed
from outside).
``obfuscated`` is no fault: its files have obfuscated keys, as MACE's CMake builds write them.
"""

import math
import os
import string
import struct
import sys
import time
import zlib

KWG_SIZE = 256
TRANSFORM = "arg_buffer_to_image_[16]"
# op name, type, filter and output shapes, keys with their global sizes, time by default (ms)
NET = [
    ("conv_0", "Conv2D", "[16,3,3,3]", "1,32,32,16",
     {"conv2d_3x3_opencl_kernel_1_32_32_16": (4, 7, 32)}, 4.0),
    ("conv_1", "Conv2D", "[32,16,1,1]", "1,32,32,32",
     {"conv2d_1x1_opencl_kernel_1_32_32_32": (8, 8, 32)}, 6.0),
    ("conv_2", "Conv2D", "[32,16,1,1]", "1,32,32,32",
     {"conv2d_1x1_opencl_kernel_1_32_32_32": (8, 8, 32)}, 5.0),
    ("depthwise_3", "DepthwiseConv2d", "[1,32,3,3]", "1,32,32,32",
     {"depthwise_conv2d_ocl_kernel_8_8_32_1": (8, 8, 32)}, 3.0),
    ("reshape_4", "Reshape", "", "1,32,32,32", {}, 0.5),
    ("softmax_5", "Softmax", "", "1,1,1,10",
     {"softmax_opencl_kernel_1_1_1_10": (3, 1, 1)}, 0.25),
]  # fmt: skip

flags = dict(word[2:].split("=", 1) for word in sys.argv[1:])
environ = os.environ
vlog = int(environ.get("MACE_CPP_MIN_VLOG_LEVEL", "0"))
tuning = environ.get("MACE_TUNING") == "1"
file = flags.get("opencl_parameter_file", "")
fault = environ.get("QUICK_FAULT", "")


def say(source, text, level="I"):
    sys.stdout.write(f"{level} mace/{source}] {text}\n")


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def fields(data):
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        value, at = varint(data, at)
        if tag & 7 == 2:
            value, at = data[at : at + value], at + value
        yield tag >> 3, value


def read_table(path):
    data = open(path, "rb").read()  # noqa: PTH123, SIM115
    if len(data) < 4 or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        say("utils/tuner.h:199", f"CRC value of {path}is invalid", "W")
        return {}
    table = {}
    for _, pair in fields(data[:-4]):
        parts = list(fields(pair))
        key = next(value for number, value in parts if number == 1).decode()
        table[key] = [value for number, value in parts if number == 3]
    return table


def encode(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def write_table(path, table):
    data = b""
    for key, values in table.items():
        pair = b"\x0a" + encode(len(key)) + key.encode()
        pair += b"".join(b"\x18" + encode(value) for value in values)
        data += b"\x0a" + encode(len(pair)) + pair
    with open(path, "wb") as stream:  # noqa: PTH123
        stream.write(data + struct.pack("<I", zlib.crc32(data)))


def in_file(key):
    """The key as it stands in a file (``ObfuscateSymbol`` in string_util.cc)."""
    if fault != "obfuscated" or key.startswith("MACE_"):
        return key
    plain = "0123456789" + string.ascii_lowercase + "?" * 26 + "_"
    hidden = string.ascii_uppercase + string.ascii_lowercase + string.digits + "_"
    return key[:1] + "".join(
        hidden[(plain.index(c) + i + 31) % 63] if c in plain else c
        for i, c in enumerate(key[1:], 1)
    )


def factor(gws, params):
    """How much slower than at its best: best is a work-group of 64, as long as the rows are."""
    if params is None:
        return 1.5
    lws = params[: len(gws)]
    return 1.0 + 0.1 * abs(math.log2(math.prod(lws) / 64)) + 0.05 * abs(math.log2(lws[0] / 4))


if fault == "keys":
    NET = [(*op[:4], {f"odd_kernel_{key}": gws for key, gws in op[4].items()}, op[5]) for op in NET]
kind = "tune" if tuning else "measure" if "/search/parameters." in file else "other"
with open("processes", "a") as stream:  # noqa: PTH123
    stream.write(f"{kind} {vlog}\n")
if fault == "killed" and kind == "measure":
    with open("processes") as stream:  # noqa: PTH123
        if stream.read().count("measure") <= 2:
            os.kill(os.getpid(), 9)
time.sleep(0.02)
say("tools/mace_run.cc:700", f"model name: {flags['model_name']}")
say("tools/mace_run.cc:701", "mace version: v1.1.1")
table = {} if tuning or not file else read_table(file)
if vlog >= 3:
    kernel = in_file("conv_2d_1x1")
    source = "runtimes/opencl/core/opencl_executor.cc:500"
    say(source, f"Program from source: conv_2d_1x1 -DBIAS -Dconv_2d_1x1={kernel}")
if tuning:
    table["MACE_OPENCL_QUEUE_WINDOW_SIZE"] = [0]
    table[in_file(TRANSFORM)] = [64, 4, 0]
    say("utils/tuner.h:106", f"Tuning {TRANSFORM} result: [64, 4, 0]")
    if fault == "name":
        table["k" * 5000] = [8, 8, 0]
        say("utils/tuner.h:106", f"Tuning {'k' * 5000} result: [8, 8, 0]")
say("tools/mace_run.cc:470", "Create Mace Engine latency: 1.5 ms")
say("tools/mace_run.cc:471", "runtimes: [CPU, GPU]")
say("tools/mace_run.cc:550", "Warm up run")
while True:
    failed = False
    for name, _, _, shape, keys, _ in NET:
        for key, gws in keys.items():
            if tuning:
                time.sleep(0.05)
                if fault == "tuner" and name == "depthwise_3":
                    sys.stdout.flush()
                    os.abort()
                table[in_file(key)] = [min(size, 4) for size in gws] + [0]
                say("utils/tuner.h:106", f"Tuning {key} result: {table[in_file(key)]}")
            elif in_file(key) in table:
                if vlog >= 3:
                    say("utils/tuner.h:113", f"{key}: {table[in_file(key)]}")
                if fault == "guess" and name == "softmax_5":
                    os.abort()
                failed = math.prod(table[in_file(key)][:-1]) > KWG_SIZE
            if failed:
                break
        if failed:
            break
        if vlog >= 3:
            say("core/net/serial_net.cc:182", f"Operator {name} has shape: [{shape}]")
    if not failed:
        break
    say("runtimes/opencl/x.cc:1", "error: CL_INVALID_WORK_GROUP_SIZE", "E")
    say("tools/mace_run.cc:555", "Warmup runtime error, retry ... errcode: Out of resources", "E")
say("tools/mace_run.cc:592", "1st warm up run latency: 10.5 ms")
seed = int.from_bytes(os.urandom(2), "big")
rows = []
total = 0.0
for name, op_type, filters, shape, keys, base_ms in NET:
    noise = 1.0 + 0.004 * math.sin(seed + len(rows))
    time_ms = base_ms * noise
    for key, gws in keys.items():
        time_ms *= factor(gws, table.get(in_file(key))) / 1.5
    rows.append((op_type, total, time_ms, time_ms, filters, shape, name))
    total += time_ms
rounds = int(flags.get("round", "1"))
if rounds:
    say("tools/mace_run.cc:600", "Run model")
    say("tools/mace_run.cc:650", f"Average latency: {total} ms")
for tensor, size in zip(
    flags["output_node"].split(","), flags["output_shape"].split(":"), strict=True
):
    count = math.prod(map(int, size.split(",")))
    name = "".join(c if c.isalnum() else "_" for c in tensor)
    with open(f"{flags['output_file']}_{name}", "wb") as stream:  # noqa: PTH123
        stream.write(struct.pack("<f", 0.5) * count)
if environ.get("MACE_RUN_PARAMETER_PATH"):
    write_table(environ["MACE_RUN_PARAMETER_PATH"], table)
average = total if rounds else -1.0
sys.stdout.write("     capability(CPU)        init      warmup     run_avg\n")
sys.stdout.write(f"time {0:15.3f} {1.5:11.3f} {10.5:11.3f} {average:11.3f}\n")
if flags.get("benchmark") == "true" and not (fault == "table" and kind == "measure"):
    stats = "utils/statistics.cc:343"
    say(stats, "Sort by Run Order")
    say(stats, "-----")
    say(
        stats, "| Op Type | Start | First | Avg(ms) | GMACPS | Filter Shape | Output Shape | name |"
    )
    say(stats, "-----")
    for op, start, first, avg, filters, shape, name in rows:
        say(stats, f"| {op} | {start:.3f} | {first:.3f} | {avg:.3f} | 0.0 "
                   f"| {filters} | [{shape}] | {name} |")  # fmt: skip
    say(stats, "-----")
