"""The sandbox of a phone: bubblewrap's arguments.

Everything of a phone, its ADB daemon included, runs in namespaces of its own: what the daemon
serves and what its shells can reach is the phone by construction. Processes have uid 2000
(Android's ``shell``) in a user namespace and no capabilities, see no host process and no network
(the daemon's sockets are opened outside and inherited), and end with their supervisor.

When the host user is root, uid 2000 is the kernel's root for ownership checks, which would let it
write ``/proc/sys`` and ``/proc/sysrq-trigger``; therefore all of ``/proc`` is read-only.
"""

from __future__ import annotations

import functools
import subprocess
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from droidmace.emulator import python_runtime, sysfs
from droidmace.emulator.folder import PhoneFolder
from droidmace.emulator.mounts import Mask, ReadOnlyBind, WritableFile
from droidmace.emulator.opencl_drivers import OpenClDriver, loader_mount

SHELL_UID = 2000

_SYSTEM_DEVICES = Path("/sys/devices/system")

_RAM_DISKS = {
    # Where Linux gives every process room in RAM, a phone gets a bounded one.
    "/dev/shm": 64 << 20,  # noqa: S108 - a path on the phone
    "/dev/__properties__": 1 << 20,
    "/dev/log": 16 << 20,
}
_FOLDERS = (
    "/data",
    "/storage",
    "/storage/emulated",
    "/sys",
    "/sys/devices",
    "/system",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/share",
    "/vendor",
    "/vendor/lib",
    "/vendor/lib64",
    python_runtime.PACKAGES,
    python_runtime.PYTHON_HOME,
    f"{python_runtime.PYTHON_HOME}/bin",
    f"{python_runtime.PYTHON_HOME}/lib",
)
_LINKS = {
    "/bin": "/system/bin",
    "/etc": "/system/etc",
    "/sdcard": "/storage/emulated/0",
    "/storage/emulated/0": "/data/media/0",
    "/lib": "usr/lib",
    "/lib64": "usr/lib64",
}


def sandbox_arguments(
    bwrap: Path,
    folder: PhoneFolder,
    driver: OpenClDriver | None,
    programs: Iterable[ReadOnlyBind],
    *,
    knobs: Iterable[WritableFile] = (),
    storage_bytes: int | None,
) -> list[str]:
    """Arguments for ``bwrap --args FD``: the phone's world, without the command to run in it.

    ``knobs`` are what a phone that allows it may turn in its ``/sys``.
    """
    arguments = [
        "--unshare-all", "--unshare-user",
        "--uid", str(SHELL_UID), "--gid", str(SHELL_UID), "--cap-drop", "ALL",
        "--new-session", "--die-with-parent", "--hostname", "localhost",
        "--clearenv", "--chdir", "/",
    ]  # fmt: skip
    if _can_disable_userns(bwrap):
        arguments.append("--disable-userns")
    for path in _FOLDERS:
        arguments += ["--perms", "0755", "--dir", path]
    arguments += ["--proc", "/proc", "--dev", "/dev"]
    for path, size_bytes in _RAM_DISKS.items():
        arguments += ["--perms", "0755", "--size", str(size_bytes), "--tmpfs", path]

    masks: list[str] = []
    for mount in _mounts(folder, driver, programs):
        match mount:
            case ReadOnlyBind(source, target):
                arguments += ["--ro-bind", str(source), target]
            case Mask(target):
                arguments += ["--tmpfs", target]
                masks.append(target)
    for knob in knobs:
        arguments += ["--bind", str(knob.source), knob.target]
    # The last mount of a disk is the one that ``df`` names: on a phone that is /data.
    if storage_bytes is None:
        arguments += ["--bind", str(folder.data), "/data"]
    else:
        arguments += ["--perms", "0771", "--size", str(storage_bytes), "--tmpfs", "/data"]
    for path, target in _links().items():
        arguments += ["--symlink", target, path]
    for path in (*masks, "/proc", "/dev", "/"):
        arguments += ["--remount-ro", path]
    return arguments


def _mounts(
    folder: PhoneFolder, driver: OpenClDriver | None, programs: Iterable[ReadOnlyBind]
) -> Iterator[ReadOnlyBind | Mask]:
    yield from _system_libraries()
    yield ReadOnlyBind(folder.rom / "system", "/system")
    for name in ("bin", "etc"):
        yield ReadOnlyBind(folder.rom / "vendor" / name, f"/vendor/{name}")
    yield from programs
    yield ReadOnlyBind(folder.sys_class, "/sys/class")
    yield from cpu_mounts(_SYSTEM_DEVICES, folder.sys_cpufreq)
    yield from python_runtime.python_mounts()
    yield from python_runtime.package_mounts()
    if driver is not None:
        yield from driver.mounts
        yield loader_mount(driver)


def cpu_mounts(devices: Path, cpufreq: Path) -> Iterator[ReadOnlyBind]:
    """The host's processors, which OpenCL runtimes count, with the phone's own ``cpufreq``.

    A kernel that knows no clocks has no place to put that; then the folder is made anew from what
    is in it.
    """
    processors = devices / "cpu"
    if (processors / "cpufreq").is_dir():
        yield ReadOnlyBind(devices, str(_SYSTEM_DEVICES))
    else:
        for folder, skipped in ((devices, "cpu"), (processors, "cpufreq")):
            for path in sorted(folder.iterdir()):
                if path.name != skipped:
                    yield ReadOnlyBind(path, str(_SYSTEM_DEVICES / path.relative_to(devices)))
    yield ReadOnlyBind(cpufreq, sysfs.CPUFREQ)


def _system_libraries() -> Iterator[ReadOnlyBind]:
    """The host's shared libraries and dynamic loader: where its own programs look for them."""
    multiarch = Path("/usr/lib") / (sysconfig.get_config_var("MULTIARCH") or "none")
    lib, lib64 = Path("/usr/lib"), Path("/usr/lib64")
    has_lib64 = lib64.is_dir() and not lib64.is_symlink()
    if has_lib64:
        yield ReadOnlyBind(lib64, str(lib64))
    if multiarch.is_dir():
        yield ReadOnlyBind(multiarch, str(multiarch))
        for loader in lib.glob("ld-linux*.so*"):
            yield ReadOnlyBind(loader, str(loader))
    elif not has_lib64:
        yield ReadOnlyBind(lib, str(lib))


def _links() -> dict[str, str]:
    links = dict(_LINKS)
    lib64 = Path("/usr/lib64")
    if lib64.is_symlink():
        links[str(lib64)] = str(lib64.readlink())
    return links


@functools.cache
def _can_disable_userns(bwrap: Path) -> bool:
    """Whether this bubblewrap (0.8 or newer) can forbid further user namespaces."""
    usage = subprocess.run(
        [str(bwrap), "--help"], capture_output=True, text=True, check=False, timeout=30
    )
    return "--disable-userns" in usage.stdout
