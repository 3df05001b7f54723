"""The reader of a monitor's lines: real output, odd output, any output."""

from __future__ import annotations

import copy
import pickle

from hypothesis import given
from hypothesis import strategies as st

from droidmace.devices import samples
from droidmace.devices.samples import MonitorLog, SampleReader, ThermalSample, parse_monitor

HEAD = """\
droidmace monitor 1
column uptime_s
column zone_mc gpuss-0-usr
column zone_mc battery
column gpu_hz unnamed
column cpu_khz policy0
column cpu_khz policy4
column battery_percent unnamed
column battery_dc unnamed
column battery_ua unnamed
samples
"""
LINE = "100.25 61400 30500 585000000 1785600 2419200 84 305 -450000\n"


def test_reads_a_sample():
    log = parse_monitor(HEAD + LINE + "end stopped\n")
    expected = ThermalSample(
        uptime_s=100.25,
        zones_c={"gpuss-0-usr": 61.4, "battery": 30.5},
        gpu_mhz=585.0,
        cpu_mhz=(1785.6, 2419.2),
        battery_percent=84.0,
        battery_c=30.5,
        battery_ma=-450.0,
    )
    assert log == MonitorLog((expected,), "stopped")
    assert expected.hottest_c == 61.4
    assert pickle.loads(pickle.dumps(log)) == log == copy.deepcopy(log)


def test_what_the_phone_does_not_show():
    (sample,) = parse_monitor(HEAD + "100.25 - - - - - - - -\n").samples
    assert sample == ThermalSample(100.25)
    assert sample.hottest_c is None


def test_a_log_that_was_cut_off():
    log = parse_monitor(HEAD + LINE + LINE.replace("100.25", "101.25")[:30])
    assert (len(log.samples), log.end, log.unreadable_lines) == (1, "", 1)


def test_implausible_values_are_left_out():
    values = "100.25 -274000 2147483647 -5 99999999999 1 101 3050 999999999999"
    (sample,) = parse_monitor(HEAD + values).samples
    assert sample == ThermalSample(100.25, cpu_mhz=(0.001,))


def test_whole_degrees():
    assert parse_monitor(HEAD + LINE.replace("61400", "61")).samples[0].zones_c["gpuss-0-usr"] == 61


def test_lines_that_are_none():
    odd = ["", "nonsense", "1 2 3", LINE.strip() + " 5", "x" + LINE.strip(), "9" * 9000]
    log = parse_monitor(HEAD + "\n".join([*odd, ""]) + LINE)
    assert (len(log.samples), log.unreadable_lines) == (1, len(odd))


def test_time_does_not_go_back():
    log = parse_monitor(HEAD + LINE + LINE.replace("100.25", "99.25") + LINE)
    assert [one.uptime_s for one in log.samples] == [100.25, 100.25]
    assert log.unreadable_lines == 1


def test_zones_of_one_name_are_kept_apart():
    head = "droidmace monitor 1\ncolumn uptime_s\n" + "column zone_mc cpu\n" * 3 + "samples\n"
    (sample,) = parse_monitor(head + "1.00 41000 42000 43000\n").samples
    assert sample.zones_c == {"cpu": 41.0, "cpu#2": 42.0, "cpu#3": 43.0}


def test_the_hottest_zone_is_one_on_the_chip():
    def hottest(**zones):
        return ThermalSample(1.0, {name.replace("_", "-"): value for name, value in zones.items()})

    assert hottest(cpu_0=41.0, battery=50.0, gpu_skin=60.0).hottest_c == 41.0
    assert hottest(battery=50.0).hottest_c == 50.0


def test_asks_by_either_clock():
    log = MonitorLog(tuple(ThermalSample(float(n)) for n in range(10)), clock_offset_s=1000.0)
    assert [one.uptime_s for one in log.between(2, 4)] == [2, 3, 4]
    assert [one.uptime_s for one in log.during(1002, 1004)] == [2, 3, 4]
    assert MonitorLog(log.samples).during(0, 1e9) == ()


def test_keeps_a_bounded_number(monkeypatch):
    monkeypatch.setattr(samples, "MAX_SAMPLES", 3)
    log = parse_monitor(HEAD + LINE * 5)
    assert (len(log.samples), log.unreadable_lines) == (3, 2)


words = st.sampled_from(
    ["droidmace monitor 1", "samples", "column", "uptime_s", "zone_mc", "gpu_hz", "cpu_khz", "-",
     "end", "stopped", "1.00", "2.50", "41000", "-1", "0", "\r", "\x00", "٣"]
)  # fmt: skip
lines = st.lists(st.lists(words | st.text(max_size=5), max_size=6).map(" ".join), max_size=30)


@given(st.text(max_size=300) | lines.map("\n".join) | lines.map(lambda ls: HEAD + "\n".join(ls)))
def test_any_text_is_read(text):
    log = parse_monitor(text)
    assert len(log.samples) + log.unreadable_lines <= len(text.splitlines())
    times = [one.uptime_s for one in log.samples]
    assert times == sorted(times)
    for one in log.samples:
        assert all(-50 < value < 200 for value in one.zones_c.values())
        assert one.gpu_mhz is None or 0 <= one.gpu_mhz <= 20_000


numbers = st.none() | st.integers(1000, 199_000)


@given(st.lists(st.tuples(numbers, numbers, st.none() | st.integers(0, 10**10)), max_size=8))
def test_what_was_written_is_read_back(rows):
    head = ["droidmace monitor 1", "column uptime_s", "column zone_mc a", "column zone_mc b",
            "column gpu_hz unnamed", "samples"]  # fmt: skip
    body = [
        f"{n}.00 " + " ".join("-" if value is None else str(value) for value in row)
        for n, row in enumerate(rows)
    ]
    log = parse_monitor("\n".join([*head, *body]))
    assert log.unreadable_lines == 0
    for (a, b, gpu), one in zip(rows, log.samples, strict=True):
        seen = {"a": a, "b": b}
        assert one.zones_c == {k: v / 1000 for k, v in seen.items() if v is not None}
        assert one.gpu_mhz == (None if gpu is None else gpu / 1e6)


def test_a_reader_can_be_fed_as_lines_arrive():
    reader = SampleReader()
    heard = [reader.feed(line) for line in (HEAD + LINE).splitlines()]
    assert heard[:-1] == [None] * (len(heard) - 1)
    assert heard[-1] is not None
