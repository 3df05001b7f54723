"""``python -m droidmace.engine FLAGS`` is ``mace_run FLAGS``."""

from __future__ import annotations

import sys

from droidmace.engine.mace_run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv))
