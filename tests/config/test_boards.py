"""MACE's device file."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from droidmace.config import Board, load_boards
from droidmace.errors import ConfigError

TWO = """\
devices:
  nanopi:
    target_abis: [arm64, armhf]
    target_socs: RK3399
    models: FriendlyElec Nanopi M4
    address: 10.0.0.1
    username: user
  raspberry:
    target_abis: armv7l
    target_socs: [BCM2837, BCM2711]
    address: 10.0.0.2
"""


def load(tmp_path: Path, text: str) -> tuple[Board, ...]:
    path = tmp_path / "devices.yml"
    path.write_text(text, "utf-8")
    return load_boards(path)


def test_boards_are_read(tmp_path: Path) -> None:
    nanopi, raspberry = load(tmp_path, TWO)
    assert nanopi == Board(
        name="nanopi",
        abis=("aarch64-linux-gnu", "arm-linux-gnueabihf"),
        socs=("RK3399",),
        model="FriendlyElecNanopiM4",
        address="10.0.0.1",
        username="user",
    )
    assert raspberry.abis == ("arm-linux-gnueabihf",)
    assert (raspberry.model, raspberry.username) == ("raspberry", "")


@pytest.mark.parametrize(
    ("abis", "socs", "fitting"),
    [
        (("arm-linux-gnueabihf",), ("all",), ["nanopi", "raspberry"]),
        (("aarch64-linux-gnu", "host"), ("all",), ["nanopi"]),
        (("arm-linux-gnueabihf",), ("bcm2711",), ["raspberry"]),
        (("aarch64-linux-gnu",), ("BCM2711",), []),
        (("arm64-v8a",), ("all",), []),
    ],
)
def test_which_boards_fit(
    tmp_path: Path, abis: tuple[str, ...], socs: tuple[str, ...], fitting: list[str]
) -> None:
    assert [board.name for board in load(tmp_path, TWO) if board.fits(abis, socs)] == fitting


@pytest.mark.parametrize(
    ("old", "new", "line", "complaint"),
    [
        ("devices:", "boards:", 1, "the key 'devices' is missing"),
        ("arm64, ", "arm65, ", 3, "'arm65' is not one of"),
        ("    address: 10.0.0.1\n", "", 3, "the key 'address' is missing"),
        ("username", "user", 7, "unknown key"),
    ],
)
def test_a_mistake_is_reported_with_its_line(
    tmp_path: Path, old: str, new: str, line: int, complaint: str
) -> None:
    assert old in TWO
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, TWO.replace(old, new, 1))
    assert complaint in str(caught.value)
    assert caught.value.where == f"{tmp_path / 'devices.yml'}:{line}"


@settings(max_examples=50, deadline=None)
@given(
    entry=st.dictionaries(
        st.sampled_from(["target_abis", "target_socs", "address", "models", "x"]),
        st.none() | st.integers() | st.text(max_size=5) | st.lists(st.text(max_size=5), max_size=2),
        max_size=5,
    )
)
def test_whatever_is_written_ends_in_boards_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, entry: dict[str, object]
) -> None:
    try:
        (board,) = load(tmp_path_factory.mktemp("y"), yaml.safe_dump({"devices": {"b": entry}}))
    except ConfigError as error:
        assert "devices.yml" in (error.where or "")
    else:
        assert board.name == "b"
