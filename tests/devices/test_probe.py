"""The probe's parser: real output, odd output, any output."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices.probe import (
    Battery,
    ThermalZone,
    clean_text,
    parse_probe,
    parse_properties,
)

PHONE = """
@@droidmace properties
[ro.product.model]: [MI 9]
[ro.product.manufacturer]: [Xiaomi]
[ro.board.platform]: [msmnile]
[ro.soc.model]: [SM8150]
[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a,armeabi]
[ro.build.version.release]: [11]
[ro.build.version.sdk]: [30]
[ro.serialno]: [abc123]
[ro.vendor.mace_run]: [/vendor/bin/mace_run]
[persist.odd]: [first
second]
[after.odd]: [here]

@@droidmace id
2000

@@droidmace kernel
aarch64

@@droidmace uptime
12345.67 45678.90

@@droidmace gles
GLES: Qualcomm, Adreno (TM) 640, OpenGL ES 3.2 V@0502.0 (GIT@3dad7f8ed7, I593c16c433)

@@droidmace opencl
/system/vendor/lib64/libOpenCL.so
/system/vendor/lib/libOpenCL.so

@@droidmace storage
25000 100000 4096

@@droidmace df
Filesystem     1K-blocks    Used Available Use% Mounted on
/dev/block/dm-3   400000  300000    100000  75% /data

@@droidmace battery
Current Battery Service state:
  AC powered: false
  USB powered: true
  Max charging current: 500000
  status: 2
  level: 42
  scale: 50
  temperature: 305

@@droidmace thermal
41200 cpu-0-0-usr
39 gpuss-0-usr
-274000 broken
2147483647 broken-too
30500{blank}

@@droidmace end
""".replace("{blank}", " ")


def test_reads_a_phone():
    report = parse_probe(PHONE, "serial")
    assert report.complete
    assert report.serial == "serial"
    assert (report.model, report.device_name, report.soc) == ("MI 9", "MI9", "msmnile")
    assert report.abis == ("arm64-v8a", "armeabi-v7a", "armeabi")
    assert report.abi == "arm64-v8a"
    assert (report.android_release, report.sdk) == ("11", 30)
    assert (report.gpu_vendor, report.gpu) == ("Qualcomm", "Adreno (TM) 640")
    assert report.gl_version.startswith("OpenGL ES 3.2 V@0502.0 (GIT@3dad7f8ed7, I59")
    assert report.opencl_libraries[0] == "/system/vendor/lib64/libOpenCL.so"
    assert (report.free_bytes, report.total_bytes) == (25000 * 4096, 100000 * 4096)
    assert report.battery == Battery(84.0, True, 30.5)
    assert report.thermal == (
        ThermalZone("cpu-0-0-usr", 41.2),
        ThermalZone("gpuss-0-usr", 39.0),
        ThermalZone("unnamed", 30.5),
    )
    assert report.properties["persist.odd"] == "first\nsecond"
    assert report.properties["after.odd"] == "here"
    assert report.hardware_serial == "abc123"
    assert report.emulated_engine == "/vendor/bin/mace_run"
    assert not report.is_root
    assert report.machine == "aarch64"
    assert report.uptime_s == 12345.67
    info = report.info()
    assert info.usable
    assert (info.gpu, info.soc, info.abi) == ("Adreno (TM) 640", "msmnile", "arm64-v8a")


@pytest.mark.parametrize(
    ("properties", "soc"),
    [
        ("[ro.board.platform]: []\n[ro.soc.model]: [SM1]\n[ro.hardware]: [qcom]", "SM1"),
        ("[ro.hardware]: [exynos]\n[ro.chipname]: [x]", "exynos"),
        ("[ro.chipname]: [mt6785]", "mt6785"),
        ("", ""),
    ],
)
def test_soc_falls_back(properties, soc):
    assert parse_probe(f"@@droidmace properties\n{properties}\n", "s").soc == soc


def test_free_space_from_df_when_stat_is_too_old():
    text = PHONE.replace("25000 100000 4096", "")
    report = parse_probe(text, "s")
    assert (report.free_bytes, report.total_bytes) == (100000 * 1024, 400000 * 1024)


def test_a_renderer_may_hold_commas_and_the_version_be_absent():
    report = parse_probe("@@droidmace gles\nGLES: ARM, Mali-G78, r0p1\n", "s")
    assert (report.gpu_vendor, report.gpu, report.gl_version) == ("ARM", "Mali-G78, r0p1", "")


def test_gpu_from_the_kernel_when_there_is_no_surfaceflinger():
    assert parse_probe("@@droidmace gpu_model\nAdreno640v2\n", "s").gpu == "Adreno640v2"


def test_lines_from_a_terminal_read_the_same():
    assert parse_probe(PHONE.replace("\n", "\r\n"), "s") == parse_probe(PHONE, "s")


def test_an_interrupted_probe_is_not_complete():
    assert not parse_probe(PHONE[: PHONE.index("@@droidmace end")], "s").complete


def test_a_value_without_its_end_does_not_swallow_the_rest():
    text = "[a]: [x\n[b]: [y]\n[c]: [z]\n"
    assert parse_properties(text)["c"] == "z"


def test_a_property_cannot_fake_a_section():
    text = "@@droidmace properties\n[a]: [x\n@@droidmace id\n0]\n\n@@droidmace id\n2000\n"
    # The first of a name counts, so what comes before it must be ours: it is not here, but a
    # property cannot do more than that, and nothing is decided by being root.
    assert parse_probe(text, "s").abis == ()


@given(st.text(max_size=400))
def test_any_text_is_read(text):
    report = parse_probe(text, "s")
    assert not report.complete or "@@droidmace end" in text


_words = st.sampled_from(
    ["@@droidmace ", "properties", "gles", "GLES:", "battery", "thermal", "storage", "df", "end",
     "level:", "scale: 0", "[ro.product.model]: [", "]", "\n", "\r", " ", ",", "%", "-", "1",
     "999999999999999999", "1e9", "nan", "inf", "\x1b[31m", "\x00", "é", "٣"]
)  # fmt: skip


@given(st.lists(_words, max_size=60).map("".join))
def test_any_mixture_of_its_own_words_is_read(text):
    report = parse_probe(text, "s")
    for value in dataclasses.asdict(report.info()).values():
        if isinstance(value, str):
            assert value.isprintable()
    for zone in report.thermal:
        assert -50 < zone.temperature_c < 200
    if report.battery and report.battery.level_percent is not None:
        assert 0 <= report.battery.level_percent <= 100


@given(st.dictionaries(st.text("abc._", min_size=1), st.text("xyz [:\n", max_size=20)))
def test_properties_come_back(properties):
    # getprop itself is ambiguous about values that hold its own brackets.
    properties = {key: value.replace("[", "(") for key, value in properties.items()}
    text = "".join(f"[{key}]: [{value}]\n" for key, value in properties.items())
    assert parse_properties(text) == properties


@given(st.text())
def test_clean_text_is_one_printable_line(text):
    assert clean_text(text).isprintable()
