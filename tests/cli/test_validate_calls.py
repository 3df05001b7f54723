"""What ``droidmace validate`` tells to call next."""

from __future__ import annotations

from pathlib import Path

from droidmace.cli.validate import _bisect


def test_the_command_that_goes_on_is_for_the_same_phone() -> None:
    said = _bisect(
        Path("my net.yml"),
        None,
        serial="adreno-1",
        emulate=False,
        profile=None,
        model="net",
        mace_run=Path("bin/mace_run"),
        allow_plugin=True,
        adb_port=5038,
    )
    assert said == (
        "droidmace bisect -c 'my net.yml' --serial adreno-1 --model net "
        "--mace-run bin/mace_run --allow-plugin --adb-port 5038"
    )
    assert _bisect(Path("n.yml"), None, serial=None, emulate=True, profile="mali") == (
        "droidmace bisect -c n.yml --emulate --profile mali"
    )


def test_it_is_not_told_for_samples_that_bisect_does_not_read() -> None:
    assert _bisect(Path("net.yml"), Path("images"), serial="1") == ""
