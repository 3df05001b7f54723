"""What a phone is and how it is doing: one command there, one value here.

The command is ``device_scripts/probe.sh``. What it prints comes from a device and is not trusted:
the parser takes any text, leaves out what it cannot read, and never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from droidmace.devices.base import Device
from droidmace.errors import DeviceError
from droidmace.resources import device_script
from droidmace.results import DeviceInfo

EMULATED_ENGINE_PROPERTY = "ro.vendor.mace_run"
"""On an emulated phone: the path of the ``mace_run`` that it brings along."""

PROBE_TIMEOUT_S = 20.0

_SECTION = re.compile(r"^@@droidmace ([a-z_]{1,32})$")
_PROPERTY = re.compile(r"^\[([^\]]{1,256})\]: \[(.*)$")
_SOC_PROPERTIES = ("ro.board.platform", "ro.soc.model", "ro.hardware", "ro.chipname")
"""Where MACE's name of the chip stands; some phones lack the first."""
_ABI_PROPERTIES = ("ro.product.cpu.abilist", "ro.product.cpu.abi", "ro.product.cpu.abi2")
_MAX_VALUE_CHARACTERS = 512
_MAX_PLAUSIBLE_C = 200.0
_MIN_PLAUSIBLE_C = -50.0


@dataclass(frozen=True, slots=True)
class Battery:
    """What ``dumpsys battery`` says. ``level_percent`` is 0 to 100."""

    level_percent: float | None = None
    charging: bool = False
    temperature_c: float | None = None


@dataclass(frozen=True, slots=True)
class ThermalZone:
    """One readable zone of ``/sys/class/thermal``."""

    name: str
    temperature_c: float


@dataclass(frozen=True, slots=True)
class ProbeReport:
    """Everything that one look at a phone told. Unknown texts are empty, unknown numbers None.

    ``device_name`` (model without blanks) and ``soc`` are MACE's words for its file names;
    the bundle makes them safe for that.
    """

    serial: str
    properties: Mapping[str, str] = field(default_factory=dict)
    hardware_serial: str = ""
    manufacturer: str = ""
    model: str = ""
    device_name: str = ""
    soc: str = ""
    abis: tuple[str, ...] = ()
    android_release: str = ""
    sdk: int | None = None
    gpu: str = ""
    gpu_vendor: str = ""
    gl_version: str = ""
    opencl_libraries: tuple[str, ...] = ()
    free_bytes: int | None = None
    total_bytes: int | None = None
    battery: Battery | None = None
    thermal: tuple[ThermalZone, ...] = ()
    is_root: bool = False
    machine: str = ""
    uptime_s: float | None = None
    emulated_engine: str = ""
    """Path on the phone of the ``mace_run`` that an emulated phone brings; else empty."""
    complete: bool = False
    """Whether the script came to its end."""

    @property
    def abi(self) -> str:
        """The preferred abi."""
        return self.abis[0] if self.abis else ""

    def info(self, state: str = "device", reason: str | None = None) -> DeviceInfo:
        """The few facts that a list of phones shows."""
        return DeviceInfo(
            serial=self.serial,
            state=state,
            model=self.model,
            device_name=self.device_name,
            soc=self.soc,
            abi=self.abi,
            abis=self.abis,
            gpu=self.gpu,
            android_release=self.android_release,
            reason=reason,
        )


def probe(device: Device, *, timeout_s: float = PROBE_TIMEOUT_S) -> ProbeReport:
    """Look at ``device`` in one round trip; raises ``DeviceError``s."""
    result = device.run(device_script("probe.sh"), timeout_s=timeout_s)
    report = parse_probe(result.text, device.serial)
    if not report.complete:
        raise DeviceError(
            f"the probe script did not come to its end (exit code {result.exit_code})",
            serial=device.serial,
            exit_code=result.exit_code,
            stdout=result.text[-2048:],
            stderr=result.error_text[-2048:],
            hint="try `adb shell getprop`; restart the phone if that fails as well",
        )
    return report


def parse_probe(text: str, serial: str) -> ProbeReport:
    """Read what ``probe.sh`` printed; anything else that it holds is left out."""
    sections = _sections(text)
    properties = parse_properties(sections.get("properties", ""))

    def prop(*names: str) -> str:
        return next((clean_text(properties[n]) for n in names if properties.get(n)), "")

    model = prop("ro.product.model")
    gpu_vendor, gpu, gl_version = _parse_gles(sections.get("gles", ""))
    free_bytes, total_bytes = _parse_storage(sections.get("storage", ""), sections.get("df", ""))
    sdk = _number(prop("ro.build.version.sdk"))
    return ProbeReport(
        serial=serial,
        properties=properties,
        hardware_serial=prop("ro.serialno", "ro.boot.serialno"),
        manufacturer=prop("ro.product.manufacturer"),
        model=model,
        device_name="".join(model.split()),
        soc=prop(*_SOC_PROPERTIES),
        abis=_parse_abis(properties),
        android_release=prop("ro.build.version.release"),
        sdk=None if sdk is None else int(sdk),
        gpu=gpu or clean_text(sections.get("gpu_model", "")),
        gpu_vendor=gpu_vendor,
        gl_version=gl_version,
        opencl_libraries=tuple(
            line.strip()
            for line in sections.get("opencl", "").splitlines()
            if line.startswith("/") and len(line) < 256
        )[:64],
        free_bytes=free_bytes,
        total_bytes=total_bytes,
        battery=_parse_battery(sections.get("battery", "")),
        thermal=_parse_thermal(sections.get("thermal", "")),
        is_root=sections.get("id", "").strip() == "0",
        machine=clean_text(sections.get("kernel", "")),
        uptime_s=_number((sections.get("uptime", "").split() or [""])[0]),
        emulated_engine=prop(EMULATED_ENGINE_PROPERTY),
        complete="end" in sections,
    )


