"""YAML read as a tree that remembers where everything stood.

A value is asked for by key and type; what is missing, of the wrong type, written twice or never
asked for becomes a ``ConfigError`` with file, line and key path. Only plain YAML: no tags that
build objects, no files above ``MAX_BYTES``.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from pathlib import Path

import yaml

from droidmace.errors import ConfigError

MAX_BYTES = 1 << 20

_KINDS = {
    yaml.MappingNode: "a mapping",
    yaml.SequenceNode: "a list",
    yaml.ScalarNode: "a single value",
}
_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_BOOL = "tag:yaml.org,2002:bool"
_NULL = "tag:yaml.org,2002:null"


class YamlNode:
    """A node of the tree with its key path, e.g. ``models.net.runtime``."""

    def __init__(self, node: yaml.Node, file: Path, path: str) -> None:
        self._node = node
        self._file = file
        self.path = path

    def error(self, message: str, *, hint: str | None = None) -> ConfigError:
        """An error at this node: file, line and key path."""
        line = self._node.start_mark.line + 1
        key = f"{self.path}: " if self.path else ""
        return ConfigError(f"{key}{message}", where=f"{self._file}:{line}", hint=hint)

    def _expected(self, what: str) -> ConfigError:
        found = _KINDS.get(type(self._node), "something else")
        if isinstance(self._node, yaml.ScalarNode):
            found = f"{self._node.value!r}"
        return self.error(f"expected {what}, found {found}")

    @property
    def is_list(self) -> bool:
        """Whether this is a list."""
        return isinstance(self._node, yaml.SequenceNode)

    @property
    def is_null(self) -> bool:
        """Whether nothing is written here."""
        return isinstance(self._node, yaml.ScalarNode) and self._node.tag == _NULL

    def text(self) -> str:
        """A single value as it was written; numbers count as text too."""
        if not isinstance(self._node, yaml.ScalarNode) or self.is_null:
            raise self._expected("a text")
        return str(self._node.value)

    def integer(self, minimum: int, maximum: int) -> int:
        """A whole number within bounds."""
        if not isinstance(self._node, yaml.ScalarNode) or self._node.tag != _INT:
            raise self._expected("a whole number")
        try:
            value = int(str(self._node.value).replace("_", ""), 0)
        except ValueError as exc:
            raise self._expected("a whole number") from exc
        if not minimum <= value <= maximum:
            raise self.error(f"{value} is not between {minimum} and {maximum}")
        return value

    def number(self, minimum: float, maximum: float) -> float:
        """A number within bounds."""
        if not isinstance(self._node, yaml.ScalarNode) or self._node.tag not in (_INT, _FLOAT):
            raise self._expected("a number")
        try:
            value = float(str(self._node.value).replace("_", ""))
        except ValueError as exc:
            raise self._expected("a decimal number") from exc
        if not minimum <= value <= maximum:
            raise self.error(f"{value:g} is not between {minimum:g} and {maximum:g}")
        return value

    def flag(self) -> bool:
        """A switch: ``true``/``false``, or MACE's 0 and 1."""
        if isinstance(self._node, yaml.ScalarNode):
            word = str(self._node.value).lower()
            if self._node.tag == _BOOL and word in {"true", "yes", "on", "false", "no", "off"}:
                return word in {"true", "yes", "on"}
            if self._node.tag == _INT and word in {"0", "1"}:
                return word == "1"
        raise self._expected("0 or 1")

    def one_of(self, allowed: tuple[str, ...]) -> str:
        """One of a fixed set of words."""
        value = self.text()
        if value not in allowed:
            raise self.error(f"{value!r} is not one of {', '.join(allowed)}")
        return value

    def items(self) -> list[YamlNode]:
        """The entries of a list; a single value counts as a list of one, as in MACE's tools."""
        if isinstance(self._node, yaml.SequenceNode):
            return [
                YamlNode(child, self._file, f"{self.path}[{index}]")
                for index, child in enumerate(self._node.value)
            ]
        if self.is_null:
            return []
        return [self]

    def mapping(self) -> YamlMapping:
        """A mapping, whose keys must all be asked for before ``done`` is called."""
        if not isinstance(self._node, yaml.MappingNode):
            raise self._expected("a mapping")
        entries: dict[str, YamlNode] = {}
        for key_node, value_node in self._node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise YamlNode(key_node, self._file, self.path).error("a key must be a text")
            key = str(key_node.value)
            path = f"{self.path}.{key}" if self.path else key
            if key in entries:
                raise YamlNode(key_node, self._file, path).error("this key is written twice")
            entries[key] = YamlNode(value_node, self._file, path)
        return YamlMapping(self, entries)


