"""The MACE version this engine claims; it is part of the platform info in compiled programs."""

from __future__ import annotations

MACE_VERSION = "v1.1.1-droidmace"
