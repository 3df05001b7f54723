"""What a tuned model must prove before it ships: the section ``droidmace: gate:``.

The reasons for the defaults stand in ``docs/verdict.md``.
"""

from __future__ import annotations

from dataclasses import dataclass

from droidmace.yamltree import YamlNode

VERDICTS = ("ship", "params-only", "program-only", "nothing", "reject")


@dataclass(frozen=True, slots=True)
class GateConfig:
    """Thresholds as shares of 1, temperatures in degrees Celsius.

    ``accept``: the verdicts with which ``tune --gate`` ends well. ``cool_to_c`` and
    ``cool_down_s``: to what temperature a phone that throttles may cool down, and in what time.
    """

    min_startup_gain: float = 0.10
    min_latency_gain: float = 0.01
    min_agreement: float = 0.99
    min_similarity: float = 0.999
    max_drift: float = 0.10
    max_slowdown: float = 0.25
    cool_to_c: float = 45.0
    cool_down_s: float = 180.0
    accept: tuple[str, ...] = ("ship", "params-only", "program-only")

    @classmethod
    def read(cls, node: YamlNode) -> GateConfig:
        """From the file's section. Raises ``ConfigError``."""
        entry = node.mapping()
        default = cls()

        def number(key: str, fallback: float, low: float, high: float) -> float:
            child = entry.get(key)
            return child.number(low, high) if child else fallback

        accept = entry.get("accept")
        gate = cls(
            min_startup_gain=number("min_startup_gain", default.min_startup_gain, 0.0, 0.99),
            min_latency_gain=number("min_latency_gain", default.min_latency_gain, 0.0, 0.99),
            min_agreement=number("min_agreement", default.min_agreement, 0.0, 1.0),
            min_similarity=number("min_similarity", default.min_similarity, -1.0, 1.0),
            max_drift=number("max_drift", default.max_drift, 0.001, 10.0),
            max_slowdown=number("max_slowdown", default.max_slowdown, 0.01, 10.0),
            cool_to_c=number("cool_to_c", default.cool_to_c, 0.0, 120.0),
            cool_down_s=number("cool_down_s", default.cool_down_s, 0.0, 3600.0),
            accept=_verdicts(accept) if accept else default.accept,
        )
        entry.done()
        return gate


def _verdicts(node: YamlNode) -> tuple[str, ...]:
    found = []
    for item in node.items():
        text = item.text()
        if text not in VERDICTS:
            raise item.error(f"unknown verdict {text!r}", hint=f"one of {', '.join(VERDICTS)}")
        found.append(text)
    if not found:
        raise node.error("no verdict would be accepted", hint="name one at least, such as ship")
    return tuple(found)
