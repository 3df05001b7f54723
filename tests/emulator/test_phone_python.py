"""The phone's Python: its processes start from byte code, none compiles droidmace's modules."""

from __future__ import annotations

import os
from importlib.util import cache_from_source
from pathlib import Path
from typing import TYPE_CHECKING

from droidmace.emulator.manager import Phone
from droidmace.emulator.python_runtime import compile_modules

if TYPE_CHECKING:
    from conftest import PhoneLab

_IMPORTS = (
    "import droidmace.engine.mace_run, droidmace.engine.gpu_net, droidmace.emulator.adbd.daemon"
)


def test_no_module_is_compiled_on_the_phone(phone_lab: PhoneLab, adreno_phone: Phone) -> None:
    said = phone_lab.output(adreno_phone, f"/vendor/bin/python3 -v -c '{_IMPORTS}' 2>&1")
    loaded = [
        line for line in said.splitlines() if line.startswith("# code object from '/vendor/lib")
    ]
    ours = [line for line in loaded if "/python/droidmace/" in line]
    assert len(ours) > 50
    assert [line for line in ours if ".pyc" not in line] == []


def test_only_what_changed_is_compiled(tmp_path: Path) -> None:
    for name in ("engine/ops/one.py", "formats/two.py", "workflows/not_for_phones.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("A = 1\n")
    (tmp_path / "engine/broken.py").write_text("a b\n")
    compile_modules(tmp_path)
    compiled = {path.name.partition(".")[0] for path in tmp_path.rglob("*.pyc")}
    assert compiled == {"one", "two"}

    stored = [
        Path(cache_from_source(str(tmp_path / name)))
        for name in ("engine/ops/one.py", "formats/two.py")
    ]
    for path in stored:
        os.utime(path, (1, 1))
    (tmp_path / "formats/two.py").write_text("A = 2\nB = 3\n")
    os.utime(tmp_path / "formats/two.py", (1, 1))  # byte code tells sources apart by the second
    compile_modules(tmp_path)
    assert [path.stat().st_mtime == 1 for path in stored] == [True, False]


def test_a_folder_that_cannot_be_written_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "errors.py"
    source.write_text("A = 1\n")
    # Nobody, root included, can make a folder where a file is.
    Path(cache_from_source(str(source))).parent.write_text("a file")
    compile_modules(tmp_path)
    assert list(tmp_path.rglob("*.pyc")) == []
