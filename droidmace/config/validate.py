"""How ``droidmace validate`` works and what it asks for: the section ``droidmace: validate:``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

from droidmace.yamltree import YamlNode

Against = Literal["reference", "cpu", "none"]
_WORDS: tuple[Against, ...] = ("reference", "cpu", "none")

# gate -> the smallest and largest figure that can be asked for
_GATES = {
    "top1": (0.0, 1.0),
    "top5": (0.0, 1.0),
    "agreement": (0.0, 1.0),
    "top1_loss": (0.0, 1.0),
    "cosine": (-1.0, 1.0),
    "sqnr_db": (-200.0, 400.0),
    "max_abs_error": (0.0, 1e30),
    "max_rel_error": (0.0, 1e30),
    "non_finite": (0.0, 1e15),
}


@dataclass(frozen=True, slots=True)
class ValidationGates:
    """What must hold for ``validate`` to end well; None is not asked for. Shares of 1.

    At least: ``top1, top5, agreement``, ``cosine`` (of the worst sample), ``sqnr_db`` (of all).
    At most: ``top1_loss`` (reference's Top-1 less the phone's), ``max_abs_error, max_rel_error``,
    ``non_finite`` (how many values are NaN or infinite).
    """

    top1: float | None = None
    top5: float | None = None
    agreement: float | None = None
    top1_loss: float | None = None
    cosine: float | None = None
    sqnr_db: float | None = None
    max_abs_error: float | None = None
    max_rel_error: float | None = None
    non_finite: float | None = None

    @classmethod
    def read(cls, node: YamlNode) -> ValidationGates:
        """From the file's section. Raises ``ConfigError``."""
        entry = node.mapping()
        found = {
            gate: child.number(low, high)
            for gate, (low, high) in _GATES.items()
            if (child := entry.get(gate)) is not None
        }
        entry.done()
        return cls(**found)

    @property
    def wanted(self) -> Mapping[str, float]:
        """The gates that are asked for, by name."""
        values = {field_.name: getattr(self, field_.name) for field_ in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ValidateConfig:
    """``against``: ``reference`` (the original model on the host), ``cpu`` (the phone's), ``none``
    (labels alone), or a file of outputs; None if the file does not say. ``storage_share``: of the
    phone's free space, what samples may fill. ``chunk_samples``: how many travel together; None for
    a number that is found while running. ``tolerance``: a value is right within ``tolerance *
    max(1, |reference|)``.
    """

    against: Against | Path | None = None
    storage_share: float = 0.25
    chunk_samples: int | None = None
    tolerance: float = 1e-3
    confidence: float = 0.95
    timeout_s: float = 900.0
    """Deadline of one ``mace_run`` process."""
    gates: ValidationGates = field(default_factory=ValidationGates)

    @classmethod
    def read(
        cls, node: YamlNode, path: Path, file_at: Callable[[YamlNode, Path], Path]
    ) -> ValidateConfig:
        """From the section of the deployment file ``path``. Raises ``ConfigError``."""
        entry = node.mapping()
        default = cls()

        def number(key: str, fallback: float, low: float, high: float) -> float:
            child = entry.get(key)
            return child.number(low, high) if child else fallback

        against, chunk, gates = entry.get("against"), entry.get("chunk_samples"), entry.get("gates")
        config = cls(
            against=_against(against, path, file_at) if against else default.against,
            storage_share=number("storage_share", default.storage_share, 0.001, 0.95),
            chunk_samples=chunk.integer(1, 10_000_000) if chunk else None,
            tolerance=number("tolerance", default.tolerance, 0.0, 1e6),
            confidence=number("confidence", default.confidence, 0.5, 0.9999),
            timeout_s=number("timeout_s", default.timeout_s, 1, 86_400),
            gates=ValidationGates.read(gates) if gates else ValidationGates(),
        )
        entry.done()
        return config


def _against(
    node: YamlNode, path: Path, file_at: Callable[[YamlNode, Path], Path]
) -> Against | Path:
    word = node.text()
    return next((known for known in _WORDS if word == known), None) or file_at(node, path)
