"""What we ask ``mace_run``, as data: one :class:`Invocation` is one process.

Flags, environment variables and file names are those of MACE's ``mace/tools/mace_run.cc`` and
``mace/utils/tuner.h`` (v1.1.1). Only flags that differ from their defaults are passed, so that
releases that do not know a newer flag still run.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from droidmace.errors import InputError

BYTES_PER_VALUE = 4
"""``mace_run`` reads and writes every tensor as float32, or int32 for int32 tensors."""

CACHE_FILE_NAME = "mace_cl_compiled_program.bin"
"""Name of the compiled program in ``MACE_INTERNAL_STORAGE_PATH``."""

_DEFAULT_HINT = 3
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SUFFIX = re.compile(r"[A-Za-z0-9._-]+\Z")


class CacheReusePolicy(IntEnum):
    """``--opencl_cache_reuse_policy``: what to do with a cache from another driver."""

    NONE = 0
    SAME_GPU = 1


@dataclass(frozen=True, slots=True)
class TensorArg:
    """An input or output as ``mace_run``'s flags describe it."""

    name: str
    shape: tuple[int, ...]
    data_type: str = "float32"
    data_format: str = "NHWC"

    def __post_init__(self) -> None:
        if not self.name or any(character in self.name for character in ",\n\0"):
            raise InputError(
                f"the tensor name {self.name!r} cannot be given to mace_run",
                hint="mace_run separates tensor names by commas: rename the tensor in the model",
            )
        if any(size < 1 for size in self.shape):
            raise InputError(
                f"the shape {list(self.shape)} of tensor {self.name!r} is not fixed",
                hint="every dimension must be at least 1",
            )

    @property
    def size_bytes(self) -> int:
        """Size of its input or output file."""
        size = BYTES_PER_VALUE
        for dimension in self.shape:
            size *= dimension
        return size

    @property
    def shape_text(self) -> str:
        """Dimensions by comma; a scalar is one value (an empty shape would be dropped)."""
        return ",".join(str(size) for size in self.shape) or "1"


