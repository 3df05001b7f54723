"""What compiled programs and tuned parameters hold."""

from __future__ import annotations

import collections
import hashlib
import zlib

from droidmace.formats.acceptance import stored_platform_version
from droidmace.formats.compiled_program import CompiledProgram
from droidmace.formats.kvstore import Generation, KeyValueStore
from droidmace.formats.obfuscation import readable_program_key
from droidmace.formats.tuned_parameters import TunedParameters
from droidmace.formats.tuning_key import LaunchShape, TuningKey
from droidmace.workflows.inspection import Column, Fact, Findings, Json, Section


def _store_facts(store: KeyValueStore, data: bytes) -> tuple[Fact, ...]:
    current = store.generation is Generation.CURRENT
    keys = collections.Counter(pair.key for pair in store.pairs)
    duplicates = sorted(key for key, count in keys.items() if count > 1)
    facts = [
        Fact("generation", "layout", store.generation.value),
        Fact("crc32", "CRC-32", f"0x{zlib.crc32(data[:-4]):08x}" if current else None),
        Fact("pairs", "pairs", len(store.pairs)),
    ]
    if duplicates:
        facts.append(Fact("duplicate_keys", "keys that stand twice (first counts)", duplicates))
    return tuple(facts)


def inspect_compiled_program(program: CompiledProgram, data: bytes) -> Findings:
    """Platform, GPU, and every program with its size; ``data`` is the file's content."""
    programs = list(program.programs.values())
    info = program.platform_info
    facts = (
        *_store_facts(program.store, data),
        Fact("platform_info", "platform info", info),
        Fact("platform_version", "OpenCL version MACE compares", stored_platform_version(info)),
        Fact("mace_version", "MACE version", info.rpartition(", ")[2]),
        Fact("gpu_name", "GPU", program.device_name),
        Fact("program_count", "programs", len(programs)),
        Fact("binary_bytes", "program bytes", sum(len(stored.binary) for stored in programs)),
    )
    columns = (
        Column("program", "program"),
        Column("options", "options"),
        Column("binary_bytes", "bytes"),
        Column("source_hash", "source hash"),
        Column("key", "key", detail=True),
        Column("readable_key", "readable key", detail=True),
        Column("binary_sha256", "SHA-256 of the binary", detail=True),
    )
    rows: list[tuple[Json, ...]] = []
    for stored in programs:
        readable = readable_program_key(stored.key)
        rows.append(
            (
                stored.name,
                readable.partition(" ")[2],
                len(stored.binary),
                stored.source_hash,
                stored.key,
                readable,
                hashlib.sha256(stored.binary).hexdigest(),
            )
        )
    return Findings(
        "compiled OpenCL program",
        facts,
        (Section("programs", "Programs", columns, tuple(rows)),),
    )


def inspect_tuned_parameters(parameters: TunedParameters, data: bytes) -> Findings:
    """Every entry with its key decoded; ``data`` is the file's content."""
    rows: list[tuple[Json, ...]] = []
    obfuscated = 0
    for key, values in parameters.entries.items():
        parsed = TuningKey.parse(key)
        shape = LaunchShape.of(values)
        obfuscated += parsed.obfuscated
        rows.append(
            (
                parsed.kernel,
                list(parsed.sizes),
                list(shape.lws) if shape else None,
                shape.block if shape else None,
                key,
                parsed.readable,
                list(values),
            )
        )
    facts = (
        *_store_facts(parameters.store, data),
        Fact("entry_count", "entries", len(rows)),
        Fact("obfuscated_keys", "obfuscated keys", obfuscated),
        Fact("queue_window_size", "queue window size", parameters.queue_window_size),
    )
    columns = (
        Column("kernel", "kernel"),
        Column("sizes", "sizes in the key"),
        Column("lws", "local work-group size"),
        Column("block", "block"),
        Column("key", "key"),
        Column("readable_key", "readable key", detail=True),
        Column("values", "values", detail=True),
    )
    return Findings(
        "tuned parameters", facts, (Section("entries", "Entries", columns, tuple(rows)),)
    )
