"""The story of a ``mace_run``: arguments, engine, warm-up, rounds, outputs, table.

Source: ``mace/tools/mace_run.cc``; line numbers in the log are that file's. Its exit status says
nothing about the run: 0 unless a flag is wrong (1) or the process aborts.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from droidmace.engine.attributes import OUT_OF_RESOURCES
from droidmace.engine.create import EngineRequest, create_net, import_runtime
from droidmace.engine.file_region import map_region, read_region
from droidmace.engine.flags import Flags, UsageError, parse_flags, usage
from droidmace.engine.macelog import MaceLog, StdioStream, abort_process, format_float
from droidmace.engine.net import Array, Net, OpTiming
from droidmace.engine.stats import OpStatistics
from droidmace.engine.tensors import (
    TensorSpec,
    file_name_of,
    from_net,
    input_specs,
    load_input,
    output_buffer,
    output_specs,
    read_input,
    split,
    to_net,
    write_output,
)
from droidmace.engine.tuner import Tuner
from droidmace.engine.version import MACE_VERSION
from droidmace.errors import EngineError

_HERE = "tools/mace_run.cc"
_Content = TypeVar("_Content", bytes, memoryview)
_RULE = "=" * 56
# label, flag, line
_FLAG_LINES = (
    ("input node", "input_node", 721),
    ("input shape", "input_shape", 722),
    ("input data_type", "input_data_type", 723),
    ("input data_format", "input_data_format", 724),
    ("output node", "output_node", 725),
    ("output shape", "output_shape", 726),
    ("output data_format", "output_data_format", 727),
    ("input_file", "input_file", 728),
    ("output_file", "output_file", 729),
    ("input dir", "input_dir", 730),
    ("output dir", "output_dir", 731),
    ("model_data_file", "model_data_file", 732),
    ("model_file", "model_file", 733),
    ("accelerator_cache_policy", "accelerator_cache_policy", 734),
    ("accelerator_binary_file", "accelerator_binary_file", 735),
    ("accelerator_storage_file", "accelerator_storage_file", 736),
    ("apu_boost_hint", "apu_boost_hint", 737),
    ("apu_preference_hint", "apu_preference_hint", 738),
    ("round", "round", 739),
    ("restart_round", "restart_round", 740),
    ("gpu_perf_hint", "gpu_perf_hint", 741),
    ("gpu_priority_hint", "gpu_priority_hint", 742),
    ("num_threads", "num_threads", 743),
    ("cpu_affinity_policy", "cpu_affinity_policy", 744),
)
_ENVIRONMENT_LINES = (
    ("limit_opencl_kernel_time", "MACE_LIMIT_OPENCL_KERNEL_TIME", 747),
    ("opencl_queue_window_size", "MACE_OPENCL_QUEUE_WINDOW_SIZE", 752),
)


def main(argv: Sequence[str]) -> int:
    """Run with ``argv`` (program name first) in this process; returns the exit status."""
    # A C program dies of these without a word; so must this one, or hosts would see a traceback.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    flags = parse_flags(argv[1:])
    if isinstance(flags, UsageError):
        (sys.stdout if flags.is_help else sys.stderr).write(flags.text)
        return 1
    environ = dict(os.environ)
    # Read when pyopencl is imported: its disk cache of generated code would be filled by the first
    # run on a machine and used by later ones, and so count as a gain from the compiled program.
    os.environ["PYOPENCL_NO_CACHE"] = "1"
    log = MaceLog.from_environment(environ, StdioStream(1))
    try:
        MaceRun(flags, environ, log).run()
    except MemoryError:
        # nobody catches it in C++
        sys.stderr.write("terminate called after throwing an instance of 'std::bad_alloc'\n")
        sys.stderr.flush()
        abort_process()
    finally:
        log.flush()
    return 0


def _status(error: EngineError) -> str:
    """The error as a MACE status: what failed was logged already when resources ran out."""
    return error.message if error.message == OUT_OF_RESOURCES else str(error)


class _Batch:
    """Samples of a batch that the net works on, and what the output buffers hold before them."""

    def __init__(self, values: dict[str, Array]) -> None:
        self.values = values
        self.under_way: deque[tuple[str, Callable[[], dict[str, Array]]]] = deque()


class MaceRun:
    """One process's work, with everything it depends on given."""

    def __init__(self, flags: Flags, environ: Mapping[str, str], log: MaceLog) -> None:
        self._flags = flags
        self._environ = dict(environ)
        self._log = log
        self._inputs: list[TensorSpec] = []
        self._outputs: list[TensorSpec] = []
        self._expects_gpu = False

    def run(self) -> None:
        """Everything. Returns early, with a log line, when the arguments do not fit together."""
        flags, log = self._flags, self._log
        names = split(flags.input_node, ","), split(flags.output_node, ",")
        if not names[0] or not names[1]:
            log.info(f"{_HERE}:709", usage())
            return
        if flags.benchmark:
            self._environ["MACE_OPENCL_PROFILING"] = "1"
        self._log_arguments()
        shapes = split(flags.input_shape, ":"), split(flags.output_shape, ":")
        if len(names[0]) != len(shapes[0]) or len(names[1]) != len(shapes[1]):
            log.info(
                f"{_HERE}:771",
                "inputs' names do not match inputs' shapes or outputs' names do not match outputs'"
                " shapes",
            )
            return
        self._inputs, self._outputs = input_specs(flags), output_specs(flags)
        for index, spec in enumerate(self._outputs):
            log.info(f"{_HERE}:786", f"raw_output_data_types[{index}] is {spec.data_type}")
        capability_ms = 0.0
        if not flags.input_dir:
            from droidmace.engine.capability import cpu_capability_ms

            capability_ms = cpu_capability_ms()
        with contextlib.suppress(OSError):
            self._expects_gpu = import_runtime(read_region(flags.model_file))
        for index in range(flags.restart_round):
            log.vlog(0, f"{_HERE}:811", f"restart round {index}")
            self._run_model(capability_ms)

    def _log_arguments(self) -> None:
        flags, log = self._flags, self._log
        log.info(f"{_HERE}:719", f"model name: {flags.model_name}")
        log.info(f"{_HERE}:720", f"mace version: {MACE_VERSION}")
        for label, name, line in _FLAG_LINES:
            log.info(f"{_HERE}:{line}", f"{label}: {getattr(flags, name)}")
        for label, name, line in _ENVIRONMENT_LINES:
            if name in self._environ:
                log.info(f"{_HERE}:{line}", f"{label}: {self._environ[name]}")

    def _run_model(self, capability_ms: float) -> None:
        """One engine from its creation to its end, when the tuned parameters are written."""
        start = time.perf_counter()
        flags, log = self._flags, self._log
        tuner = Tuner(log, self._environ, flags.opencl_parameter_file)
        request = EngineRequest(
            graph=self._read_file(flags.model_file, 391, read_region),
            weights=self._read_file(flags.model_data_file, 404, map_region),
            input_names=[spec.name for spec in self._inputs],
            output_names=[spec.name for spec in self._outputs],
            flags=flags,
            environ=self._environ,
            tuner=tuner,
            log=log,
            expects_gpu=self._expects_gpu,
        )
        net, create_ms = self._create(request)
        log.info(f"{_HERE}:459", f"Create Mace Engine latency: {format_float(create_ms)} ms")
        init_ms = (time.perf_counter() - start) * 1000
        log.info(f"{_HERE}:466", f"Total init latency: {format_float(init_ms)} ms")
        log.info(f"{_HERE}:315", f"runtimes: [{', '.join(net.runtimes)}]")
        # Read in batch mode too, where it is not used: without the file MACE aborts.
        inputs = self._read_inputs(f"{flags.input_file}_")
        values = {spec.name: output_buffer(spec) for spec in self._outputs}
        if flags.input_dir:
            self._run_batch(net, values)
        else:
            self._run_rounds(net, request, inputs, capability_ms, init_ms)
        tuner.write()

    def _read_file(self, path: str, line: int, read: Callable[[str], _Content]) -> _Content | bytes:
        if not path:
            return b""
        try:
            return read(path)
        except OSError:
            self._log.fatal(f"{_HERE}:{line}", f"Failed to read file: {path}")

    def _create(self, request: EngineRequest) -> tuple[Net, float]:
        """Make the engine, for ever if need be; returns it and the time the last try took, ms."""
        while True:
            start = time.perf_counter()
            try:
                net = create_net(request)
            except EngineError as exc:
                self._log.error(
                    f"{_HERE}:455",
                    f"Create engine runtime error, retry ... errcode: {_status(exc)}",
                )
            else:
                return net, (time.perf_counter() - start) * 1000

    def _recreate(self, request: EngineRequest) -> Net:
        """After a failed run: make the engine again, silently, until it works."""
        while True:
            try:
                return create_net(request)
            except EngineError:
                continue

    def _read_inputs(self, prefix: str, suffix: str = "") -> dict[str, Array]:
        return {
            spec.name: read_input(f"{prefix}{file_name_of(spec.name)}{suffix}", spec, self._log)
            for spec in self._inputs
        }

    def _load_inputs(self, prefix: str, suffix: str) -> dict[str, Array]:
        """As :meth:`_read_inputs`, but raises ``OSError``."""
        return {
            spec.name: load_input(f"{prefix}{file_name_of(spec.name)}{suffix}", spec, self._log)
            for spec in self._inputs
        }

    def _write_outputs(
        self, values: Mapping[str, Array], prefix: str, suffix: str, line: int
    ) -> None:
        for spec in self._outputs:
            path = f"{prefix}{file_name_of(spec.name)}{suffix}"
            write_output(path, values[spec.name], spec, self._log, line)

    def _run_once(
        self, net: Net, inputs: Mapping[str, Array], timings: list[OpTiming] | None = None
    ) -> dict[str, Array]:
        """One inference between arrays in the user's layouts. Raises ``EngineError``."""
        values = {spec.name: to_net(inputs[spec.name], spec) for spec in self._inputs}
        made = net.run(values, timings)
        return {spec.name: from_net(made[spec.name], spec, self._log) for spec in self._outputs}

    def _begin(self, net: Net, inputs: Mapping[str, Array]) -> Callable[[], dict[str, Array]]:
        """Begin an inference; the call that comes back gives its outputs as the net makes them.

        Only that call raises ``EngineError``.
        """
        values = {spec.name: to_net(inputs[spec.name], spec) for spec in self._inputs}
        try:
            return net.begin(values)
        except EngineError as exc:
            failed = exc

        def fail() -> dict[str, Array]:
            raise failed

        return fail

    def _run_batch(self, net: Net, values: dict[str, Array]) -> None:
        """Every file of ``--input_dir`` whose name starts with the first input's is a sample.

        ``values``: what the output buffers hold before the first one.
        """
        flags, log = self._flags, self._log
        try:
            names = [entry.name for entry in os.scandir(flags.input_dir)]
        except OSError as exc:
            log.fatal(
                f"{_HERE}:507",
                f"Check failed: dir_parent != nullptr Open input_dir {flags.input_dir} failed: "
                f"{exc.strerror}",
            )
        prefix = file_name_of(self._inputs[0].name)
        suffixes = [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
        batch = _Batch(values)

        def finish_one() -> None:
            suffix, finish = batch.under_way.popleft()
            try:
                made = finish()
                batch.values = {
                    spec.name: from_net(made[spec.name], spec, log) for spec in self._outputs
                }
            except EngineError as exc:
                # The status is dropped: the sample's files get what the buffers held before.
                log.vlog(0, f"{_HERE}:524", f"engine->Run failed with error: {exc.message}")
            if flags.output_dir:
                self._write_outputs(batch.values, f"{flags.output_dir}/", suffix, 537)

        for suffix in suffixes:
            # While the net computes one sample the next is read and the last written. What is
            # printed and written is as if all were done one after another, as MACE does it.
            try:
                inputs = self._load_inputs(f"{flags.input_dir}/", suffix)
            except OSError:
                while batch.under_way:
                    finish_one()
                inputs = self._read_inputs(f"{flags.input_dir}/", suffix)  # aborts, and says why
            batch.under_way.append((suffix, self._begin(net, inputs)))
            if len(batch.under_way) > 1:
                finish_one()
        while batch.under_way:
            finish_one()
        if not suffixes:
            log.fatal(
                f"{_HERE}:545",
                "Check failed: input_file_count != 0 Found no input file name starts with"
                f" '{prefix}' in: {flags.input_dir}, input file name should start with input tensor"
                " name.",
            )

    def _run_rounds(
        self,
        net: Net,
        request: EngineRequest,
        inputs: Mapping[str, Array],
        capability_ms: float,
        init_ms: float,
    ) -> None:
        """Warm-up, the timed rounds, the output files, the table."""
        flags, log = self._flags, self._log
        log.info(f"{_HERE}:550", "Warm up run")
        net, values, warmup_ms = self._insist(net, request, inputs, 556, "Warmup runtime error")
        log.info(f"{_HERE}:592", f"1st warm up run latency: {format_float(warmup_ms)} ms")
        average_ms = -1.0
        statistics = OpStatistics()
        if flags.round > 0:
            log.info(f"{_HERE}:600", "Run model")
            total_ms = 0.0
            for _ in range(flags.round):
                timings: list[OpTiming] | None = [] if flags.benchmark else None
                net, values, run_ms = self._insist(
                    net, request, inputs, 622, "Mace run model runtime error", timings
                )
                total_ms += run_ms
                statistics.add_run(timings or ())
            average_ms = total_ms / flags.round
            log.info(f"{_HERE}:668", f"Average latency: {format_float(average_ms)} ms")
        self._write_outputs(values, f"{flags.output_file}_", "", 681)
        log.plain(
            f"{_RULE}\n     capability(CPU)        init      warmup     run_avg\n{_RULE}\n"
            f"time {capability_ms:15.3f} {init_ms:11.3f} {warmup_ms:11.3f} {average_ms:11.3f}\n"
        )
        statistics.log_tables(log)

    def _insist(
        self,
        net: Net,
        request: EngineRequest,
        inputs: Mapping[str, Array],
        line: int,
        complaint: str,
        timings: list[OpTiming] | None = None,
    ) -> tuple[Net, dict[str, Array], float]:
        """Run until it works, with a new engine after each failure.

        Returns the engine that worked, the outputs, and the time of that run in milliseconds.
        """
        while True:
            start = time.perf_counter()
            try:
                values = self._run_once(net, inputs, timings)
            except EngineError as exc:
                self._log.error(
                    f"{_HERE}:{line}", f"{complaint}, retry ... errcode: {_status(exc)}"
                )
                net = self._recreate(request)
            else:
                return net, values, (time.perf_counter() - start) * 1000
