"""docs/environment.md names every variable that the host's side reads."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
_READ = re.compile(r"""environ(?:ment)?(?:\.get\(|\.setdefault\(|\[)\s*(?:"([A-Z_]+)"|([A-Z_]+))""")
# How to find programs and the package itself; and what a phone is given, not the host.
_NOT_OURS = {"PATH", "PYTHONPATH", "DROIDMACE_GPU_IDENTITY"}


def variables() -> set[str]:
    """Names of the variables in the sources of all but the phone's engine."""
    found: set[str] = set()
    for path in (ROOT / "droidmace").rglob("*.py"):
        if path.is_relative_to(ROOT / "droidmace/engine"):
            continue
        text = path.read_text("utf-8")
        for name, constant in _READ.findall(text):
            found.add(name or re.search(rf'^{constant} = "(\w+)"', text, re.M)[1])
    return found - _NOT_OURS


def test_every_variable_is_told() -> None:
    told = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/environment.md").read_text("utf-8"), re.M)
    )
    assert {"DROIDMACE_PHONES_DIR", "ADB", "XDG_CACHE_HOME"} <= variables()
    assert variables() == told
    assert "docs/environment.md" in (ROOT / "README.md").read_text("utf-8")