def parse_properties(text: str) -> dict[str, str]:
    """Parse ``getprop``'s ``[name]: [value]`` lines; a value may go over several lines."""
    properties: dict[str, str] = {}
    name: str | None = None
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        start = _PROPERTY.match(line) if name is None else None
        if start is not None:
            name, lines = start[1], [start[2]]
        elif name is not None:
            # A value without its end must not swallow the properties after it.
            if _PROPERTY.match(line) and line.endswith("]"):
                fresh = _PROPERTY.match(line)
                assert fresh is not None
                name, lines = fresh[1], [fresh[2]]
            else:
                lines.append(line)
        if name is not None and lines[-1].endswith("]"):
            properties[name] = "\n".join(lines)[:-1]
            name = None
    return properties


def clean_text(text: str) -> str:
    """One line without control characters, at most 512 characters: safe to show."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return " ".join(printable.split())[:_MAX_VALUE_CHARACTERS]


def _sections(text: str) -> dict[str, str]:
    """Split at the section lines; of two of one name the first counts."""
    sections: dict[str, str] = {}
    name: str | None = None
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        start = _SECTION.match(line)
        if start is None:
            lines.append(line)
            continue
        if name is not None:
            sections.setdefault(name, "\n".join(lines).strip("\n"))
        name, lines = start[1], []
    if name is not None:
        sections.setdefault(name, "\n".join(lines).strip("\n"))
    return sections


def _number(text: str) -> float | None:
    """Parse a decimal number of sane length."""
    match = re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,9})?", text.strip())
    return float(match[0]) if match else None


def _parse_abis(properties: Mapping[str, str]) -> tuple[str, ...]:
    abis: list[str] = []
    for name in _ABI_PROPERTIES:
        for part in properties.get(name, "").split(","):
            abi = part.strip()
            if re.fullmatch(r"[A-Za-z0-9_-]{1,32}", abi) and abi not in abis:
                abis.append(abi)
    return tuple(abis[:8])


def _parse_gles(text: str) -> tuple[str, str, str]:
    """Vendor, renderer and version out of SurfaceFlinger's ``GLES: VENDOR, RENDERER, VERSION``."""
    _, found, rest = text.partition("GLES:")
    if not found:
        return "", "", ""
    first = rest.split("\n", 1)[0]
    # A renderer's name may hold commas; the version starts with "OpenGL ES".
    match = re.match(r"\s*([^,]*),\s*(.*?)(?:,\s*(OpenGL ES.*))?$", first)
    if match is None:
        return "", clean_text(first), ""
    return clean_text(match[1]), clean_text(match[2]), clean_text(match[3] or "")


def _parse_storage(stat_text: str, df_text: str) -> tuple[int | None, int | None]:
    """Free and total bytes, from ``stat -f`` or else from ``df -k``."""
    words = stat_text.split()
    if len(words) == 3 and all(re.fullmatch("[0-9]{1,18}", word) for word in words):
        available, blocks, block_bytes = (int(word) for word in words)
        if 0 < block_bytes <= 1 << 30:
            return available * block_bytes, blocks * block_bytes
    # Long device names push the numbers to a line of their own.
    match = re.search(r"\s([0-9]{1,15})\s+[0-9]{1,15}\s+([0-9]{1,15})\s+[0-9]{1,3}%", df_text)
    if match:
        return int(match[2]) * 1024, int(match[1]) * 1024
    return None, None


def _parse_battery(text: str) -> Battery | None:
    """Read ``dumpsys battery``: level of scale, status 2 or 5 or a power source, tenths of °C."""
    values: dict[str, str] = {}
    for line in text.splitlines():
        key, colon, value = line.strip().partition(":")
        if colon:
            values.setdefault(key.strip().lower(), value.strip().lower())
    level = _number(values.get("level", ""))
    if level is None and "status" not in values:
        return None
    scale = _number(values.get("scale", "")) or 100.0
    percent = None if level is None else 100.0 * level / scale
    tenths = _number(values.get("temperature", ""))
    powered = any(key.endswith(" powered") and value == "true" for key, value in values.items())
    return Battery(
        level_percent=percent if percent is not None and 0 <= percent <= 100 else None,
        charging=powered or values.get("status") in ("2", "5"),
        temperature_c=_plausible(None if tenths is None else tenths / 10),
    )


def _parse_thermal(text: str) -> tuple[ThermalZone, ...]:
    """Read ``TEMP TYPE`` lines; most kernels give milli-degrees, some whole degrees."""
    zones = []
    for line in text.splitlines():
        value, _, name = line.strip().partition(" ")
        number = _number(value)
        if number is None:
            continue
        degrees = _plausible(number / 1000 if abs(number) >= 1000 else number)
        if degrees is not None:
            zones.append(ThermalZone(clean_text(name)[:64] or "unnamed", degrees))
    return tuple(zones[:256])


def _plausible(degrees: float | None) -> float | None:
    """Sensors that are off report things like -273 or 2147483."""
    if degrees is None or not _MIN_PLAUSIBLE_C < degrees < _MAX_PLAUSIBLE_C:
        return None
    return degrees