_A_LETTER_OR_TWO = 0.88
"""Likeness of keys: MACE's own, ``input_tensors`` and ``output_tensors`` say, are less alike."""


class YamlMapping:
    """The entries of a mapping, and which of them were asked for."""

    def __init__(self, node: YamlNode, entries: dict[str, YamlNode]) -> None:
        self.node = node
        self._entries = entries
        self._known: set[str] = set()

    def get(self, key: str) -> YamlNode | None:
        """The node at ``key``; None if it is missing or empty."""
        self._known.add(key)
        child = self._entries.get(key)
        return None if child is None or child.is_null else child

    def need(self, key: str) -> YamlNode:
        """The node at ``key``, which must be there."""
        child = self.get(key)
        if child is None:
            self.refuse_misspelt(key)
            raise self.node.error(f"the key {key!r} is missing")
        return child

    def refuse_misspelt(self, key: str) -> None:
        """Raise for a key that nobody asked for yet and that is ``key`` but for a letter or two.

        For a key that is not there, and without which something would be found missing.
        """
        unknown = self._entries.keys() - self._known
        for near in get_close_matches(key, unknown, n=1, cutoff=_A_LETTER_OR_TWO):
            raise self._entries[near].error("unknown key", hint=f"did you mean {key!r}?")

    def over(self, below: YamlMapping) -> YamlMapping:
        """A view of both mappings: a key that is missing here is taken from ``below``."""
        return _Overlay(self, below)

    def ignore(self, *keys: str) -> None:
        """Declare keys that are legal here and that we do nothing with."""
        self._known.update(keys)

    def each(self) -> Iterator[tuple[str, YamlNode]]:
        """All entries, for mappings whose keys are names; they count as asked for."""
        self._known.update(self._entries)
        yield from self._entries.items()

    def done(self) -> None:
        """Refuse keys that nobody asked for: most often a typing mistake."""
        for key, child in self._entries.items():
            if key in self._known:
                continue
            near = get_close_matches(key, self._known, n=1)
            hint = (
                f"did you mean {near[0]!r}?"
                if near
                else "known keys: " + ", ".join(sorted(self._known))
            )
            raise child.error("unknown key", hint=hint)


class _Overlay(YamlMapping):
    """Two mappings seen as one. Only asked for keys; each of the two is ``done`` for itself."""

    def __init__(self, upper: YamlMapping, lower: YamlMapping) -> None:
        super().__init__(lower.node, {})
        self._upper = upper
        self._lower = lower

    def get(self, key: str) -> YamlNode | None:
        # Both are asked, so that neither takes the key for a mistake.
        above, below = self._upper.get(key), self._lower.get(key)
        return above or below

    def refuse_misspelt(self, key: str) -> None:
        self._upper.refuse_misspelt(key)
        self._lower.refuse_misspelt(key)


def load_yaml(path: Path) -> YamlNode:
    """Parse one YAML document.

    Raises ``ConfigError`` if the file cannot be read, is too large, or is not YAML.
    """
    try:
        size_bytes = path.stat().st_size
        if size_bytes > MAX_BYTES:
            raise ConfigError(
                f"{size_bytes} bytes is too large for a configuration (at most {MAX_BYTES})",
                where=str(path),
            )
        text = path.read_text("utf-8")
    except FileNotFoundError as exc:
        raise ConfigError("no such file", where=str(path), hint="check the path") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"cannot be read: {exc}", where=str(path)) from exc
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as exc:
        line = exc.problem_mark.line + 1 if exc.problem_mark else 1
        raise ConfigError(f"not YAML: {exc.problem}", where=f"{path}:{line}") from exc
    except (yaml.YAMLError, RecursionError) as exc:
        raise ConfigError(f"not YAML: {exc}", where=str(path)) from exc
    if node is None:
        raise ConfigError("the file is empty", where=str(path))
    return YamlNode(node, path, "")
