"""``droidmace inspect`` on what is no file of ours, or was made to harm."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from droidmace.formats.netdef import Argument, MultiNetDef, NetDef, OperatorDef, serialize_model
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.workflows.inspection import MAX_FILE_BYTES

SAMPLES = Path(__file__).parents[1] / "samples"
DEADLINE_S = 60


def inspect(path: Path | str, *options: str) -> tuple[int, str, str]:
    """In a process of its own, which can be ended when it hangs."""
    command = [sys.executable, "-m", "droidmace", "inspect", str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    return done.returncode, done.stdout, done.stderr


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_may_never_end_is_not_read(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero")):
        code, out, err = inspect(path)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {path}: this is not a regular file\n  fix: ")


def test_a_file_too_large_for_any_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)  # sparse: takes no room
    code, _, err = inspect(path)
    assert code == 2
    assert f"{MAX_FILE_BYTES + 1} bytes are too many" in err


def test_a_name_too_long_for_any_system() -> None:
    code, out, err = inspect("x" * 5000)
    assert (code, out) == (2, "")
    assert "cannot be read: " in err
    assert "Traceback" not in err


def test_weights_point_to_their_graph(tmp_path: Path) -> None:
    for suffix in (".pb", ".data"):
        content = (SAMPLES / f"tiny_gpu{suffix}").read_bytes()
        (tmp_path / f"net{suffix}").write_bytes(content)
    code, _, err = inspect(tmp_path / "net.data")
    assert code == 2
    assert "by its name, this holds the weights of a MACE model" in err
    assert f"inspect the graph, {tmp_path / 'net.pb'}" in err


def test_a_manifest_under_another_name_is_not_its_neighbour(tmp_path: Path) -> None:
    path = tmp_path / "copy.json"
    path.write_text('{"schema_version": 1, "droidmace_version": "1"}')
    code, _, err = inspect(path)
    assert code == 2
    assert f"{path}: this is a bundle's manifest under another name" in err


@pytest.mark.parametrize("name", ["manifest.json", "other.json"])
def test_a_number_too_long_to_convert(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"schema_version": 1, "n": ' + "1" * 5000 + "}")
    for target in {path, tmp_path if name == "manifest.json" else path}:
        code, out, err = inspect(target)
        assert (code, out) == (2, "")
        assert f"{path}: " in err
        assert "JSON" in err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    "key", ["conv_kernel_" + "1" * 6000, "_" * 50_000 + "x", "_1" * 25_000 + "x", "k_" + "7" * 99]
)
def test_a_key_made_to_take_for_ever_is_shown_as_it_is(tmp_path: Path, key: str) -> None:
    path = tmp_path / "tuned"
    path.write_bytes(TunedParameters.build({key: (4, 4, 0)}).serialize())
    code, out, _ = inspect(path, "--json")
    assert code == 0
    (entry,) = json.loads(out)["entries"]
    assert (entry["kernel"], entry["sizes"], entry["values"]) == (key, [], [4, 4, 0])


def test_numbers_that_json_lacks_are_texts(tmp_path: Path) -> None:
    arguments = (Argument(name="a", f=float("nan")), Argument(name="b", floats=(float("inf"), 0.5)))
    ops = (OperatorDef(name="o", type="T", args=arguments),)
    path = tmp_path / "m.pb"
    path.write_bytes(serialize_model(MultiNetDef(nets=(NetDef(name="n", ops=ops),))))
    code, out, _ = inspect(path, "--json")
    assert code == 0

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    (op,) = json.loads(out, parse_constant=refuse)["ops"]
    assert op["arguments"] == {"a": "nan", "b": ["inf", 0.5]}
