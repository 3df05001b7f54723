"""What a bundle holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from droidmace.bundle.reader import read_bundle
from droidmace.formats.detect import FileKind, detect
from droidmace.workflows.inspection import Column, Fact, Inspection, Json, Section, read_bounded


def inspect_bundle(folder: Path) -> Inspection:
    """What a bundle was made from and on; the hash of every file in it is verified.

    Raises ``FormatError`` naming the file that is missing or changed.
    """
    bundle = read_bundle(folder)
    manifest = bundle.manifest
    device = manifest.device
    facts = (
        Fact("model", "model", manifest.model_name),
        Fact("model_graph_sha256", "SHA-256 of the graph", manifest.model_graph.sha256),
        Fact("model_data_sha256", "SHA-256 of the weights", manifest.model_data.sha256),
        Fact("binary_sha256", "SHA-256 of mace_run", manifest.binary.sha256),
        Fact("mace_version", "MACE version", manifest.mace_version),
        Fact("device_model", "device", device.model),
        Fact("device_name", "device name", device.device_name),
        Fact("soc", "soc", device.soc),
        Fact("abi", "abi", device.abi),
        Fact("gpu", "GPU", device.gpu),
        Fact("platform_info", "platform info", device.platform_info),
        Fact("android_release", "Android", device.android_release),
        Fact("created_utc", "made", manifest.created_utc),
        Fact("droidmace_version", "droidmace", manifest.droidmace_version),
        *(Fact(key, label, _plain(bundle.results.get(key))) for key, label in RESULT_FACTS),
    )
    rows = [
        (
            record.name,
            detect(read_bounded(folder / record.name)).value,
            record.size_bytes,
            record.sha256,
        )
        for record in (manifest.compiled_program, manifest.tuned_parameters)
        if record is not None
    ]
    extras = [(one.name, one.size_bytes, one.sha256) for one in manifest.extras]
    sections = (
        _section("contents", "Artefacts (hashes verified)", CONTENT_COLUMNS, rows),
        _section("extras", "What they rest on (hashes verified)", EXTRA_COLUMNS, extras),
    )
    kind = FileKind.BUNDLE_MANIFEST.value
    return Inspection(str(folder), kind, "bundle", facts, sections)


RESULT_FACTS = (
    ("verdict", "verdict"), ("init_ms", "init (ms)"), ("warmup_ms", "warm-up (ms)"),
    ("run_ms", "run (ms)"), ("top1", "Top-1"), ("samples", "samples"),
    ("programs", "programs"), ("tuned_entries", "tuned entries"),
)  # fmt: skip
CONTENT_COLUMNS = (
    ("name", "file"), ("kind", "kind"), ("size_bytes", "bytes"), ("sha256", "SHA-256"),
)  # fmt: skip
EXTRA_COLUMNS = (("name", "file"), ("size_bytes", "bytes"), ("sha256", "SHA-256"))


def _section(
    key: str, title: str, columns: Sequence[tuple[str, str]], rows: Sequence[tuple[Json, ...]]
) -> Section:
    return Section(key, title, tuple(Column(*column) for column in columns), tuple(rows))


def _plain(value: object) -> Json:
    """A value of ``results.json`` if it is as flat as it should be; else None."""
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, dict):
        return {str(key): inner for key, inner in value.items() if _is_scalar(inner)}
    return None


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, bool | int | float | str)
