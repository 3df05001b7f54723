"""A mace_run of the user's own: named in every way there is, pushed, and run on the phone."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from droidmace.bundle.reader import read_bundle
from droidmace.emulator.manager import Phone
from tests.conftest import PhoneLab
from tests.e2e.conftest import ROOT, Droidmace

SAMPLES = ROOT / "tests" / "samples"
RUN_FOLDER = "/data/local/tmp/mace_run"
# A stand-in for a build of MACE: runs the phone's own engine, if its library came along.
LAUNCHER = b"""#!/system/bin/sh
case :$LD_LIBRARY_PATH: in *:%s:*) ;; *) exit 3 ;; esac
[ -f %s/libhelp.so ] || exit 4
exec /vendor/bin/mace_run "$@"
""" % (RUN_FOLDER.encode(), RUN_FOLDER.encode())


def elf_launcher() -> bytes:
    """A static x86-64 program: ``execve("/vendor/bin/mace_run", argv, environ)``."""
    code = (
        b"\x48\x8b\x04\x24"  # mov rax, [rsp]           argc
        b"\x48\x8d\x74\x24\x08"  # lea rsi, [rsp + 8]       argv
        b"\x48\x8d\x54\xc4\x10"  # lea rdx, [rsp + rax * 8 + 16]
        b"\x48\x8d\x3d\x10\x00\x00\x00"  # lea rdi, [rip + 16]      the path
        b"\xb8\x3b\x00\x00\x00\x0f\x05"  # mov eax, 59; syscall     execve
        b"\xbf\x7f\x00\x00\x00\xb0\x3c\x0f\x05"  # mov edi, 127; mov al, 60; syscall: exit
        b"/vendor/bin/mace_run\x00"
    )
    base, head = 0x400000, 64 + 56
    size = head + len(code)
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, 62, 1, base + head, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 4096)
    return header + segment + code


@pytest.fixture
def tune(droidmace: Droidmace, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Tune MACE's own sample: NCHW input from a file, no labelled images."""

    def run(phone: Phone, *arguments: object, ours: str = "", abi: str = "arm64-v8a") -> Any:
        config = tmp_path / "tiny.yml"
        text = (SAMPLES / "tiny_gpu.yml").read_text("utf-8")
        text = text.replace("[host]", f"[{abi}]").replace("tiny.onnx", str(SAMPLES / "tiny.onnx"))
        text = text.replace(
            "        output_tensors:",
            f"        validation_inputs_data: {SAMPLES}/tiny_input_nchw_1x3x32x32.f32\n"
            "        output_tensors:",
        )
        text += f"droidmace:\n  models: {{tiny_gpu: {{graph_file: {SAMPLES}/tiny_gpu.pb, "
        text += f"data_file: {SAMPLES}/tiny_gpu.data}}}}\n"
        text += "  tune: {rounds: 2, blocks: 1, startup_runs: 1}\n" + ours
        config.write_text(text, "utf-8")
        done = droidmace(
            "tune", "--serial", phone.serial, "-c", config, "--out", tmp_path / "out", "--json",
            *arguments,
        )  # fmt: skip
        assert done.code == 0, done.stderr
        return done.document

    return run


def program(folder: Path, data: bytes) -> Path:
    folder.mkdir(parents=True)
    (folder / "libhelp.so").write_bytes(b"a library")
    path = folder / "mace_run"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("way", ["--mace-run", "--mace-root", "file"])
def test_it_is_pushed_run_and_named_in_the_bundle(
    phone_lab: PhoneLab,
    adreno_phone: Phone,
    tune: Callable[..., dict[str, Any]],
    tmp_path: Path,
    way: str,
) -> None:
    phone_lab.output(adreno_phone, f"rm -rf {RUN_FOLDER}")
    path = program(tmp_path / "build" / "arm64-v8a", LAUNCHER)
    if way == "file":
        document = tune(adreno_phone, ours=f"  mace_run: {{arm64-v8a: {path}}}\n")
    else:
        document = tune(adreno_phone, way, path if way == "--mace-run" else tmp_path / "build")
    assert document["kernels_proved"] == 15
    assert document["samples"] == 0
    binary = read_bundle(Path(document["bundle"])).manifest.binary
    assert binary.sha256 == hashlib.sha256(LAUNCHER).hexdigest()
    listed = phone_lab.output(adreno_phone, f"cd {RUN_FOLDER} && stat -c '%a %n' mace_run *.so")
    assert listed.split() == ["755", "mace_run", "644", "libhelp.so"]


def test_the_sample_answers_as_the_reference_says(
    phone_lab: PhoneLab, adreno_phone: Phone, tune: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    tune(adreno_phone)
    pulled = tmp_path / "output"
    folder = f"{RUN_FOLDER}/batch_output/tiny_gpu"
    phone_lab.run_adb("-s", adreno_phone.serial, "pull", f"{folder}/output_000000", str(pulled))
    wanted = np.fromfile(SAMPLES / "tiny_output_1x10.f32", "<f4")
    np.testing.assert_allclose(np.fromfile(pulled, "<f4"), wanted, atol=1e-5)


def test_a_real_elf_on_a_phone_of_its_abi(
    start_phone: Callable[..., Phone], tune: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    phone = start_phone("pc", "adreno", abi="x86_64")
    path = program(tmp_path / "bin", elf_launcher())
    document = tune(phone, "--mace-run", path, abi="x86_64")
    assert document["device"]["abi"] == "x86_64"
    binary = read_bundle(Path(document["bundle"])).manifest.binary
    assert binary.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
