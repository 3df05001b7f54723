"""``mace_run``'s command line, parsed as gflags parses it.

Flags and defaults: ``mace/tools/mace_run.cc``. Rules: ``--name=value``, ``--name value``, one dash
or two, ``--noname`` for a boolean, ``--`` ends the flags, other words are ignored. All errors are
collected and printed to stderr; the exit status is 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """Every flag of ``mace_run`` with its default."""

    model_name: str = ""
    input_node: str = ""
    input_shape: str = ""
    output_node: str = ""
    output_shape: str = ""
    input_data_type: str = "float32"
    output_data_type: str = "float32"
    input_data_format: str = "NHWC"
    output_data_format: str = "NHWC"
    input_file: str = ""
    output_file: str = ""
    input_dir: str = ""
    output_dir: str = "output"
    opencl_cache_full_path: str = ""
    opencl_binary_file: str = ""
    opencl_parameter_file: str = ""
    model_data_file: str = ""
    model_file: str = ""
    accelerator_binary_file: str = ""
    accelerator_storage_file: str = ""
    round: int = 1
    restart_round: int = 1
    malloc_check_cycle: int = -1
    gpu_perf_hint: int = 3
    gpu_priority_hint: int = 3
    num_threads: int = -1
    cpu_affinity_policy: int = 1
    apu_boost_hint: int = 100
    apu_preference_hint: int = 1
    opencl_cache_reuse_policy: int = 1
    accelerator_cache_policy: int = 0
    benchmark: bool = False
    fake_warmup: bool = False


@dataclass(frozen=True, slots=True)
class UsageError:
    """Why nothing is run: errors for stderr, or the help that was asked for, for stdout."""

    text: str
    is_help: bool = False


_DEFAULTS = {field.name: field.default for field in fields(Flags)}
_INT32 = range(-(1 << 31), 1 << 31)
_BOOLEANS = dict.fromkeys(("1", "t", "true", "y", "yes"), True) | dict.fromkeys(
    ("0", "f", "false", "n", "no"), False
)


def parse_flags(arguments: Sequence[str]) -> Flags | UsageError:
    """Parse the words after the program's name."""
    values: dict[str, str | int | bool] = {}
    errors: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            break
        if not word.startswith("-") or word == "-":
            continue
        name, equals, text = word.removeprefix("-").removeprefix("-").partition("=")
        if name in ("help", "helpfull", "helpshort"):
            return UsageError(usage(), is_help=True)
        error = _take(name, text if equals else None, words, values)
        if error:
            errors.append(f"ERROR: {error}\n")
    if errors:
        return UsageError("".join(sorted(errors)))
    return Flags(**values)  # type: ignore[arg-type]


def usage() -> str:
    """What ``--help`` prints."""
    lines = ["mace_run: MACE run model tool, please specify proper arguments.\n"]
    for name, default in _DEFAULTS.items():
        kind = {str: "string", int: "int32", bool: "bool"}[type(default)]
        shown = f'"{default}"' if isinstance(default, str) else str(default).lower()
        lines.append(f"    -{name} type: {kind} default: {shown}\n")
    return "".join(lines)


def _take(
    name: str, text: str | None, rest: Iterator[str], values: dict[str, str | int | bool]
) -> str | None:
    """Store one flag in ``values``, or say what is wrong with it."""
    if name not in _DEFAULTS:
        positive = name.removeprefix("no")
        if positive == name or not isinstance(_DEFAULTS.get(positive), bool):
            return f"unknown command line flag '{name}'"
        if text is not None:
            return f"boolean value ({text}) specified for a negated flag '{positive}'"
        values[positive] = False
        return None
    default = _DEFAULTS[name]
    if text is None:
        if isinstance(default, bool):
            values[name] = True
            return None
        text = next(rest, None)
        if text is None:
            return f"flag '--{name}' is missing its argument"
    value = _convert(text, default)
    if value is None:
        kind = "bool" if isinstance(default, bool) else "int32"
        return f"illegal value '{text}' specified for {kind} flag '{name}'"
    values[name] = value
    return None


def _convert(text: str, default: object) -> str | int | bool | None:
    if isinstance(default, bool):
        return _BOOLEANS.get(text.lower())
    if isinstance(default, str):
        return text
    if not re.fullmatch(r"\s*[+-]?(0[xX][0-9a-fA-F]+|[0-9]+)\s*", text):
        return None
    number = int(text, 16 if "x" in text.lower() else 10)
    return number if number in _INT32 else None
