"""The bundle of a tuning run: both artefacts, their origin, and what the verdict rests on."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from pathlib import Path

from droidmace.bundle.manifest import DeviceRecord, FileRecord
from droidmace.bundle.writer import Provenance, write_bundle
from droidmace.devices.samples import MonitorLog, samples_text
from droidmace.errors import InputError
from droidmace.results import TuneResult
from droidmace.workflows.artefacts import Artefacts
from droidmace.workflows.models import ModelFiles

JOURNAL_NAME = "search_journal.jsonl.gz"
SAMPLES_NAME = "monitor.jsonl"
PICTURE_NAME = "best_so_far.svg"


def write_tuned_bundle(
    folder: Path,
    result: TuneResult,
    artefacts: Artefacts,
    model_files: ModelFiles,
    binary: FileRecord,
    extras: Mapping[str, bytes],
) -> None:
    """Write the bundle.

    Both artefacts are always kept; the verdict says which of them are worth shipping.
    """
    write_bundle(
        folder,
        provenance=Provenance(
            model_name=result.model,
            model_graph=FileRecord.of(model_files.graph),
            model_data=FileRecord.of(model_files.data),
            binary=binary,
            mace_version=result.mace_version,
            device=DeviceRecord.of(result.device, platform_info=result.platform_info),
        ),
        compiled_program=artefacts.program_bytes,
        tuned_parameters=artefacts.parameters_bytes,
        results=result.as_document(),
        extras=extras,
    )


def bundle_extras(journal: Path, watched: MonitorLog, picture: str | None) -> dict[str, bytes]:
    """What the figures rest on: the journal, the samples of the monitor, and a picture.

    Raises ``InputError`` for a journal that is gone or cannot be read.
    """
    try:
        measured = journal.read_bytes()
    except OSError as exc:
        raise InputError(
            f"the journal of the search cannot be read any more: {exc.strerror or exc}",
            where=str(journal),
            hint="something else removed it, and a bundle needs it: run the command again",
        ) from exc
    extras = {JOURNAL_NAME: gzip.compress(measured, mtime=0)}
    if watched.samples:
        extras[SAMPLES_NAME] = samples_text(watched.samples).encode()
    if picture is not None:
        extras[PICTURE_NAME] = picture.encode()
    return extras
