"""A phone's own system files: ``/system``, ``/vendor/bin`` and ``/vendor/etc``.

They are written into the phone's folder at each start and bound read-only, so a phone cannot
change its system and a new profile takes effect at the next start.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from droidmace.emulator import python_runtime, sysfs
from droidmace.emulator.folder import PhoneFolder, PhoneRecord
from droidmace.emulator.mounts import ReadOnlyBind
from droidmace.emulator.opencl_drivers import OpenClDriver
from droidmace.emulator.profile import PhoneProfile
from droidmace.errors import EmulatorError

MACE_RUN = "/vendor/bin/mace_run"
DAEMON_CONFIG = "/system/etc/adbd.json"
INIT = "/system/bin/init"
LOG_FILE = "/dev/log/main"
GPU_IDENTITY = "/vendor/etc/gpu_identity.json"
ICD_DIR = "/vendor/etc/OpenCL/vendors"

_ANDROID_FILES = Path(__file__).with_name("android")
_SYSTEM_PROGRAMS = ("init", "getprop", "setprop", "dumpsys", "log", "logcat", "reboot")
# Applets that the phone has better ones for, or that would mean the machine and not the phone.
_NOT_LINKED = {"sh", "halt", "poweroff", "oneit", "su", "login", "switch_root", *_SYSTEM_PROGRAMS}
# Android's toybox has these, Debian's build of it has not.
_COREUTILS = ("dd", "diff", "expr", "stty", "tr")


@dataclass(frozen=True, slots=True)
class HostTools:
    """The host programs that a phone is made of."""

    bwrap: Path
    mksh: Path
    toybox: Path

    @classmethod
    def find(cls) -> HostTools:
        """Look for them on PATH. Raises ``EmulatorError`` that names the packages to install."""
        packages = {"bwrap": "bubblewrap", "mksh": "mksh", "toybox": "toybox"}
        found = {name: shutil.which(name) for name in packages}
        missing = [packages[name] for name, path in found.items() if path is None]
        if missing:
            raise EmulatorError(
                f"an emulated phone needs {', '.join(missing)}",
                hint=f"apt-get install {' '.join(missing)}",
            )
        return cls(**{name: Path(os.path.realpath(path)) for name, path in found.items() if path})


def build_rom(
    folder: PhoneFolder,
    record: PhoneRecord,
    profile: PhoneProfile,
    driver: OpenClDriver | None,
    tools: HostTools,
) -> list[ReadOnlyBind]:
    """Write the phone's system files; return the host programs to bind into them."""
    rom = folder.rom
    shutil.rmtree(rom, ignore_errors=True)
    system_bin, system_etc = rom / "system/bin", rom / "system/etc"
    vendor_bin, vendor_etc = rom / "vendor/bin", rom / "vendor/etc"
    for directory in (system_bin, system_etc, vendor_bin, vendor_etc):
        directory.mkdir(parents=True)
    (rom / "system/vendor").symlink_to("/vendor")

    for name in _SYSTEM_PROGRAMS:
        _program(system_bin / name, (_ANDROID_FILES / f"{name}.sh").read_text("utf-8"))
    binds = [
        _placeholder(system_bin, "mksh", tools.mksh),
        _placeholder(system_bin, "toybox", tools.toybox),
    ]
    (system_bin / "sh").symlink_to("mksh")
    applets = _applets(tools.toybox) - _NOT_LINKED
    for applet in applets:
        (system_bin / applet).symlink_to("toybox")
    for name in _COREUTILS:
        program = shutil.which(name)
        if name not in applets and program is not None:
            binds.append(_placeholder(system_bin, name, Path(os.path.realpath(program))))
    for name in ("mkshrc", "passwd", "group"):
        shutil.copyfile(_ANDROID_FILES / name, system_etc / name)

    properties = system_properties(record, profile, driver)
    _text(rom / "system/build.prop", "".join(f"{k}={v}\n" for k, v in sorted(properties.items())))
    _text(
        system_etc / "adbd.json", json.dumps(_daemon_config(profile, driver, properties), indent=2)
    )

    _program(vendor_bin / "python3", _PYTHON_LAUNCHER)
    _program(vendor_bin / "mace_run", (_ANDROID_FILES / "mace_run.sh").read_text("utf-8"))
    _text(vendor_etc / "gles_identity", profile.gpu.gles + "\n")
    icds = rom / ICD_DIR.lstrip("/")
    icds.mkdir(parents=True)
    if driver is not None:
        _text(icds / "gpu.icd", driver.library + "\n")
        binds += [
            _placeholder(vendor_bin, program.name, Path(os.path.realpath(program)))
            for program in driver.programs
        ]
        identity = profile.gpu.identity(driver.name, driver.version)
        _text(rom / GPU_IDENTITY.lstrip("/"), json.dumps(identity, indent=2) + "\n")
    sysfs.build(folder, profile)
    return binds


