"""MACE's device file: Arm-Linux boards that are reached over ssh."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from droidmace.config.values import ABIS
from droidmace.yamltree import YamlNode, load_yaml

# Device files call the abis as `uname -m` and Debian do.
_OTHER_NAMES = {
    "arm64": "aarch64-linux-gnu",
    "aarch64": "aarch64-linux-gnu",
    "armhf": "arm-linux-gnueabihf",
    "armv7l": "arm-linux-gnueabihf",
}


@dataclass(frozen=True, slots=True)
class Board:
    """One entry of ``devices:``."""

    name: str
    abis: tuple[str, ...]
    """In the words of ``target_abis``."""
    socs: tuple[str, ...]
    model: str
    """The board's full name, without blanks, as MACE puts it into file names."""
    address: str
    username: str

    def fits(self, abis: tuple[str, ...], socs: tuple[str, ...]) -> bool:
        """Whether it has one of the abis and, unless ``all`` will do, one of the socs."""
        theirs = {soc.lower() for soc in self.socs}
        return bool({*self.abis} & {*abis}) and (
            "all" in socs or any(soc.lower() in theirs for soc in socs)
        )


def load_boards(path: Path) -> tuple[Board, ...]:
    """Read and check a device file.

    Raises ``ConfigError`` that names the file, the line, the key path and what was expected.
    """
    root = load_yaml(path).mapping()
    boards = tuple(_board(name, node) for name, node in root.need("devices").mapping().each())
    root.done()
    return boards


def _board(name: str, node: YamlNode) -> Board:
    entry = node.mapping()
    model, user = entry.get("models"), entry.get("username")
    board = Board(
        name=name,
        abis=tuple(_abi(item) for item in entry.need("target_abis").items()),
        socs=tuple(item.text() for item in entry.need("target_socs").items()),
        model="".join(model.text().split()) if model else name,
        address=entry.need("address").text(),
        username=user.text() if user else "",
    )
    entry.ignore("password", "device_name")
    entry.done()
    return board


def _abi(node: YamlNode) -> str:
    word = node.one_of((*ABIS, *_OTHER_NAMES))
    return _OTHER_NAMES.get(word, word)
