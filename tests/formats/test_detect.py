from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from droidmace.errors import FormatError
from droidmace.formats.compiled_program import CompiledProgram, StoredProgram
from droidmace.formats.detect import FileKind, detect, explain
from droidmace.formats.kvstore import Generation
from droidmace.formats.netdef import parse_model, serialize_model
from droidmace.formats.tuned_parameters import TunedParameters

SAMPLES = Path(__file__).parents[1] / "samples"
GRAPH = (SAMPLES / "tiny_gpu.pb").read_bytes()
PARAMETERS = (SAMPLES / "tune_params").read_bytes()


def compiled(generation: Generation = Generation.CURRENT) -> bytes:
    return CompiledProgram.build(
        platform_info="P, FULL_PROFILE, OpenCL 2.0, v1.1.1",
        device_name="Mali-G78",
        programs=[StoredProgram("pooling -DPOOL_AVG", bytes(range(200)), "abc")],
        generation=generation,
    ).serialize()


def bare_net() -> bytes:
    return serialize_model(dataclasses.replace(parse_model(GRAPH), is_bare_net=True))


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (compiled(), FileKind.COMPILED_PROGRAM),
        (compiled(Generation.LEGACY), FileKind.COMPILED_PROGRAM),
        (PARAMETERS, FileKind.TUNED_PARAMETERS),
        (
            TunedParameters.build({"k_1_2": (1, 2, 0)}, Generation.LEGACY).serialize(),
            FileKind.TUNED_PARAMETERS,
        ),
        (GRAPH, FileKind.MULTI_NET_DEF),
        (bare_net(), FileKind.NET_DEF),
        ((SAMPLES / "tiny.onnx").read_bytes(), FileKind.ONNX),
        (
            json.dumps({"schema_version": 1, "droidmace_version": "0.1.0"}).encode(),
            FileKind.BUNDLE_MANIFEST,
        ),
        ((SAMPLES / "tiny_gpu.data").read_bytes(), FileKind.UNKNOWN),
        ((SAMPLES / "tiny_gpu.yml").read_bytes(), FileKind.UNKNOWN),
        (b"", FileKind.UNKNOWN),
        (b'{"a": 1}', FileKind.UNKNOWN),
    ],
)
def test_files_are_known_by_their_content(data: bytes, kind: FileKind) -> None:
    assert detect(data) is kind


@pytest.mark.parametrize(
    ("data", "message", "offset"),
    [
        (b"", "the file is empty", 0),
        (compiled()[:-1], "CRC-32 is", len(compiled()) - 5),
        (compiled()[:50], "CRC-32 is", 46),
        (PARAMETERS[:-30], "CRC-32 is", len(PARAMETERS) - 34),
        (PARAMETERS[:9], "CRC-32 is", 5),
        (compiled(Generation.LEGACY)[:-1], "claims 200 bytes but 199 are left", None),
        (GRAPH[:600], "claims 1469 bytes but only 597 are left", 0),
        (bare_net()[:600], "bytes but only", None),
        (b"\x7fELF\x02\x01\x01", "an ELF program", 0),
        (b"PK\x03\x04aaaa", "a ZIP archive", 0),
        (b"\x1c\x00\x00\x00TFL3", "a TensorFlow Lite model", 0),
        (b'{"a": 1}', "not a bundle's manifest", 0),
        (b'{"files": ', "this JSON breaks", 10),
        (b'{"files": "\xff"}', "not readable as JSON", 0),
        (b'{"a":' * 100_000, "not readable as JSON", 0),
        (b"hello world, this is text", "begins with the bytes 68 65 6c 6c", 0),
    ],
)
def test_unknown_files_get_the_error_of_what_they_resemble(
    data: bytes, message: str, offset: int | None
) -> None:
    assert detect(data) is FileKind.UNKNOWN
    error = explain(data)
    assert isinstance(error, FormatError)
    assert message in error.message
    assert error.offset is not None
    assert offset is None or error.offset == offset


@given(st.binary(max_size=60))
def test_arbitrary_bytes_are_known_or_explained(data: bytes) -> None:
    if detect(data) is FileKind.UNKNOWN:
        assert explain(data).offset is not None
    else:
        # Short random bytes can be an empty store or a one-op net, but nothing with substance.
        assert len(data) <= 60


@given(st.sampled_from([GRAPH, PARAMETERS, compiled(), bare_net()]), st.data())
def test_damaged_files_are_known_or_explained(whole: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(1, 255))
    damaged = whole[:position] + bytes([whole[position] ^ byte]) + whole[position + 1 :]
    kind = detect(damaged)
    if whole in (PARAMETERS, compiled()):
        assert kind is FileKind.UNKNOWN
    if kind is FileKind.UNKNOWN:
        assert explain(damaged).message
