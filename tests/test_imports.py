"""The arrows of the house: who may import whom, and that host commands stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import droidmace

PACKAGE = Path(droidmace.__file__).parent

# Modules that hold plain values or touch nothing but the interpreter: anyone may use them.
COMMON = {"errors", "files", "resources", "wording", "__init__"}
# room -> rooms it may import (besides itself and COMMON)
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "files": set(),
    "wording": set(),
    "resources": set(),
    "results": set(),
    "yamltree": set(),
    "__init__": set(),
    "__main__": {"cli"},
    "config": {"yamltree"},
    "formats": set(),
    "devices": {"config", "results"},
    "macerun": {"devices", "formats", "results"},
    "tuning": {"formats", "results"},
    "validation": {"formats", "results"},
    "bundle": {"formats", "results"},
    "graphs": {"formats"},
    "convert": {"formats", "config"},
    "engine": {"formats"},
    "emulator": {"yamltree"},
    "workflows": {
        "bundle",
        "config",
        "convert",
        "devices",
        "formats",
        "graphs",
        "macerun",
        "results",
        "tuning",
        "validation",
    },
    "report": {"results"},
    "cli": {"config", "emulator", "report", "results", "workflows"},
}
# The emulator may be started from these files only.
EMULATOR_COMMANDS = {"cli/phone.py", "cli/phones.py"}
# Inside a room, some files are narrower than the room.
ONLY_IMPORTERS = {
    "adbutils": {"devices"},
    "pyopencl": {"engine"},
    "onnx": {"convert"},
    "optuna": {"tuning"},
}
OPTIONAL = {"PIL", "onnx", "onnxruntime", "optuna", "pyopencl", "torch"}


def room_of(path: Path) -> str:
    """The room that a source file lives in."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


def imported_modules(tree: ast.AST) -> list[tuple[str, bool]]:
    """Every imported module, and whether the import runs when the file is imported."""
    found: list[tuple[str, bool]] = []

    def visit(node: ast.AST, at_import: bool) -> None:
        inner = at_import and not isinstance(
            node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda
        )
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.orelse:
                visit(child, inner)
            return
        if isinstance(node, ast.Import):
            found.extend((alias.name, at_import) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            found.append((node.module or "", at_import))
            if node.module == "droidmace":
                found.extend((f"droidmace.{alias.name}", at_import) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child, inner)

    visit(tree, True)
    return found


SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_file_imports_only_what_its_room_may(path: Path) -> None:
    room = room_of(path)
    assert room in ARROWS, f"{room} has no place in the house: add its arrows here"
    allowed = ARROWS[room] | COMMON | {room}
    name = path.relative_to(PACKAGE).as_posix()
    for module, at_import in imported_modules(ast.parse(path.read_text("utf-8"))):
        top, *rest = module.split(".")
        if top == "droidmace":
            target = rest[0] if rest else "__init__"
            if target.startswith("__version__"):
                continue
            assert target in allowed, f"{name} must not import {module}"
            if room == "cli" and target == "emulator":
                assert name in EMULATOR_COMMANDS, f"{name} must not import the emulator"
            if room == "macerun" and target == "devices":
                assert module == "droidmace.devices.base", f"{name} may use devices.base only"
        importers = ONLY_IMPORTERS.get(top)
        if importers and not (top == "adbutils" and room == "emulator"):
            assert room in importers, f"only {importers} may import {top}, not {name}"
        if top in OPTIONAL and room != "engine":
            assert not at_import, f"{name} must import {top} inside a function"


def test_every_arrow_has_a_room() -> None:
    rooms = {room_of(path) for path in SOURCES}
    assert set(ARROWS) <= rooms, "an arrow leads from a room that is gone"


@pytest.mark.parametrize("command", [["--help"], ["devices", "--help"], ["tune", "--help"]])
def test_host_commands_do_not_load_optional_packages(command: list[str]) -> None:
    script = (
        # adbutils loads Pillow by itself where it is installed.
        "import sys, adbutils\n"
        "before = set(sys.modules)\n"
        f"sys.argv = ['droidmace', *{command!r}]\n"
        "from droidmace.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"loaded = sorted({OPTIONAL!r} & (set(sys.modules) - before))\n"
        "print('LOADED', loaded)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.rstrip().endswith("LOADED []")


def test_host_commands_load_where_there_are_no_unix_modules() -> None:
    missing = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
    script = (
        "import sys\n"
        f"sys.modules.update(dict.fromkeys({missing!r}))\n"
        "from droidmace.cli import build_app\n"
        "build_app()\n"
        "import droidmace.workflows.tune_many\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
