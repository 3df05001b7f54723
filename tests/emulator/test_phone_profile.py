"""Phone profiles: those that come along, and everything that can be wrong with one."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from droidmace.emulator.profile import (
    available_profiles,
    load_profile,
    parse_profile,
    parse_size,
    read_profile_data,
    with_overrides,
)
from droidmace.errors import ConfigError

ADRENO = read_profile_data("adreno")[1]
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3)
    ),
    max_leaves=8,
)


def test_every_profile_that_comes_along_loads() -> None:
    names = list(available_profiles())
    assert {"adreno", "mali"} <= set(names)
    for name in names:
        profile = load_profile(name)
        assert profile.name == name
        assert "arm64-v8a" in profile.abis
        assert profile.thermal_zones
        assert profile.gpu.clock is not None
        assert profile.cpu_policies
        assert not profile.rooted


def test_a_phone_may_show_no_clocks() -> None:
    data = {key: value for key, value in ADRENO.items() if key != "cpu_policies"}
    profile = parse_profile("p", with_overrides(data, {"gpu.clock": None}), where="p.yml")
    assert profile.gpu.clock is None
    assert profile.cpu_policies == {}


def test_another_driver_is_another_platform_version() -> None:
    for name in ("adreno", "mali"):
        gpu = load_profile(name).gpu
        one, other = gpu.identity("intel", "1.0"), gpu.identity("pocl", "3.1")
        assert one["platform_version"] != other["platform_version"]
        assert one["device_name"] == other["device_name"]
        assert "{" not in one["platform_version"]


def test_adreno_version_has_what_mace_reads() -> None:
    identity = load_profile("adreno").gpu.identity("intel", "1.0")
    assert "Date: 10/01/21 " in identity["platform_version"]
    assert identity["platform_version"].partition("Remote Branch: ")[2].startswith("refs/tags/")
    assert identity["device_version"] == "OpenCL 2.0 Adreno(TM) 640"


def test_mali_version_has_no_commas() -> None:
    assert "," not in load_profile("mali").gpu.identity("pocl", "3.1-3")["platform_version"]


@pytest.mark.parametrize(
    ("key", "value", "where", "message"),
    [
        ("modell", "x", "adreno", "unknown key 'modell'"),
        ("gpu.colour", "red", "adreno: gpu", "unknown key 'colour'"),
        ("model", 9, "adreno: model", "expected a line of text, found 9"),
        ("model", "two\nlines", "adreno: model", "expected a line of text"),
        ("model", "", "adreno: model", "expected a line of text"),
        ("abis", "arm64-v8a", "adreno: abis", "expected a list of some of"),
        ("abis", [], "adreno: abis", "expected a list"),
        ("abis", ["mips"], "adreno: abis", "expected a list of some of"),
        ("abis", [["x86"]], "adreno: abis", "expected a list of some of"),
        ("sdk", "30", "adreno: sdk", "expected a whole number from 21 to 99"),
        ("sdk", True, "adreno: sdk", "expected a whole number"),
        ("gpu", None, "adreno: gpu", "expected a mapping, found nothing"),
        ("gpu.platform_version", "{__class__}", "adreno: gpu: platform_version", "no placeholders"),
        ("gpu.driver", None, "adreno: gpu: driver", "expected a line of text, found nothing"),
        ("battery.level", 101, "adreno: battery: level", "from 0 to 100"),
        ("battery.usb_powered", "yes", "adreno: battery: usb_powered", "true or false"),
        ("battery.temperature_c", float("nan"), "adreno: battery: temperature_c", "a number"),
        ("thermal_zones", [40], "adreno: thermal_zones", "expected a mapping"),
        ("thermal_zones", {"gpu": "hot"}, "adreno: thermal_zones: gpu", "a temperature in °C"),
        ("properties", {"a b": "c"}, "adreno: properties", "'a b' is not a property name"),
        ("properties", {"a": "b\nro.x=1"}, "adreno: properties: a", "a line of text"),
        ("storage", "lots", "adreno: storage", "a size such as 64M or 2G"),
        ("link_mib_per_s", 0, "adreno: link_mib_per_s", "expected a number from 0.01"),
        ("rooted", "yes", "adreno: rooted", "true or false"),
        ("gpu.clock", 585, "adreno: gpu: clock", "expected a mapping, found 585"),
        (
            "gpu.clock.mhz",
            None,
            "adreno: gpu: clock: mhz",
            "a number from 1 to 10000, found nothing",
        ),
        ("gpu.clock.node", "../x", "adreno: gpu: clock: node", "kgsl-3d0, or a name"),
        ("gpu.clock.governor", "a b", "adreno: gpu: clock: governor", "the name of a governor"),
        ("gpu.clock.colour", "red", "adreno: gpu: clock", "unknown key 'colour'"),
        ("cpu_policies", ["policy0"], "adreno: cpu_policies", "expected a mapping"),
        (
            "cpu_policies",
            {"../x": {}},
            "adreno: cpu_policies",
            "expected policy0, policy4, …, found",
        ),
        ("cpu_policies", {0: {}}, "adreno: cpu_policies", "expected policy0, policy4, …, found 0"),
        ("cpu_policies.policy0.mhz", 0, "adreno: cpu_policies: policy0: mhz", "a number from 1"),
        ("cpu_policies.policy0.x", 1, "adreno: cpu_policies: policy0", "unknown key 'x'"),
    ],
)
def test_wrong_values_are_named(key: str, value: object, where: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        load_profile("adreno", {key: value})
    assert caught.value.where == where


def test_missing_key_is_named() -> None:
    data = {key: value for key, value in ADRENO.items() if key != "soc"}
    with pytest.raises(ConfigError, match="expected a line of text, found nothing") as caught:
        parse_profile("p", data, where="p.yml")
    assert caught.value.where == "p.yml: soc"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"model: [", "not YAML"),
        (b"- a\n- b\n", "expected a mapping at the top"),
        (b"", "expected a mapping at the top"),
        (b"\xff\xfe\x00", "not YAML"),
        (b"!!python/object/apply:os.system [echo]", "not YAML"),
        (b"# " + b"x" * (1 << 20), "too large"),
    ],
)
def test_files_that_are_no_profile(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.yml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=message) as caught:
        load_profile(str(path))
    assert caught.value.where == str(path)


def test_unknown_profile_lists_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no phone profile 'nokia'") as caught:
        load_profile("nokia")
    assert "adreno, mali" in str(caught.value.hint)


def test_profile_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yml"
    path.write_text(yaml.safe_dump(ADRENO | {"model": "Mine", "storage": "64M"}))
    profile = load_profile(str(path), {"properties.ro.vendor.x": 1, "gpu.driver": "pocl"})
    assert (profile.name, profile.model, profile.storage_bytes) == ("mine", "Mine", 64 << 20)
    assert profile.properties == {"ro.vendor.x": "1"}
    assert profile.gpu.driver == "pocl"


def test_overrides_leave_the_original_alone() -> None:
    before = yaml.safe_dump(ADRENO)
    with_overrides(ADRENO, {"gpu.driver": "x", "battery.level": 1, "model": "y"})
    assert yaml.safe_dump(ADRENO) == before
    with pytest.raises(ConfigError, match="'model' has no keys of its own"):
        with_overrides(ADRENO, {"model.name": "y"})


@given(key=st.sampled_from([*ADRENO, "storage", "properties", "link_mib_per_s"]), value=anything)
def test_any_value_is_taken_or_named(key: str, value: object) -> None:
    try:
        profile = parse_profile("p", ADRENO | {key: value}, where="p")
    except ConfigError as exc:
        assert key in str(exc.where)
    else:
        assert "\n" not in "".join(profile.properties.values()) + profile.model


@given(data=st.dictionaries(st.text(max_size=8), anything))
def test_any_mapping_is_refused_with_a_config_error(data: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        parse_profile("p", data, where="p")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("64M", 64 << 20), ("2G", 2 << 30), (" 3 KiB ", 3072), ("1tb", 1 << 40)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "0M", "-1", "1.5G", "M", "1X", "1 2"])
def test_bad_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)
