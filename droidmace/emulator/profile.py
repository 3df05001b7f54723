"""Profiles of emulated phones: ``configs/phones/*.yml`` as checked values.

A profile says what the phone is (model, soc, abis, Android release), what its GPU claims to be,
and the state of battery, thermal zones and clocks. Unknown keys are errors.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import yaml

from droidmace.errors import ConfigError
from droidmace.resources import phone_profiles_dir

KNOWN_ABIS = ("arm64-v8a", "armeabi-v7a", "armeabi", "x86_64", "x86", "riscv64")
PROPERTY_NAME = re.compile(r"[A-Za-z0-9_@:-]+(\.[A-Za-z0-9_@:-]+)*")

_SIZE = re.compile(r"(\d+)\s*([KMGT]?)i?B?", re.IGNORECASE)
_SIZE_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_MAX_PROFILE_BYTES = 1 << 20
_MAX_TEXT = 1024
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_PLACEHOLDERS = ("driver_name", "driver_version")

_POLICY = re.compile(r"policy[0-9]{1,3}")
_NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.,:-]{0,63}")
_GOVERNOR = re.compile(r"[a-z][a-z0-9_-]{0,31}")

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Clock:
    """What sysfs says of a clock: its frequency, and the governor that decides on it."""

    mhz: float
    governor: str


@dataclass(frozen=True, slots=True)
class GpuClock(Clock):
    """The GPU's clock. ``node`` is where it stands: ``kgsl-3d0`` (Adreno, ``/sys/class/kgsl``), or
    a name in ``/sys/class/devfreq``.
    """

    node: str


@dataclass(frozen=True, slots=True)
class GpuProfile:
    """What the phone's GPU claims to be, and the driver that really does the work.

    ``platform_version`` may hold ``{driver_name}`` and ``{driver_version}``: those of the real
    driver, so that another driver is another platform info, as on real phones.
    """

    driver: str
    platform_name: str
    platform_profile: str
    platform_version: str
    device_name: str
    device_version: str
    gles: str
    clock: GpuClock | None = None
    """None: the phone shows none, as many do."""

    def identity(self, driver_name: str, driver_version: str) -> dict[str, str]:
        """The identity strings with the real driver's name and version filled in."""
        values = {"driver_name": driver_name, "driver_version": driver_version}

        def filled(text: str) -> str:
            return _PLACEHOLDER.sub(lambda match: values[match[1]], text)

        return {
            "platform_name": filled(self.platform_name),
            "platform_profile": self.platform_profile,
            "platform_version": filled(self.platform_version),
            "device_name": filled(self.device_name),
            "device_version": filled(self.device_version),
        }


@dataclass(frozen=True, slots=True)
class BatteryProfile:
    """State of the battery: charge in percent, temperature in °C, charging over USB or not."""

    level: int = 80
    temperature_c: float = 30.0
    usb_powered: bool = True


@dataclass(frozen=True, slots=True)
class PhoneProfile:
    """A whole profile. ``storage_bytes`` None means: no limit but the host's disk."""

    name: str
    model: str
    brand: str
    manufacturer: str
    device: str
    soc: str
    soc_model: str
    hardware: str
    abis: tuple[str, ...]
    android_release: str
    sdk: int
    gpu: GpuProfile
    battery: BatteryProfile
    thermal_zones: Mapping[str, float]
    """Zone type (``gpuss-0-usr``) to temperature in °C."""
    properties: Mapping[str, str]
    """Further system properties; they win over those that follow from the rest."""
    storage_bytes: int | None = None
    link_mib_per_s: float | None = None
    """Speed of the USB cable to imitate; None: as fast as it goes."""
    cpu_policies: Mapping[str, Clock] = field(default_factory=dict)
    """The kernel's groups of cores (``policy0``) and their clocks."""
    rooted: bool = False
    """Whether the shell may set governors, as on a phone whose adbd runs as root. Nothing else."""


