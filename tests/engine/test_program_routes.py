"""Cache, precompiled file, source: which one a program comes from, by MACE's rules."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from engine_harness import DRIVERS, MALI, SAMPLES, Finished, LogReader, Phone

from droidmace.engine.opencl.storage import FileStorage
from droidmace.formats.compiled_program import CompiledProgram, StoredProgram
from droidmace.formats.kvstore import Generation, KeyValueStore, KVPair
from droidmace.formats.store_keys import PROGRAM_HASH_PREFIX

_EXPECTED = np.fromfile(SAMPLES / "tiny_output_1x10.f32", "<f4")
_PROGRAMS = 12

UsedPhones = dict[str, tuple[Phone, Finished]]


def _check_output(phone: Phone, tolerance: float = 1e-5) -> None:
    output = np.fromfile(phone.output, "<f4")
    np.testing.assert_allclose(output, _EXPECTED, atol=tolerance)


@pytest.fixture
def warm_phone(phone: Phone, used_phones: UsedPhones) -> Phone:
    """An unused phone that has the cache of a used one with the same driver."""
    shutil.copy(used_phones["intel"][0].cache, phone.cache)
    return phone


@pytest.mark.parametrize("driver", DRIVERS)
def test_cold_run_compiles_and_is_right(driver: str, used_phones: UsedPhones) -> None:
    phone, cold = used_phones[driver]
    assert cold.returncode == 0, cold
    assert set(cold.routes().values()) == {"source"}
    assert len(cold.routes()) == _PROGRAMS
    _check_output(phone)
    assert "Failed to read kv store file: interior/mace_cl_compiled_program.bin" in cold.stdout
    assert "Load OpenCL cached compiled kernel file failed." in cold.stdout


@pytest.mark.parametrize("driver", DRIVERS)
def test_cache_file_is_what_mace_writes(driver: str, used_phones: UsedPhones) -> None:
    phone, cold = used_phones[driver]
    stored = CompiledProgram.parse(phone.cache.read_bytes())
    assert stored.platform_info == (
        "ARM Platform, FULL_PROFILE, OpenCL 3.0 v1.r38p1, v1.1.1-droidmace"
    )
    assert stored.device_name == "Mali-G78"
    assert set(stored.programs) == set(cold.routes())
    assert all(program.source_hash and program.binary for program in stored.programs.values())
    keys = [pair.key for pair in stored.store.pairs]
    assert keys == sorted(keys)
    assert (
        "conv_2d_1x1 -DBIAS -DCMD_DATA_TYPE=f -DDATA_TYPE=float -DUSE_RELU"
        " -Dconv_2d_1x1=conv_2d_1x1" in stored.programs
    )


@pytest.mark.parametrize("driver", DRIVERS)
def test_second_run_takes_everything_from_the_cache(driver: str, used_phones: UsedPhones) -> None:
    phone, _ = used_phones[driver]
    before = phone.cache.read_bytes()
    phone.output.unlink()
    warm = phone.run()
    assert set(warm.routes().values()) == {"Cache"}
    assert len(warm.routes()) == _PROGRAMS
    assert phone.cache.read_bytes() == before
    _check_output(phone)


@pytest.mark.parametrize(("driver", "other"), [("intel", "pocl"), ("pocl", "intel")])
def test_another_drivers_binaries_are_refused_by_the_driver(
    driver: str,
    other: str,
    used_phones: UsedPhones,
    tmp_path: Path,
    icd_folders: dict[str, Path],
) -> None:
    """Both claim to be one GPU, so the rules let the file through."""
    phone = Phone(tmp_path / "phone", driver, icd_folders)
    shutil.copy(used_phones[other][0].cache, phone.cache)
    run = phone.run("--fake_warmup", "--round=0")
    assert run.returncode == 0
    assert set(run.routes().values()) == {"source"}
    assert run.stdout.count("(CL_INVALID_BINARY)") == _PROGRAMS
    _check_output(phone)


def test_damaged_cache_is_reported_and_rebuilt(warm_phone: Phone) -> None:
    data = bytearray(warm_phone.cache.read_bytes())
    data[len(data) // 2] ^= 0xFF
    warm_phone.cache.write_bytes(data)
    run = warm_phone.run()
    assert run.returncode == 0
    assert (
        "W mace/core/kv_storage.cc:98] CRC32 value of interior/mace_cl_compiled_program.bin is"
        " invalid, aborting loading file\n" in run.stdout
    )
    assert set(run.routes().values()) == {"source"}
    assert len(CompiledProgram.parse(warm_phone.cache.read_bytes()).programs) == _PROGRAMS


@pytest.mark.parametrize(
    ("change", "policy", "kept"),
    [
        ({"device_name": "Mali-G99"}, "1", False),
        ({"device_name": "SomeGPU"}, "1", False),  # MACE has no name for it
        ({"platform_name": "Renamed"}, "1", True),  # same OpenCL platform version
        ({"platform_name": "Renamed"}, "0", False),
        ({"platform_name": "Renamed"}, "7", False),
        ({"platform_version": "OpenCL 3.0 v1.r40p0"}, "1", False),
    ],
)
def test_cache_of_another_gpu_or_driver(
    warm_phone: Phone, change: dict[str, str], policy: str, kept: bool
) -> None:
    warm_phone.claim(MALI | change)
    run = warm_phone.run("--round=0", f"--opencl_cache_reuse_policy={policy}")
    assert set(run.routes().values()) == {"Cache" if kept else "source"}


def test_program_of_another_source_is_rebuilt_alone(warm_phone: Phone) -> None:
    store = KeyValueStore.parse(warm_phone.cache.read_bytes())
    stale = next(pair.key for pair in store.pairs if pair.key.startswith("softmax"))
    pairs = [
        KVPair(pair.key, b"0" * 64) if pair.key == PROGRAM_HASH_PREFIX + stale else pair
        for pair in store.pairs
    ]
    warm_phone.cache.write_bytes(KeyValueStore.build(pairs).serialize())
    routes = warm_phone.run("--round=0").routes()
    assert routes.pop(stale) == "source"
    assert set(routes.values()) == {"Cache"}


def test_foreign_keys_in_the_cache_survive(warm_phone: Phone) -> None:
    store = KeyValueStore.parse(warm_phone.cache.read_bytes())
    kept = [pair for pair in store.pairs if not pair.key.startswith("softmax")]
    pairs = [*kept, KVPair("zzz of somebody else", b"theirs")]
    warm_phone.cache.write_bytes(KeyValueStore.build(pairs).serialize())
    warm_phone.run("--round=0")
    after = KeyValueStore.parse(warm_phone.cache.read_bytes())
    assert after.find("zzz of somebody else") == KVPair("zzz of somebody else", b"theirs")
    assert any(pair.key.startswith("softmax") for pair in after.pairs)


def test_full_path_wins_over_the_storage_folder(warm_phone: Phone) -> None:
    elsewhere = warm_phone.folder / "elsewhere.bin"
    warm_phone.cache.rename(elsewhere)
    run = warm_phone.run("--round=0", "--opencl_cache_full_path=elsewhere.bin")
    assert set(run.routes().values()) == {"Cache"}
    assert not warm_phone.cache.exists()


def test_precompiled_file_is_used(warm_phone: Phone) -> None:
    warm_phone.cache.rename(warm_phone.folder / "shipped.bin")
    run = warm_phone.run("--round=0", "--opencl_binary_file=shipped.bin")
    assert set(run.routes().values()) == {"precompiled binary"}
    assert not warm_phone.cache.exists(), "nothing was compiled, so nothing is stored"
    _check_output(warm_phone)


def test_precompiled_file_must_have_the_whole_platform_info(warm_phone: Phone) -> None:
    warm_phone.cache.rename(warm_phone.folder / "shipped.bin")
    warm_phone.claim(MALI | {"platform_name": "Renamed"})
    run = warm_phone.run("--round=0", "--opencl_binary_file=shipped.bin")
    assert set(run.routes().values()) == {"source"}
    assert (
        "precompiled OpenCL binary version ARM Platform, FULL_PROFILE, OpenCL 3.0 v1.r38p1,"
        " v1.1.1-droidmace is not same with current version" in run.stdout
    )


def test_precompiled_file_of_another_gpu_is_taken(warm_phone: Phone) -> None:
    """A quirk: only platform info counts there."""
    stored = CompiledProgram.parse(warm_phone.cache.read_bytes())
    renamed = CompiledProgram.build(
        platform_info=stored.platform_info,
        device_name="Mali-G31",
        programs=[
            StoredProgram(program.key, program.binary) for program in stored.programs.values()
        ],
    )
    warm_phone.cache.unlink()
    (warm_phone.folder / "shipped.bin").write_bytes(renamed.serialize())
    run = warm_phone.run("--round=0", "--opencl_binary_file=shipped.bin")
    assert set(run.routes().values()) == {"precompiled binary"}


def test_precompiled_file_is_not_opened_beside_a_cache_of_this_platform(warm_phone: Phone) -> None:
    """Another quirk: not even when that cache was cleared because of its GPU."""
    shutil.copy(warm_phone.cache, warm_phone.folder / "shipped.bin")
    warm_phone.claim(MALI | {"device_name": "Mali-G99"})
    run = warm_phone.run("--round=0", "--opencl_binary_file=shipped.bin")
    assert set(run.routes().values()) == {"source"}


def test_storage_takes_the_first_of_equal_keys(log_reader: LogReader, tmp_path: Path) -> None:
    path = tmp_path / "store.bin"
    pairs = [KVPair("key", b"first"), KVPair("key", b"second")]
    path.write_bytes(KeyValueStore.build(pairs).serialize())
    storage = FileStorage(str(path), log_reader.log)
    assert storage.load()
    assert storage.find("key") == b"first"


def test_storage_refuses_the_legacy_layout(log_reader: LogReader, tmp_path: Path) -> None:
    path = tmp_path / "store.bin"
    store = KeyValueStore.build([KVPair("key", b"value")], Generation.LEGACY)
    path.write_bytes(store.serialize())
    assert not FileStorage(str(path), log_reader.log).load()
    assert f"CRC32 value of {path} is invalid" in log_reader.text


def test_without_a_precompiled_file_vlog_says_so(used_phones: UsedPhones) -> None:
    _, cold = used_phones["intel"]
    assert "There is no precompiled OpenCL binary in all OpenCL binary paths." in cold.stdout


def test_cache_is_written_in_place(warm_phone: Phone) -> None:
    """As MACE does it: a link stays one, and nothing lies beside the file, not even for a while."""
    elsewhere = warm_phone.folder / "elsewhere.bin"
    warm_phone.cache.unlink()
    warm_phone.cache.symlink_to(elsewhere)
    warm_phone.run("--round=0")
    assert warm_phone.cache.is_symlink()
    assert len(CompiledProgram.parse(elsewhere.read_bytes()).programs) == _PROGRAMS


def test_half_a_cache_is_rebuilt(warm_phone: Phone) -> None:
    """What a process leaves that was killed while it wrote."""
    data = warm_phone.cache.read_bytes()
    warm_phone.cache.write_bytes(data[: len(data) // 2])
    run = warm_phone.run("--round=0")
    assert "is invalid, aborting loading file\n" in run.stdout
    assert CompiledProgram.parse(warm_phone.cache.read_bytes()).programs.keys() == set(run.routes())


def test_full_disk_aborts(phone: Phone) -> None:
    run = phone.run_on_terminal("--opencl_cache_full_path=/dev/full")
    assert run.returncode == -6
    assert re.search(
        r"E mace/port/file_system\.cc:42\] Failed to append file: /dev/full, requested: \d+,"
        r" written: 0, error: 28\n",
        run.stdout,
    )
    assert "F mace/runtimes/opencl/core/opencl_executor.cc:927] Store OPENCL" in run.stdout
    assert "CRC32 value of /dev/full is invalid" in run.stdout, "a device is an empty file"
    assert Path("/dev/full").is_char_device()
