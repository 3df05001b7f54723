"""Compiled programs and tuned parameters: the two things a key-value file can be."""

from __future__ import annotations

import random
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.formats.compiled_program import CompiledProgram, StoredProgram
from droidmace.formats.kvstore import Generation, KeyValueStore, KVPair
from droidmace.formats.protowire import decode_text, encode_text
from droidmace.formats.tuned_parameters import TunedParameters

SAMPLE = (Path(__file__).parents[1] / "samples" / "tune_params").read_bytes()
INFO = "QUALCOMM Snapdragon(TM), FULL_PROFILE, OpenCL 2.0 QUALCOMM build: 1, v1.1.1"

KEYS = st.binary(min_size=1, max_size=12).map(decode_text)
ENTRIES = st.dictionaries(KEYS, st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple))
PROGRAMS = st.lists(
    st.builds(
        StoredProgram,
        st.from_regex(r"[a-z_0-9]{1,8}( -D[A-Z]{1,4}(=[a-z0-9_]{1,6})?){0,3}", fullmatch=True),
        st.binary(max_size=40),
        st.none() | st.from_regex(r"[0-9a-f]{8}", fullmatch=True),
    ),
    unique_by=lambda program: program.key,
    max_size=5,
)
GENERATIONS = st.sampled_from(Generation)


def test_the_real_file_round_trips() -> None:
    parameters = TunedParameters.parse(SAMPLE)

    assert parameters.generation is Generation.CURRENT
    assert len(parameters.entries) == 15
    assert parameters.entries["c44ClxknJpoDF6F6FvGBPMEM2547C7_F_EE"] == (8, 4, 4, 0)
    assert parameters.entries["a7xhuD011EoIErAF5BAx[33]"] == (4096, 1, 0)
    assert parameters.queue_window_size == 0
    assert parameters.serialize() == SAMPLE
    assert TunedParameters.build(parameters.entries).serialize() == SAMPLE


def test_every_byte_of_the_real_file_is_guarded() -> None:
    for position in range(len(SAMPLE)):
        damaged = bytearray(SAMPLE)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(FormatError):
            TunedParameters.parse(bytes(damaged))
        with pytest.raises(FormatError):
            TunedParameters.parse(SAMPLE[:position])


@given(ENTRIES, GENERATIONS)
def test_parameters_round_trip(entries: dict[str, tuple[int, ...]], generation: Generation) -> None:
    data = TunedParameters.build(entries, generation).serialize()
    parsed = TunedParameters.parse(data)
    assert parsed.generation is generation
    assert list(parsed.entries.items()) == list(entries.items())
    assert parsed.serialize() == data


@given(PROGRAMS, st.text(max_size=20), st.text(max_size=20), GENERATIONS)
def test_programs_round_trip(
    programs: list[StoredProgram], info: str, gpu: str, generation: Generation
) -> None:
    data = CompiledProgram.build(
        platform_info=info, device_name=gpu, programs=programs, generation=generation
    ).serialize()

    parsed = CompiledProgram.parse(data)

    legacy = generation is Generation.LEGACY
    expected = {
        program.key: StoredProgram(
            program.key, program.binary, None if legacy else program.source_hash
        )
        for program in programs
    }
    assert parsed.generation is generation
    assert parsed.platform_info == info
    assert parsed.device_name == (None if legacy else gpu)
    assert parsed.programs == expected
    assert parsed.serialize() == data


@given(PROGRAMS)
def test_built_programs_are_sorted_by_key_bytes(programs: list[StoredProgram]) -> None:
    shuffled = random.Random(1).sample(programs, len(programs))
    build = CompiledProgram.build
    built = build(platform_info=INFO, device_name="Adreno(TM) 640", programs=programs)
    keys = [encode_text(pair.key) for pair in built.store.pairs]
    assert keys == sorted(keys)
    again = build(platform_info=INFO, device_name="Adreno(TM) 640", programs=shuffled)
    assert again.serialize() == built.serialize()


@pytest.mark.parametrize("generation", Generation)
@given(data=st.binary(max_size=60))
def test_arbitrary_bytes_are_parsed_or_refused(generation: Generation, data: bytes) -> None:
    if generation is Generation.LEGACY:
        data = struct.pack("<Q", 1) + data
    for parse in (TunedParameters.parse, CompiledProgram.parse):
        try:
            parsed = parse(data)
        except FormatError as error:
            assert error.message
        else:
            assert parsed.serialize() == data


def test_of_duplicate_keys_the_first_counts_and_all_survive() -> None:
    data = KeyValueStore.build(
        [KVPair("k", uint32s_value=(1, 2)), KVPair("k", uint32s_value=(3,))]
    ).serialize()
    parameters = TunedParameters.parse(data)
    assert parameters.entries == {"k": (1, 2)}
    assert len(parameters.store.pairs) == 2
    assert parameters.serialize() == data


def test_one_is_not_taken_for_the_other() -> None:
    program = CompiledProgram.build(
        platform_info=INFO, device_name="", programs=[StoredProgram("k", b"x")]
    )
    with pytest.raises(FormatError, match="this is a compiled OpenCL program"):
        TunedParameters.parse(program.serialize())
    with pytest.raises(FormatError, match="no platform info"):
        CompiledProgram.parse(SAMPLE)
    foreign = KeyValueStore.build([KVPair("k", b"x")]).serialize()
    with pytest.raises(FormatError, match="'k' holds bytes, not numbers"):
        TunedParameters.parse(foreign)


def test_a_legacy_value_must_be_whole_numbers() -> None:
    data = KeyValueStore.build(
        [KVPair("a", bytes(4)), KVPair("b", bytes(6))], Generation.LEGACY
    ).serialize()
    with pytest.raises(FormatError, match=r"'b' holds 6 bytes") as caught:
        TunedParameters.parse(data)
    assert caught.value.offset == data.index(b"b") - 4


def test_numbers_must_be_uint32() -> None:
    for value in (-1, 2**32):
        for generation in Generation:
            with pytest.raises(ValueError, match="is not a uint32"):
                TunedParameters.build({"k": (value,)}, generation)


def test_a_stored_program_knows_its_name_and_options() -> None:
    program = StoredProgram("conv_2d_1x1 -DBIAS -DDATA_TYPE=float", b"")
    assert program.name == "conv_2d_1x1"
    assert program.options == ("-DBIAS", "-DDATA_TYPE=float")
