"""Compiled OpenCL programs: the vendor's binaries, and what they were compiled from and by."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from droidmace.errors import FormatError
from droidmace.formats.kvstore import Generation, KeyValueStore, KVPair
from droidmace.formats.protowire import decode_text, encode_text
from droidmace.formats.store_keys import (
    DEVICE_NAME_KEY,
    PLATFORM_INFO_KEY,
    PROGRAM_HASH_PREFIX,
)


@dataclass(frozen=True, slots=True)
class StoredProgram:
    """One program: its key (``<program> <options…>``), binary, and the hash of its source.

    ``source_hash`` is None where the file has none: legacy files never do.
    """

    key: str
    binary: bytes
    source_hash: str | None = None

    @property
    def name(self) -> str:
        """The OpenCL source's name, e.g. ``conv_2d_1x1``."""
        return self.key.partition(" ")[0]

    @property
    def options(self) -> tuple[str, ...]:
        """The build options in the key."""
        return tuple(self.key.split()[1:])


@dataclass(frozen=True)
class CompiledProgram:
    """A compiled-program file, as a view on its store."""

    store: KeyValueStore

    @property
    def generation(self) -> Generation:
        """Which layout the file has."""
        return self.store.generation

    @property
    def platform_info(self) -> str:
        """``CL_PLATFORM_NAME, CL_PLATFORM_PROFILE, CL_PLATFORM_VERSION, MACE version``."""
        return self._text(PLATFORM_INFO_KEY) or ""

    @property
    def device_name(self) -> str | None:
        """The GPU's name as MACE derives it, often empty; None where the file has none."""
        return self._text(DEVICE_NAME_KEY)

    @functools.cached_property
    def programs(self) -> Mapping[str, StoredProgram]:
        """Key to program, in file order. Of several with one key the first counts, as in MACE."""
        hashes: dict[str, str] = {}
        binaries: dict[str, bytes] = {}
        for pair in self.store.pairs:
            if pair.key in (PLATFORM_INFO_KEY, DEVICE_NAME_KEY):
                continue
            value = pair.bytes_value or b""
            if pair.key.startswith(PROGRAM_HASH_PREFIX):
                hashes.setdefault(pair.key.removeprefix(PROGRAM_HASH_PREFIX), decode_text(value))
            else:
                binaries.setdefault(pair.key, value)
        return MappingProxyType(
            {key: StoredProgram(key, binary, hashes.get(key)) for key, binary in binaries.items()}
        )

    @classmethod
    def parse(cls, data: bytes) -> CompiledProgram:
        """Read a file of either generation.

        Raises ``FormatError`` with the byte offset when it is damaged or not a compiled program.
        """
        store = KeyValueStore.parse(data)
        if store.find(PLATFORM_INFO_KEY) is None:
            raise FormatError(
                "this is not a compiled OpenCL program: it has no platform info",
                hint="give mace_cl_compiled_program.bin or a …_compiled_opencl_kernel… file",
            )
        return cls(store)

    @classmethod
    def build(
        cls,
        *,
        platform_info: str,
        device_name: str,
        programs: Iterable[StoredProgram],
        generation: Generation = Generation.CURRENT,
    ) -> CompiledProgram:
        """A new file's content, its pairs sorted by the bytes of their keys as MACE writes them.

        The legacy layout has neither device name nor hashes: they are left out there.
        """
        values = {PLATFORM_INFO_KEY: encode_text(platform_info)}
        if generation is Generation.CURRENT:
            values[DEVICE_NAME_KEY] = encode_text(device_name)
        for program in programs:
            values[program.key] = program.binary
            if generation is Generation.CURRENT and program.source_hash is not None:
                hash_key = PROGRAM_HASH_PREFIX + program.key
                values[hash_key] = encode_text(program.source_hash)
        ordered = sorted(values.items(), key=lambda item: encode_text(item[0]))
        pairs = [KVPair(key, value) for key, value in ordered]
        return cls(KeyValueStore.build(pairs, generation))

    def serialize(self) -> bytes:
        """Write the file; byte for byte what was read."""
        return self.store.serialize()

    def _text(self, key: str) -> str | None:
        pair = self.store.find(key)
        return None if pair is None else decode_text(pair.bytes_value or b"")
