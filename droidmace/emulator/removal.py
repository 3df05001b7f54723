"""Removing a phone's folder, whatever its phone left in there."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def remove_tree(top: Path) -> None:
    """Remove a folder that nobody writes to any more; symbolic links are not followed.

    A phone can close folders to their owner (``chmod 000``) and nest them deeper than any path or
    call stack is long; ``shutil.rmtree`` stops at both. Raises ``OSError``.
    """
    # Each folder found is moved up here before it is looked into: no path ever gets long.
    top = top.rename(Path(tempfile.mkdtemp(prefix=".removed-", dir=top.parent)) / "0")
    waiting, moved = [top], 0
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            names = [(Path(entry), entry.is_dir(follow_symlinks=False)) for entry in entries]
        for path, is_folder in names:
            if is_folder:
                path.chmod(0o700)  # moving a folder writes its "..": that takes the permission
                moved += 1
                waiting.append(path.rename(top.parent / str(moved)))
            else:
                path.unlink()
        folder.rmdir()
    top.parent.rmdir()