def system_properties(
    record: PhoneRecord, profile: PhoneProfile, driver: OpenClDriver | None
) -> dict[str, str]:
    """The properties that a phone of this profile is built with."""
    abis64 = [abi for abi in profile.abis if abi in ("arm64-v8a", "x86_64", "riscv64")]
    properties = {
        "init.svc.adbd": "running",
        "persist.sys.timezone": "GMT",
        "ro.adb.secure": "0",
        "ro.board.platform": profile.soc,
        "ro.boot.serialno": record.serialno,
        "ro.build.fingerprint": f"{profile.brand}/{profile.device}/{profile.device}:"
        # A vendor's build: the same on all phones of a model until an update brings another driver.
        f"{profile.android_release}/DROIDMACE/{driver.version if driver else 0}:user/release-keys",
        "ro.build.type": "user",
        "ro.build.version.release": profile.android_release,
        "ro.build.version.sdk": str(profile.sdk),
        "ro.debuggable": "0",
        "ro.hardware": profile.hardware,
        "ro.product.board": profile.soc,
        "ro.product.brand": profile.brand,
        "ro.product.cpu.abi": profile.abis[0],
        "ro.product.cpu.abilist": ",".join(profile.abis),
        "ro.product.cpu.abilist32": ",".join(abi for abi in profile.abis if abi not in abis64),
        "ro.product.cpu.abilist64": ",".join(abis64),
        "ro.product.device": profile.device,
        "ro.product.manufacturer": profile.manufacturer,
        "ro.product.model": profile.model,
        "ro.product.name": profile.device,
        "ro.secure": "1",
        "ro.serialno": record.serialno,
        "ro.soc.model": profile.soc_model,
        "ro.vendor.droidmace.phone": record.name,
        "ro.vendor.mace_run": MACE_RUN,
    }
    if driver is not None:
        properties["ro.vendor.droidmace.opencl_driver"] = f"{driver.name} {driver.version}"
    return properties | dict(profile.properties)


def command_environment(driver: OpenClDriver | None) -> dict[str, str]:
    """The environment of every command on the phone."""
    environment = {
        "ANDROID_BOOTLOGO": "1",
        "ANDROID_DATA": "/data",
        "ANDROID_LOG_FILE": LOG_FILE,
        "ANDROID_ROOT": "/system",
        "ENV": "/system/etc/mkshrc",
        "EXTERNAL_STORAGE": "/sdcard",
        "HOME": "/",
        "HOSTNAME": "localhost",
        "LOGNAME": "shell",
        "OCL_ICD_VENDORS": ICD_DIR,
        "PATH": "/system/bin:/vendor/bin",
        "POCL_CACHE_DIR": "/data/misc/opencl",
        # A driver's own cache would hide what a compiled program gains.
        "POCL_KERNEL_CACHE": "0",
        "PYOPENCL_NO_CACHE": "1",
        "SHELL": "/system/bin/sh",
        "TMPDIR": "/data/local/tmp",
        "USER": "shell",
    }
    if driver is not None:
        environment["DROIDMACE_GPU_IDENTITY"] = GPU_IDENTITY
    return environment


def _daemon_config(
    profile: PhoneProfile, driver: OpenClDriver | None, properties: Mapping[str, str]
) -> dict[str, object]:
    speed = profile.link_mib_per_s
    return {
        "banner_properties": {
            key: properties[key]
            for key in ("ro.product.name", "ro.product.model", "ro.product.device")
        },
        "environment": command_environment(driver),
        "shell": "/system/bin/sh",
        "home": "/",
        "link_bytes_per_s": None if speed is None else speed * (1 << 20),
    }


# Only Python itself gets its library folder on the loader's path, never the programs it starts
# from the phone; and nothing from the calling environment changes how it starts.
_PYTHON_LAUNCHER = f"""#!/system/bin/sh
LD_LIBRARY_PATH={python_runtime.PYTHON_HOME}/lib${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}
PYTHONPATH={python_runtime.PACKAGES}
PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1 PYTHONUTF8=1
export LD_LIBRARY_PATH PYTHONPATH PYTHONDONTWRITEBYTECODE PYTHONNOUSERSITE PYTHONUTF8
exec {python_runtime.interpreter_target()} "$@"
"""


def _applets(toybox: Path) -> set[str]:
    listing = subprocess.run(
        [str(toybox)], capture_output=True, text=True, check=True, timeout=30
    ).stdout
    return {name for name in listing.split() if "/" not in name and not name.startswith(".")}


def _placeholder(directory: Path, name: str, source: Path) -> ReadOnlyBind:
    """An empty file for a host program to be bound over."""
    (directory / name).touch(mode=0o755)
    return ReadOnlyBind(source, f"/{directory.parent.name}/{directory.name}/{name}")


def _program(path: Path, text: str) -> None:
    _text(path, text)
    path.chmod(0o755)


def _text(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")
