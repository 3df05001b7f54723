"""The parser of ``mace_run``'s output: recorded logs, then anything at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.macerun.events import (
    FatalNoticed,
    FellBack,
    KernelTuned,
    LogLine,
    OutputLine,
    OutputWritten,
    ParametersApplied,
    ProgramOrigin,
    ProgramReady,
    ResultTable,
    RetryNoticed,
    RetryStep,
    Stage,
    StageReached,
    WarningKind,
)
from droidmace.macerun.lines import MAX_LINE_BYTES, LineFramer
from droidmace.macerun.output import (
    MAX_KEPT_CHARACTERS,
    MAX_WARNINGS,
    TAIL_LINES,
    OutputParser,
    classify_warning,
)
from droidmace.results import OpTime, RunTimes

LOGS = Path(__file__).parent.parent / "samples" / "logs"
SAMPLES = {path.stem: path.read_bytes() for path in sorted(LOGS.glob("*.txt"))}
VERSION = "v1.1.1-23-g0fc55a5"


def parse(data: bytes) -> tuple[OutputParser, list[OutputLine]]:
    parser = OutputParser()
    lines = parser.feed(data)
    return parser, lines + parser.finish()


def events(data: bytes) -> list[object]:
    return [line.event for line in parse(data)[1] if line.event is not None]


def say(text: str, level: str = "I", source: str = "mace/x.cc") -> bytes:
    return f"{level} {source}:1] {text}\n".encode()


@pytest.mark.parametrize(
    ("name", "times", "runtimes", "output"),
    [
        ("cpu", RunTimes(1.022, 0.756, 0.456), "CPU", "out/cpu_v0_output"),
        ("gpu_cold", RunTimes(1560.461, 14449.381, 1.132), "CPU, GPU", "out/gpu_v0_output"),
        (
            "gpu_tuning_round0",
            RunTimes(5633.246, 31080.761, None),
            "CPU, GPU",
            "out/gpu_tune_v0_output",
        ),
        (
            "gpu_benchmark",
            RunTimes(507.850, 313.844, 1.101),
            "CPU, GPU",
            "out/gpu_bench_output",
        ),
        (
            "gpu_corrupt_cache_crc",
            RunTimes(232.430, 353.374, 0.910),
            "CPU, GPU",
            "out/c_flip_output",
        ),
    ],
)
def test_runs_that_succeeded(name: str, times: RunTimes, runtimes: str, output: str) -> None:
    parser, _ = parse(SAMPLES[name])
    result = parser.result(wall_s=2.5)
    assert result.times == times
    assert parser.table_count == 1
    assert result.mace_version == VERSION
    assert result.runtimes == runtimes
    assert parser.written == {output: 10}
    assert result.written_outputs == (output,)
    assert result.wall_s == 2.5
    assert (parser.fatal, parser.retry, parser.flag_error) == ((), None, None)


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("cpu", []),
        ("gpu_benchmark", []),
        ("gpu_cold", [WarningKind.STORE_MISSING, WarningKind.STORE_NOT_LOADED]),
        ("gpu_tuning_round0", [WarningKind.STORE_MISSING]),
        ("gpu_corrupt_cache_crc", [WarningKind.STORE_DAMAGED, WarningKind.STORE_NOT_LOADED]),
        (
            "abort_no_storage_dir_pty",
            [
                WarningKind.STORE_MISSING,
                WarningKind.STORE_NOT_LOADED,
                WarningKind.STORE_NOT_WRITTEN,
                WarningKind.STORE_NOT_WRITTEN,
            ],
        ),
    ],
)
def test_warnings_without_the_noise(name: str, kinds: list[WarningKind]) -> None:
    parser, _ = parse(SAMPLES[name])
    assert list(parser.warnings.values()) == kinds
    assert [classify_warning(text) for text in parser.result().warnings] == kinds


def test_stages_of_a_run() -> None:
    assert [event for event in events(SAMPLES["gpu_cold"]) if isinstance(event, StageReached)] == [
        StageReached(Stage.ENGINE_CREATED, 1560.39),
        StageReached(Stage.WARMING_UP),
        StageReached(Stage.WARMED_UP, 14449.4),
        StageReached(Stage.RUNNING),
        StageReached(Stage.RAN, 1.132),
    ]


def test_benchmark_table() -> None:
    parser, _ = parse(SAMPLES["gpu_benchmark"])
    assert [(op.name, op.op_type, op.avg_ms) for op in parser.ops] == [
        ("mace_node_input_mem_type_2", "BufferTransform", 0.041),
        ("relu1", "Conv2D", 0.094),
        ("relu2", "DepthwiseConv2d", 0.068),
        ("relu3", "Conv2D", 0.101),
        ("gap", "Reduce", 0.012),
        ("fc", "FullyConnected", 0.066),
        ("softmax", "Softmax", 0.002),
        ("mace_node_output", "BufferTransform", 0.003),
    ]
    assert parser.result().ops[3] == OpTime(
        name="relu3",
        op_type="Conv2D",
        start_ms=0.361,
        first_ms=0.105,
        avg_ms=0.101,
        gmacps=1.299,
        output_shape=(1, 16, 16, 32),
        filter_shape=(32, 16, 1, 1),
    )


@pytest.mark.parametrize(
    ("name", "fatal"),
    [
        ("abort_no_input_file_pty", "Open input file failed"),
        (
            "abort_no_storage_dir_pty",
            "Store OPENCL compiled kernel to file failed. Please make sure the storage directory "
            "exist and you have Write&Read permission",
        ),
    ],
)
def test_aborts_keep_the_reason_and_drop_the_back_trace(name: str, fatal: str) -> None:
    parser, lines = parse(SAMPLES[name])
    assert parser.fatal == (fatal,)
    assert parser.times is None
    assert [line.event for line in lines if isinstance(line.event, FatalNoticed)] == [
        FatalNoticed(fatal)
    ]
    assert not any(line.text.endswith("\r") for line in lines)


def test_unknown_flag() -> None:
    parser, _ = parse(SAMPLES["unknown_flag_exit1"])
    assert parser.unknown_flag == "nosuchflag"
    assert parser.flag_error == "unknown command line flag 'nosuchflag'"
    assert parser.last_log is None


def test_wrong_shapes_have_no_table_but_a_last_line() -> None:
    parser, _ = parse(SAMPLES["wrong_shapes_exit0"])
    assert parser.times is None
    assert parser.last_log == LogLine(
        "I",
        "mace-src/mace/tools/mace_run.cc",
        771,
        "inputs' names do not match inputs' shapes or outputs' names do not match outputs' shapes",
    )


def test_programs_by_origin() -> None:
    parser, lines = parse(
        say("Program from source: conv_2d_1x1 -DBIAS -DDATA_TYPE=float")
        + say("Program from Cache: pooling -DX")
        + say("Program from precompiled binary: softmax")
        + say("Program from Cache: pooling -DX")
    )
    assert parser.programs.source == ("conv_2d_1x1 -DBIAS -DDATA_TYPE=float",)
    assert parser.programs.cache == ("pooling -DX",)
    assert parser.programs.precompiled == ("softmax",)
    assert lines[1].event == ProgramReady(ProgramOrigin.CACHE, "pooling -DX")


def test_tuned_kernels() -> None:
    parser, lines = parse(
        say("Tuning conv2d_1x1_opencl_kernel_1_56_56_128 result: [4, 16, 1, 0]")
        + say("Tuning odd result: []")
        + say("Tuning broken result: [4, x]")
        + say("Tuning huge result: [99999999999]")
    )
    assert parser.result().tuned == {
        "conv2d_1x1_opencl_kernel_1_56_56_128": (4, 16, 1, 0),
        "odd": (),
    }
    assert lines[0].event == KernelTuned("conv2d_1x1_opencl_kernel_1_56_56_128", (4, 16, 1, 0))


def test_applied_parameters_are_believed_from_the_tuner_only() -> None:
    text = "softmax_opencl_kernel_1_10: [4, 2, 0]"
    parser, lines = parse(say(text) + say(text, source="mace/utils/tuner.h"))
    assert lines[0].event is None
    assert lines[1].event == ParametersApplied("softmax_opencl_kernel_1_10", (4, 2, 0))
    assert parser.applied == {"softmax_opencl_kernel_1_10": (4, 2, 0)}


def test_keys_of_weight_transforms_hold_blanks() -> None:
    parser, _ = parse(say("arg_buffer_to_image_[16, 3]: [16, 1, 0]", source="mace/utils/tuner.h"))
    assert parser.applied == {"arg_buffer_to_image_[16, 3]": (16, 1, 0)}


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Build program pooling -DX from Cache failed:-42", WarningKind.PROGRAM_REFUSED),
        ("Build program p from precompiled binary failed:-42", WarningKind.PROGRAM_REFUSED),
        ("Failed to read tuned param file: p.bin", WarningKind.PARAMETERS_MISSING),
        ("CRC value of p.binis invalid", WarningKind.PARAMETERS_DAMAGED),
        ("Write run parameter file failed.", WarningKind.PARAMETERS_NOT_WRITTEN),
        ("Load OpenCL precompiled kernel file failed. Please", WarningKind.STORE_NOT_LOADED),
        ("Set cpu affinity failed.", WarningKind.OTHER),
    ],
)
def test_warning_kinds(text: str, kind: WarningKind) -> None:
    parser, _ = parse(say(text, "W") * 2)
    assert parser.warnings == {text: kind}


def test_retry_counts_and_gives_the_reason() -> None:
    retry = say("Create engine runtime error, retry ... errcode: Out of resources", "E")
    data = (
        say("failed to open /sys/devices/system/cpu/cpu0/x", "E")
        + say("Failed to load OpenCL library", "E")
        + retry
    )
    parser, lines = parse(data + data + retry)
    assert parser.retry == RetryNoticed(RetryStep.CREATE_ENGINE, "Out of resources", 3)
    assert parser.retry_complaints == ("Failed to load OpenCL library",)
    counts = [line.event.count for line in lines if isinstance(line.event, RetryNoticed)]
    assert counts == [1, 2, 3]


def test_a_step_that_succeeds_ends_its_retries() -> None:
    warmup = say("Warmup runtime error, retry ... errcode: Runtime error", "E")
    done = say("1st warm up run latency: 45.2 ms")
    parser, _ = parse(warmup + warmup + done)
    assert parser.retry is None
    parser, _ = parse(warmup + warmup + done + warmup)
    assert parser.retry == RetryNoticed(RetryStep.WARM_UP, "Runtime error", 1)


def test_table_row_counts_only_below_its_header() -> None:
    row = b"time           0.000     123.456      45.678      12.345\n"
    header = b"     capability(CPU)        init      warmup     run_avg\n"
    rule = b"=" * 56 + b"\n"
    assert parse(row)[0].times is None
    parser, lines = parse((rule + header + rule + b"4 warnings generated.\n" + row + row) * 2)
    assert parser.table_count == 2
    assert parser.times == RunTimes(123.456, 45.678, 12.345)
    assert sum(isinstance(line.event, ResultTable) for line in lines) == 2


def test_streams_are_framed_apart() -> None:
    parser = OutputParser()
    assert parser.feed(b"I a.cc:1] mace ver", "stdout") == []
    assert [line.text for line in parser.feed(b"4 warnings\n", "stderr")] == ["4 warnings"]
    parser.feed(b"sion: v1\n", "stdout")
    assert parser.mace_version == "v1"


def test_unfinished_last_line_counts() -> None:
    parser, lines = parse(b"I a.cc:1] Write output file o_x with size 3 done.")
    assert lines[-1].event == OutputWritten("o_x", 3)
    assert parser.written == {"o_x": 3}


def test_control_characters_do_not_reach_a_terminal() -> None:
    parser, lines = parse(b"I a.cc:1] mace version: \x1b[2J\x9b1\xff\tok\r\n")
    assert lines[0].text.isprintable() or "\t" in lines[0].text
    assert "\x1b" not in parser.mace_version + parser.tail()
    assert parser.mace_version.endswith("\tok")


def test_memory_is_bounded() -> None:
    parser = OutputParser()
    key = "k" * 50_000
    for number in range(600):
        parser.feed(say(f"Program from source: {key}{number}"))
        parser.feed(say(f"complaint {number}", "W"))
    kept = sum(map(len, parser.programs.source))
    assert MAX_KEPT_CHARACTERS - 51_000 < kept <= MAX_KEPT_CHARACTERS
    assert len(parser.warnings) == MAX_WARNINGS
    assert len(parser.tail(10_000).splitlines()) == TAIL_LINES


def test_endless_line_is_cut() -> None:
    framer = LineFramer()
    for _ in range(40):
        assert framer.feed(b"x" * 8192) == []
    assert [len(line) for line in framer.feed(b"\nshort\n")] == [MAX_LINE_BYTES, 5]


def state(parser: OutputParser) -> tuple[object, ...]:
    return (
        parser.result(),
        parser.fatal,
        parser.retry,
        parser.retry_complaints,
        parser.applied,
        parser.flag_error,
        parser.last_log,
        parser.table_count,
        parser.tail(),
    )


LINES = st.sampled_from(
    [line for data in SAMPLES.values() for line in data.splitlines(keepends=True)]
    + [
        say("Program from Cache: a -DB"),
        say("Tuning k result: [1, 2]"),
        say("Warmup runtime error, retry ... errcode: x", "E"),
        b"\xff\xfe\x00\r\r\n",
        b"| | |\n",
        b"I a.cc:1] Sort by Run Order\nI a.cc:1] | Start | First | Avg(ms) | name |\n"
        b"I a.cc:1] | 1 | 2,000.5 | 3 | a|b |\n",
    ]
)


@pytest.mark.parametrize("name", SAMPLES)
@given(data=st.data())
@settings(max_examples=25)
def test_any_fragmentation_gives_the_same(name: str, data: st.DataObject) -> None:
    log = SAMPLES[name]
    whole, whole_lines = parse(log)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(log)), max_size=40)))
    parser = OutputParser()
    lines: list[OutputLine] = []
    for begin, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        lines += parser.feed(log[begin:end])
    lines += parser.finish()
    assert lines == whole_lines
    assert state(parser) == state(whole)


@given(st.lists(LINES | st.binary(max_size=80), max_size=60), st.integers(1, 97))
def test_anything_parses_the_same_in_any_pieces(pieces: list[bytes], step: int) -> None:
    log = b"".join(pieces)
    whole, whole_lines = parse(log)
    parser = OutputParser()
    lines: list[OutputLine] = []
    for begin in range(0, len(log), step):
        lines += parser.feed(log[begin : begin + step])
    lines += parser.finish()
    assert lines == whole_lines
    assert state(parser) == state(whole)


OP_TABLE_TEXT = st.text("|- 0123456789.,[]:eax", max_size=40)


@given(st.lists(OP_TABLE_TEXT, max_size=20))
def test_op_table_never_raises(rows: list[str]) -> None:
    header = (
        "Sort by Run Order",
        "| Op Type | Start | First | Avg(ms) | GMACPS | Output Shape | name |",
    )
    parser, _ = parse(b"".join(say(text) for text in (*header, *(f"|{row}" for row in rows))))
    assert all(op.avg_ms == op.avg_ms for op in parser.ops)
    assert len(parser.ops) <= len(rows)


def test_ops_that_fall_back_to_the_cpu_are_named() -> None:
    log = (
        say("Op conv(1)/a b(Conv2D) fall back to CPU", source="mace/core/net_def_adapter.cc")
        + say("Op x(Softmax) fall back to CPU")
        + say("Op x(Softmax) fall back to CPU", level="W")
        + say("Op x fall back to CPU")
        + b"Op x(Softmax) fall back to CPU\n"
    )
    found = [event for event in events(log) if isinstance(event, FellBack)]
    assert found == [FellBack("conv(1)/a b"), FellBack("x")]