def formatted_name(tensor: TensorArg | str) -> str:
    """A tensor's name as it appears in file names: every non-alphanumeric byte becomes ``_``.

    ``mace_run`` works on bytes with ``isalnum`` in the C locale, so a letter outside ASCII becomes
    one ``_`` per UTF-8 byte.
    """
    name = tensor if isinstance(tensor, str) else tensor.name
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 0x80 else "_" for byte in name.encode()
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Invocation:
    """One ``mace_run`` process: all paths are the device's, relative ones start at ``cwd``.

    Without ``input_dir`` the process runs the model ``rounds`` times on ``input_file`` and prints
    its result table. With ``input_dir`` (batch mode) every file ``<first input><suffix>`` in there
    is one sample whose outputs land in ``output_dir`` as ``<output><suffix>``; there is no table,
    and ``input_file`` must exist all the same.

    Raises ``InputError`` for what ``mace_run`` cannot be asked, ``ValueError`` for contradictions.
    """

    cwd: str
    binary: str = "mace_run"
    model_name: str
    model_file: str
    model_data_file: str
    inputs: tuple[TensorArg, ...]
    outputs: tuple[TensorArg, ...]
    input_file: str
    """Prefix: ``_<formatted input name>`` is appended."""
    output_file: str = ""
    """Prefix: ``_<formatted output name>`` is appended."""
    input_dir: str = ""
    output_dir: str = ""
    rounds: int = 1
    """Measured inferences after the warm-up; 0 is warm-up only, which is enough to tune."""
    restart_rounds: int = 1
    """How often the engine is created anew in one process."""
    gpu_perf_hint: int = _DEFAULT_HINT
    gpu_priority_hint: int = _DEFAULT_HINT
    num_threads: int | None = None
    cpu_affinity_policy: int | None = None
    benchmark: bool = False
    """Print per-op times; changes what ``run_avg`` measures (profiling is on)."""
    opencl_cache_full_path: str = ""
    opencl_binary_file: str = ""
    opencl_parameter_file: str = ""
    """Tuned parameters that are read."""
    cache_reuse_policy: CacheReusePolicy = CacheReusePolicy.SAME_GPU
    tuning: bool = False
    parameter_path: str = ""
    """Tuned parameters that are written when the process ends normally."""
    storage_dir: str = ""
    vlog_level: int = 0
    library_path: tuple[str, ...] = ()
    limit_opencl_kernel_time: bool = False
    opencl_queue_window_size: int = 0
    extra_environment: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise ValueError("an invocation needs at least one input and one output")
        if not self.cwd.startswith("/"):
            raise ValueError(f"cwd must be an absolute path, not {self.cwd!r}")
        if bool(self.input_dir) != bool(self.output_dir):
            raise ValueError("batch mode needs both input_dir and output_dir")
        if not self.input_dir and not self.output_file:
            raise ValueError("output_file is missing")
        if self.rounds < 0 or self.restart_rounds < 1:
            raise ValueError("rounds must be at least 0, restart_rounds at least 1")
        if not 0 <= self.gpu_perf_hint <= 3 or not 0 <= self.gpu_priority_hint <= 3:
            raise ValueError("GPU hints go from 0 to 3")
        if self.parameter_path and self.opencl_parameter_file:
            written, read = map(self.absolute, (self.parameter_path, self.opencl_parameter_file))
            if written == read:
                raise ValueError(f"tuned parameters are read from and written to {written}")
        for name, value in self.extra_environment.items():
            if not _ENVIRONMENT_NAME.match(name) or "\0" in value:
                raise ValueError(f"not an environment variable: {name!r}")
        for kind, tensors in (("input", self.inputs), ("output", self.outputs)):
            _refuse_shared_files(kind, tensors)
        if self.input_dir:
            _refuse_ambiguous_samples(self.inputs)

    @property
    def batch(self) -> bool:
        """Whether this runs on a folder of samples."""
        return bool(self.input_dir)

    def absolute(self, path: str) -> str:
        """``path`` on the device as an absolute, normalised path."""
        return posixpath.normpath(posixpath.join(self.cwd, path))

    def argv(self) -> tuple[str, ...]:
        """The command line, program first."""
        program = self.binary if "/" in self.binary else f"./{self.binary}"
        return (program, *(f"--{name}={value}" for name, value in self._flags()))

    def environment(self) -> dict[str, str]:
        """The variables to set for the process."""
        variables = {"MACE_TUNING": "1" if self.tuning else "0"}
        optional: dict[str, str] = {
            "LD_LIBRARY_PATH": ":".join(self.library_path),
            "MACE_RUN_PARAMETER_PATH": self.parameter_path,
            "MACE_INTERNAL_STORAGE_PATH": self.storage_dir,
            "MACE_CPP_MIN_VLOG_LEVEL": str(self.vlog_level) if self.vlog_level else "",
            "MACE_LIMIT_OPENCL_KERNEL_TIME": "1" if self.limit_opencl_kernel_time else "",
            "MACE_OPENCL_QUEUE_WINDOW_SIZE": str(self.opencl_queue_window_size or ""),
        }
        variables.update({name: value for name, value in optional.items() if value})
        variables.update(self.extra_environment)
        return variables

    def expected_outputs(self, suffixes: Iterable[str] = ()) -> dict[str, int]:
        """Absolute path to size in bytes of every file that a successful run writes.

        In batch mode ``suffixes`` name the samples.
        """
        if not self.batch:
            return {
                self.absolute(f"{self.output_file}_{formatted_name(tensor)}"): tensor.size_bytes
                for tensor in self.outputs
            }
        return {
            self.absolute(posixpath.join(self.output_dir, sample_file_name(tensor, suffix))): (
                tensor.size_bytes
            )
            for suffix in suffixes
            for tensor in self.outputs
        }

    def input_paths(self) -> dict[str, TensorArg]:
        """Absolute path of every file that is read as ``input_file``, and its tensor."""
        return {
            self.absolute(f"{self.input_file}_{formatted_name(tensor)}"): tensor
            for tensor in self.inputs
        }

    def _flags(self) -> list[tuple[str, str]]:
        flags = [
            ("model_name", self.model_name),
            ("model_file", self.model_file),
            ("model_data_file", self.model_data_file),
            *_tensor_flags("input", self.inputs),
            *_tensor_flags("output", self.outputs),
            ("input_file", self.input_file),
        ]
        optional: list[tuple[str, str]] = [
            ("output_file", self.output_file),
            ("input_dir", self.input_dir),
            ("output_dir", self.output_dir),
            ("opencl_cache_full_path", self.opencl_cache_full_path),
            ("opencl_binary_file", self.opencl_binary_file),
            ("opencl_parameter_file", self.opencl_parameter_file),
        ]
        flags += [(name, value) for name, value in optional if value]
        flags.append(("round", str(self.rounds)))
        numbers: list[tuple[str, int | None, int | None]] = [
            ("restart_round", self.restart_rounds, 1),
            ("gpu_perf_hint", self.gpu_perf_hint, _DEFAULT_HINT),
            ("gpu_priority_hint", self.gpu_priority_hint, _DEFAULT_HINT),
            ("opencl_cache_reuse_policy", int(self.cache_reuse_policy), 1),
            ("num_threads", self.num_threads, None),
            ("cpu_affinity_policy", self.cpu_affinity_policy, None),
        ]
        flags += [(name, str(value)) for name, value, default in numbers if value != default]
        if self.benchmark:
            flags.append(("benchmark", "true"))
        return flags


def sample_file_name(tensor: TensorArg, suffix: str) -> str:
    """File name of one sample's tensor in batch mode."""
    if not _SUFFIX.match(suffix):
        raise ValueError(f"not a sample suffix: {suffix!r}")
    return formatted_name(tensor) + suffix


def _tensor_flags(kind: str, tensors: tuple[TensorArg, ...]) -> list[tuple[str, str]]:
    flags = [
        (f"{kind}_node", ",".join(tensor.name for tensor in tensors)),
        (f"{kind}_shape", ":".join(tensor.shape_text for tensor in tensors)),
        (f"{kind}_data_format", ",".join(tensor.data_format for tensor in tensors)),
    ]
    types = [tensor.data_type for tensor in tensors]
    # Older releases do not know this flag; newer ones index its list by tensor, unchecked.
    if len(types) > 1 or types != ["float32"]:
        flags.append((f"{kind}_data_type", ",".join(types)))
    return flags


def _refuse_shared_files(kind: str, tensors: tuple[TensorArg, ...]) -> None:
    seen: dict[str, str] = {}
    for tensor in tensors:
        other = seen.setdefault(formatted_name(tensor), tensor.name)
        if other != tensor.name or sum(one.name == tensor.name for one in tensors) > 1:
            raise InputError(
                f"the {kind}s {other!r} and {tensor.name!r} would use one file",
                hint="mace_run replaces every non-alphanumeric character by '_': rename one",
            )


def _refuse_ambiguous_samples(inputs: tuple[TensorArg, ...]) -> None:
    """Batch mode takes every file that *starts with* the first input's name for a sample."""
    first = formatted_name(inputs[0])
    for tensor in inputs[1:]:
        if formatted_name(tensor).startswith(first):
            raise InputError(
                f"in batch mode mace_run takes the files of input {tensor.name!r} for samples of "
                f"input {inputs[0].name!r}",
                hint="list the longer name first, or rename the tensor",
            )
