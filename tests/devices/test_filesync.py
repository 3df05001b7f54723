"""Only what changed is sent: through adb under mksh and toybox, and on this machine."""

from __future__ import annotations

import os

import pytest

from droidmace.devices.filesync import remote_hashes, sync_files
from droidmace.devices.local import LocalDevice
from droidmace.errors import DeviceLostError, DeviceStorageError, InputError


class CountingDevice(LocalDevice):
    """Says how many commands and pushes it took; can damage what it gets."""

    def __init__(self, root):
        super().__init__(root)
        self.commands = []
        self.pushes = []
        self.damages = False

    def run(self, command, **options):
        self.commands.append(command)
        return super().run(command, **options)

    def push(self, source, target, **options):
        self.pushes.append(target)
        if self.damages:
            source = b"damaged"
        return super().push(source, target, **options)


@pytest.fixture(params=["local", "adb"])
def device(request, tmp_path):
    if request.param == "local":
        return LocalDevice(tmp_path)
    return request.getfixturevalue("shared_phone").device


@pytest.fixture
def root(tmp_path):
    return tmp_path / "phone" / "mace_run"


def test_sends_all_then_nothing_then_what_changed(device, root, tmp_path):
    binary = tmp_path / "mace_run"
    binary.write_bytes(os.urandom(70_000))
    files = {"mace_run": binary, "model.pb": b"graph", "sub/in put'1": b"", "model.data": b"w" * 99}
    first = sync_files(device, files, str(root), executables=["mace_run"])
    assert sorted(first.pushed_files) == sorted(files)
    assert first.pushed_bytes == 70_000 + 5 + 99
    assert first.kept_files == ()
    assert (root / "sub" / "in put'1").read_bytes() == b""
    assert (root / "mace_run").stat().st_mode & 0o777 == 0o755
    assert (root / "model.pb").stat().st_mode & 0o777 == 0o644

    second = sync_files(device, files, str(root), executables=["mace_run"])
    assert (second.pushed_files, second.pushed_bytes) == ((), 0)
    assert sorted(second.kept_files) == sorted(files)
    assert second.kept_bytes == first.pushed_bytes

    third = sync_files(device, {**files, "model.pb": b"other"}, str(root), executables=["mace_run"])
    assert (third.pushed_files, third.pushed_bytes) == (("model.pb",), 5)
    assert (root / "model.pb").read_bytes() == b"other"


def test_many_small_files_arrive(device, root):
    files = {f"images/{number:04}": os.urandom(number) for number in range(300)}
    files["big"] = os.urandom(2 << 20)
    report = sync_files(device, files, str(root), executables=["images/0007"])
    assert len(report.pushed_files) == 301
    assert {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    } == files
    assert (root / "images" / "0007").stat().st_mode & 0o777 == 0o755
    assert sync_files(device, files, str(root), executables=["images/0007"]).pushed_bytes == 0


def test_a_damaged_or_unreadable_file_is_sent_again(device, root):
    files = {"a": b"right", "b": b"right"}
    sync_files(device, files, str(root))
    (root / "a").write_bytes(b"wrong")
    (root / "b").unlink()
    (root / "b").symlink_to(root / "nowhere")
    assert sorted(sync_files(device, files, str(root)).pushed_files) == ["a", "b"]
    assert (root / "b").read_bytes() == b"right"


def test_modes_of_kept_files_are_set_again(device, root):
    files = {"mace_run": b"#!"}
    sync_files(device, files, str(root), executables=["mace_run"])
    (root / "mace_run").chmod(0o600)
    assert sync_files(device, files, str(root), executables=["mace_run"]).pushed_bytes == 0
    assert (root / "mace_run").stat().st_mode & 0o777 == 0o755


def test_other_files_are_left_alone(device, root):
    root.mkdir(parents=True)
    (root / "cache.bin").write_bytes(b"mine")
    sync_files(device, {"a": b"x"}, str(root))
    assert sorted(path.name for path in root.iterdir()) == ["a", "cache.bin"]


def test_progress_counts_what_is_sent(device, root):
    seen = []
    files = {"a": bytes(100_000), "b": bytes(200_000), **{f"s{n}": b"12345" for n in range(10)}}
    sync_files(device, {"a": files["a"]}, str(root))
    sync_files(device, files, str(root), progress=lambda *at: seen.append(at))
    assert seen[-1] == (200_050, 200_050)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_nothing_to_send_is_one_look_and_no_push(tmp_path, root):
    device = CountingDevice(tmp_path)
    files = {f"f{number}": b"x" for number in range(40)}
    sync_files(device, files, str(root))
    device.commands.clear()
    device.pushes.clear()
    sync_files(device, files, str(root))
    assert device.pushes == []
    assert [command.split()[0] for command in device.commands] == ["sha256sum", "chmod"]


def test_what_arrives_damaged_is_noticed(tmp_path, root):
    device = CountingDevice(tmp_path)
    device.damages = True
    with pytest.raises(DeviceStorageError, match="arrived damaged: a"):
        sync_files(device, {"a": b"x"}, str(root))


def test_a_damaged_archive_is_noticed(tmp_path, root):
    device = CountingDevice(tmp_path)
    device.damages = True
    with pytest.raises(DeviceStorageError, match="unpacking 20 files"):
        sync_files(device, {f"f{n}": b"x" for n in range(20)}, str(root))
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/etc/passwd", "", ".", "a\nb", "a\\b"])
def test_names_stay_below_the_root(tmp_path, root, name):
    with pytest.raises(InputError):
        sync_files(LocalDevice(tmp_path), {name: b"x"}, str(root))


def test_a_missing_source_is_said(tmp_path, root):
    with pytest.raises(InputError, match="cannot be read"):
        sync_files(LocalDevice(tmp_path), {"a": tmp_path / "missing"}, str(root))


def test_hashes_of_more_files_than_fit_a_command(tmp_path):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    paths = [str(folder / f"{number:05}") for number in range(500)]
    for path in paths[::2]:
        (folder / path.rpartition("/")[2]).write_bytes(b"")
    hashes = remote_hashes(LocalDevice(tmp_path), paths)
    assert sorted(hashes) == paths[::2]


def test_a_full_phone_is_said(shared_phone):
    folder = f"{shared_phone.small_disk}/mace_run"
    device = shared_phone.device
    with pytest.raises(DeviceStorageError, match="No space left"):
        sync_files(device, {"model.data": os.urandom(2 << 20)}, folder)
    with pytest.raises(DeviceStorageError):
        sync_files(device, {f"f{n}": os.urandom(150_000) for n in range(9)}, folder)
    device.remove(folder)


def test_unplugged_half_way(bare_phone):
    root = f"{bare_phone.folder}/mace_run"
    bare_phone.fault(kind="unplug", after_bytes=400_000, refuse=True)
    with pytest.raises(DeviceLostError):
        sync_files(bare_phone.device, {"model.data": os.urandom(4 << 20)}, root)
    assert not (bare_phone.folder / "mace_run" / "model.data").exists()
