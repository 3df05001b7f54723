"""Calls of bench that are refused, each with one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from droidmace.cli import build_app
from droidmace.errors import DroidmaceError, FormatError, InputError
from droidmace.results import DeviceInfo
from droidmace.results.bench import BenchProcess, BenchResult

FASHION = Path(__file__).parents[2] / "configs" / "fashion_mnist.yml"
ON_X = ("-c", str(FASHION), "-s", "x")


def call(*arguments: str):
    return CliRunner().invoke(build_app(), ["bench", *arguments])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--gate",), "--gate needs something to compare with"),
        (("--allow-different", "model"), "--allow-different needs"),
        (("--result", "a.json"), "--result needs"),
        (("-c", str(FASHION)), "say on which phone"),
        (("-c", str(FASHION), "-s", "x", "--emulate"), "say on which phone"),
        (("-s", "x"), "say what to measure"),
        ((*ON_X, "--compare", "nowhere.json"), "cannot be read"),
        ((*ON_X, "--bundle", "/nowhere"), "cannot be read"),
        ((*ON_X, "--out", "/nowhere/a.json"), "no such folder"),
        ((*ON_X, "--out", "/"), "is a folder"),
        ((*ON_X, "--model", "other"), "no model of the name"),
    ],
)
def test_bad_calls(arguments, message):
    result = call(*arguments)
    assert isinstance(result.exception, DroidmaceError), result
    assert message in str(result.exception)


def session(path: Path, latency_ms: float, count: int = 6) -> str:
    processes = tuple(BenchProcess(1.0, 1.0, latency_ms + n / 1000) for n in range(count))
    result = BenchResult(DeviceInfo("x", "device"), "net", {}, {"rounds": 5}, processes)
    path.write_text(json.dumps(result.as_document()))
    return str(path)


def test_two_files_without_a_phone(tmp_path):
    before = session(tmp_path / "a.json", 10.0)
    after = session(tmp_path / "b.json", 10.3)
    done = call("--compare", before, "--result", after, "--gate", "--json")
    assert done.exit_code == 1
    start, end = done.output.index("{"), done.output.rindex("}") + 1
    document = json.loads(done.output[start:end])
    assert [one["change"] for one in document["figures"]] == ["no difference shown", "slower"]
    assert call("--compare", before, "--result", after).exit_code == 0
    wide = call("--compare", before, "--result", after, "--gate", "--tolerance", "5")
    assert wide.exit_code == 0
    phone = call("--compare", before, "--result", after, "-s", "x")
    assert "--result and a phone exclude each other" in str(phone.exception)
    out = call("--compare", before, "--result", after, "--out", tmp_path / "c.json")
    assert "--result and --out exclude each other" in str(out.exception)
    other = tmp_path / "model.onnx"
    other.write_bytes(b"\x08\x91")
    refused = call("--compare", str(other), "--result", after).exception
    assert isinstance(refused, FormatError)
    assert "bench --out" in str(refused.hint)


def test_a_gate_that_nothing_could_fail_is_refused(tmp_path):
    before = session(tmp_path / "a.json", 10.0)
    few = session(tmp_path / "b.json", 99.0, count=3)
    for arguments, where in (
        (("--compare", before, "--result", few), few),
        (("--compare", few, "--result", before), few),
        (("--compare", before, *ON_X, "--processes", "3"), "this session"),
    ):
        refused = call(*arguments, "--gate").exception
        assert isinstance(refused, InputError)
        assert "3 of at least 4 processes" in str(refused)
        assert refused.where == where
