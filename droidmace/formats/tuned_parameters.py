"""Tuned parameters: per kernel and shape, the work-group sizes that were fastest on a device.

3-D kernels: ``(lws0, lws1, lws2, block)``; 2-D kernels: ``(lws0, lws1, block)``. ``lws`` is the
local work-group size in work items, ``block`` the slice of the last global dimension that is
enqueued at a time (0: all of it). Source: ``mace/runtimes/opencl/core/opencl_helper.cc`` and
``mace/utils/tuner.h`` of XiaoMi/mace.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from droidmace.errors import FormatError
from droidmace.formats.kvstore import Generation, KeyValueStore, KVPair
from droidmace.formats.store_keys import PLATFORM_INFO_KEY, QUEUE_WINDOW_SIZE_KEY

_UINT32_BYTES = 4


@dataclass(frozen=True)
class TunedParameters:
    """A tuned-parameter file, as a view on its store. Keys are exactly those in the file."""

    store: KeyValueStore

    @property
    def generation(self) -> Generation:
        """Which layout the file has."""
        return self.store.generation

    @functools.cached_property
    def entries(self) -> Mapping[str, tuple[int, ...]]:
        """Key to values, in file order. Of several with one key the first counts, as in MACE."""
        found: dict[str, tuple[int, ...]] = {}
        for pair in self.store.pairs:
            found.setdefault(pair.key, _values(pair, self.generation))
        return MappingProxyType(found)

    @property
    def queue_window_size(self) -> int | None:
        """Commands in the OpenCL queue before MACE waits for it (0: no limit), if stored."""
        values = self.entries.get(QUEUE_WINDOW_SIZE_KEY)
        return values[0] if values else None

    @classmethod
    def parse(cls, data: bytes) -> TunedParameters:
        """Read a file of either generation.

        Raises ``FormatError`` with the byte offset when it is damaged or not tuned parameters.
        """
        store = KeyValueStore.parse(data)
        if store.find(PLATFORM_INFO_KEY) is not None:
            raise FormatError(
                "this is a compiled OpenCL program, not tuned parameters",
                hint="give the file that MACE_RUN_PARAMETER_PATH named (…_tuned_opencl_parameter…)",
            )
        if store.generation is Generation.CURRENT and store.pairs:
            binary = [pair for pair in store.pairs if pair.bytes_value is not None]
            if len(binary) == len(store.pairs):
                raise FormatError(
                    f"these are not tuned parameters: {binary[0].key!r} holds bytes, not numbers",
                    offset=binary[0].origin.offset if binary[0].origin else None,
                )
        parameters = cls(store)
        _ = parameters.entries  # decode now, so that a bad value is found here
        return parameters

    @classmethod
    def build(
        cls,
        entries: Mapping[str, tuple[int, ...]],
        generation: Generation = Generation.CURRENT,
    ) -> TunedParameters:
        """A new file's content; the pairs keep the order of ``entries``.

        Raises ``ValueError`` for a number that is not a uint32.
        """
        pairs = [_pair(key, values, generation) for key, values in entries.items()]
        return cls(KeyValueStore.build(pairs, generation))

    def serialize(self) -> bytes:
        """Write the file; byte for byte what was read."""
        return self.store.serialize()


def _values(pair: KVPair, generation: Generation) -> tuple[int, ...]:
    if generation is Generation.CURRENT:
        return pair.uint32s_value
    value = pair.bytes_value or b""
    if len(value) % _UINT32_BYTES:
        raise FormatError(
            f"{pair.key!r} holds {len(value)} bytes, not a whole number of uint32",
            offset=pair.origin.offset if pair.origin else None,
        )
    return struct.unpack(f"<{len(value) // _UINT32_BYTES}I", value)


def _pair(key: str, values: tuple[int, ...], generation: Generation) -> KVPair:
    for value in values:
        if not 0 <= value < 1 << 32:
            raise ValueError(f"{key}: {value} is not a uint32")
    if generation is Generation.CURRENT:
        return KVPair(key, uint32s_value=values)
    return KVPair(key, struct.pack(f"<{len(values)}I", *values))