def parse_size(text: str) -> int:
    """Bytes of a size such as ``64M`` or ``2G`` (powers of 1024). Raises ``ValueError``."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or int(match[1]) == 0:
        raise ValueError(f"{text!r} is not a size")
    return int(match[1]) * _SIZE_UNITS[match[2].upper()]


def available_profiles() -> dict[str, Path]:
    """The profiles that come with droidmace: name to file."""
    return {path.stem: path for path in sorted(phone_profiles_dir().glob("*.yml"))}


def read_profile_data(profile: str) -> tuple[str, dict[str, object]]:
    """Name and raw content of a profile, given by name (``adreno``) or as a path to a YAML file.

    Raises ``ConfigError``.
    """
    known = available_profiles()
    path = known.get(profile, Path(profile))
    if not path.is_file():
        raise ConfigError(
            f"no phone profile {profile!r}",
            hint=f"one of {', '.join(known)}, or the path of a YAML file",
        )
    if path.stat().st_size > _MAX_PROFILE_BYTES:
        raise ConfigError("too large for a phone profile", where=str(path))
    try:
        data = yaml.safe_load(path.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"not YAML: {exc}", where=str(path)) from exc
    if not isinstance(data, dict):
        raise ConfigError("expected a mapping at the top", where=str(path))
    return path.stem, data


def with_overrides(
    data: Mapping[str, object], overrides: Mapping[str, object]
) -> dict[str, object]:
    """A copy of raw profile data in which dotted keys (``gpu.platform_version``) are replaced."""
    result = dict(data)
    for dotted, value in overrides.items():
        head, _, rest = dotted.partition(".")
        if rest:
            section = result.get(head, {})
            if not isinstance(section, dict):
                raise ConfigError(f"{head!r} has no keys of its own", where=f"override {dotted}")
            # Property and zone names have dots of their own.
            nested = {rest: value} if head in ("properties", "thermal_zones") else None
            result[head] = section | nested if nested else with_overrides(section, {rest: value})
        else:
            result[head] = value
    return result


def parse_profile(name: str, data: Mapping[str, object], *, where: str) -> PhoneProfile:
    """Check raw profile data. Raises ``ConfigError`` with ``where`` and the key path."""
    top = _Section(data, where)
    gpu = top.section("gpu")
    battery = top.section("battery", optional=True)
    clock = gpu.section("clock") if gpu.has("clock") else None
    profile = PhoneProfile(
        name=name,
        model=top.text("model"),
        brand=top.text("brand"),
        manufacturer=top.text("manufacturer"),
        device=top.text("device"),
        soc=top.text("soc"),
        soc_model=top.text("soc_model"),
        hardware=top.text("hardware"),
        abis=top.abis("abis"),
        android_release=top.text("android_release"),
        sdk=top.integer("sdk", 21, 99),
        gpu=GpuProfile(
            driver=gpu.text("driver"),
            platform_name=gpu.template("platform_name"),
            platform_profile=gpu.text("platform_profile", default="FULL_PROFILE"),
            platform_version=gpu.template("platform_version"),
            device_name=gpu.template("device_name"),
            device_version=gpu.template("device_version"),
            gles=gpu.text("gles"),
            clock=None if clock is None else _gpu_clock(clock),
        ),
        battery=BatteryProfile(
            level=battery.integer("level", 0, 100, default=80),
            temperature_c=battery.number("temperature_c", -40, 150, default=30.0),
            usb_powered=battery.flag("usb_powered", default=True),
        ),
        thermal_zones=top.table("thermal_zones", _temperature),
        properties=top.table("properties", _property_value),
        storage_bytes=top.size("storage"),
        link_mib_per_s=top.optional_number("link_mib_per_s", 0.01, 100_000),
        cpu_policies=_cpu_policies(top.section("cpu_policies", optional=True)),
        rooted=top.flag("rooted", default=False),
    )
    for section in (gpu, battery, top):
        section.refuse_unknown()
    for key in profile.properties:
        if not PROPERTY_NAME.fullmatch(key):
            raise ConfigError(f"{key!r} is not a property name", where=f"{where}: properties")
    return profile


def _gpu_clock(section: _Section) -> GpuClock:
    clock = GpuClock(
        mhz=section.number("mhz", 1, 10_000),
        governor=section.word("governor", _GOVERNOR, "the name of a governor"),
        node=section.word("node", _NODE, "kgsl-3d0, or a name in /sys/class/devfreq"),
    )
    section.refuse_unknown()
    return clock


def _cpu_policies(table: _Section) -> dict[str, Clock]:
    policies: dict[str, Clock] = {}
    for name in table.keys("policy0, policy4, …", _POLICY):
        section = table.section(name)
        policies[name] = Clock(
            mhz=section.number("mhz", 1, 10_000),
            governor=section.word("governor", _GOVERNOR, "the name of a governor"),
        )
        section.refuse_unknown()
    return policies


def load_profile(profile: str, overrides: Mapping[str, object] | None = None) -> PhoneProfile:
    """A profile by name or path, with dotted keys replaced. Raises ``ConfigError``."""
    name, data = read_profile_data(profile)
    return parse_profile(name, with_overrides(data, overrides or {}), where=profile)


class _Section:
    """A mapping of a profile: typed reads that remember which keys were asked for."""

    def __init__(self, data: Mapping[str, object], where: str) -> None:
        self._data = data
        self._where = where
        self._asked: set[str] = set()

    def _get(self, key: str) -> object:
        self._asked.add(key)
        return self._data.get(key)

    def _wrong(self, key: str, expected: str, value: object) -> ConfigError:
        found = "nothing" if value is None else repr(value)
        return ConfigError(f"expected {expected}, found {found}", where=f"{self._where}: {key}")

    def section(self, key: str, *, optional: bool = False) -> _Section:
        value = self._get(key)
        if value is None and optional:
            value = {}
        if not isinstance(value, dict):
            raise self._wrong(key, "a mapping", value)
        return _Section(value, f"{self._where}: {key}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self._get(key)
        if value is None and default is not None:
            return default
        if not _is_line(value):
            raise self._wrong(key, "a line of text", value)
        assert isinstance(value, str)
        return value

    def has(self, key: str) -> bool:
        return self._get(key) is not None

    def keys(self, expected: str, pattern: re.Pattern[str]) -> list[str]:
        """Its keys, each of which must be of this form."""
        for key in self._data:
            if not isinstance(key, str) or not pattern.fullmatch(key):
                raise ConfigError(f"expected {expected}, found {key!r}", where=self._where)
        return list(self._data)

    def word(self, key: str, pattern: re.Pattern[str], expected: str) -> str:
        value = self._get(key)
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise self._wrong(key, expected, value)
        return value

    def template(self, key: str) -> str:
        value = self.text(key)
        unknown = [name for name in _PLACEHOLDER.findall(value) if name not in _PLACEHOLDERS]
        if unknown:
            names = " and ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
            raise self._wrong(key, f"no placeholders but {names}", value)
        return value

    def integer(self, key: str, low: int, high: int, default: int | None = None) -> int:
        value = self._get(key)
        if value is None and default is not None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise self._wrong(key, f"a whole number from {low} to {high}", value)
        return value

    def optional_number(self, key: str, low: float, high: float) -> float | None:
        value = self._get(key)
        return None if value is None else self._number(key, value, low, high)

    def number(self, key: str, low: float, high: float, default: float | None = None) -> float:
        value = self._get(key)
        if value is None and default is not None:
            return default
        return self._number(key, value, low, high)

    def _number(self, key: str, value: object, low: float, high: float) -> float:
        if (
            not isinstance(value, int | float)
            or isinstance(value, bool)
            or not low <= value <= high
        ):
            raise self._wrong(key, f"a number from {low} to {high}", value)
        return float(value)

    def flag(self, key: str, *, default: bool) -> bool:
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return value

    def abis(self, key: str) -> tuple[str, ...]:
        value = self._get(key)
        if not isinstance(value, list) or not value or any(abi not in KNOWN_ABIS for abi in value):
            raise self._wrong(key, f"a list of some of {', '.join(KNOWN_ABIS)}", value)
        return tuple(value)

    def size(self, key: str) -> int | None:
        value = self._get(key)
        if value is None:
            return None
        try:
            return parse_size(str(value))
        except ValueError as exc:
            raise self._wrong(key, "a size such as 64M or 2G", value) from exc

    def table(self, key: str, convert: Callable[[object], _Value]) -> dict[str, _Value]:
        value = self._get(key)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise self._wrong(key, "a mapping", value)
        result: dict[str, _Value] = {}
        for name, item in value.items():
            try:
                if not _is_line(name):
                    raise ValueError("a line of text as key")
                result[name] = convert(item)
            except ValueError as exc:
                raise self._wrong(f"{key}: {name}", str(exc), item) from exc
        return result

    def refuse_unknown(self) -> None:
        unknown = sorted(str(key) for key in self._data if key not in self._asked)
        if unknown:
            raise ConfigError(
                f"unknown key {unknown[0]!r}",
                where=self._where,
                hint=f"known keys: {', '.join(sorted(self._asked))}",
            )


def _is_line(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_TEXT and value.isprintable()


def _temperature(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not -40 <= value <= 200:
        raise ValueError("a temperature in °C")
    return float(value)


def _property_value(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or not _is_line(str(value)):
        raise ValueError("a line of text")
    return str(value)
