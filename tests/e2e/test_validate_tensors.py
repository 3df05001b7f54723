"""``droidmace validate`` on nets that are no classifiers of images."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from droidmace.emulator.manager import Phone
from tests.e2e.conftest import Droidmace

COUNT = 12
GATES = {"cosine": 0.999999, "max_abs_error": 1e-4, "non_finite": 0}


def weights(*shape: int) -> np.ndarray:
    values: np.ndarray = np.random.default_rng(len(shape)).standard_normal(shape) / 5
    return values.astype(np.float32)


def save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], **given: Any) -> None:
    constants = [numpy_helper.from_array(value, name) for name, value in given.items()]
    graph = helper.make_graph(nodes, "net", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)


def deployment(folder: Path, subgraph: dict[str, Any], runtime: str) -> Path:
    model = folder / "net.onnx"
    document = {
        "library_name": "net",
        "target_abis": ["arm64-v8a"],
        "target_socs": ["all"],
        "model_graph_format": "file",
        "model_data_format": "file",
        "models": {
            "net": {
                "platform": "onnx",
                "model_file_path": str(model),
                "model_sha256_checksum": hashlib.sha256(model.read_bytes()).hexdigest(),
                "subgraphs": [subgraph],
                "runtime": runtime,
                "data_type": "fp32_fp32",
                "limit_opencl_kernel_time": 0,
                "obfuscate": 0,
                "winograd": 0,
            }
        },
        "droidmace": {
            "models": {"net": {"graph_file": "net.pb", "data_file": "net.data"}},
            "dataset": {"arrays": "samples.npz"},
            "validate": {"gates": GATES},
        },
    }
    path = folder / "net.yml"
    path.write_text(yaml.safe_dump(document))
    return path


def validated(droidmace: Droidmace, phone: Phone, config: Path) -> Any:
    converted = droidmace("convert", "-c", config)
    assert converted.code == 0, converted.stderr
    done = droidmace(
        *("validate", "--serial", phone.serial, "-c", config, "--out", config.parent, "--json")
    )
    assert done.code == 0, done.stderr
    assert done.document["took_part"] == COUNT
    return done.document


@pytest.mark.parametrize("runtime", ["gpu", "cpu+gpu"])
def test_two_inputs_and_two_outputs_each_in_a_layout_of_its_own(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path, runtime: str
) -> None:
    def image(name: str, channels: int, side: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, side, side])

    save(
        tmp_path / "net.onnx",
        [
            helper.make_node("Conv", ["a", "wa"], ["ca"], pads=[1] * 4),
            helper.make_node("Conv", ["b", "wb"], ["cb"], pads=[1] * 4),
            helper.make_node("Add", ["ca", "cb"], ["sum"]),
            helper.make_node("Conv", ["sum", "wd"], ["deep"], strides=[2, 2], pads=[1] * 4),
        ],
        [image("a", 3, 8), image("b", 3, 8)],
        [image("sum", 4, 8), image("deep", 8, 4)],
        wa=weights(4, 3, 3, 3),
        wb=-weights(4, 3, 3, 3)[::-1],
        wd=weights(8, 4, 3, 3),
    )
    values = np.random.default_rng(3).standard_normal((2, COUNT, 3, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "samples.npz", a=values[0], b=values[1].transpose(0, 2, 3, 1))
    subgraph = {
        "input_tensors": ["a", "b"],
        "input_shapes": ["1,3,8,8", "1,8,8,3"],
        "input_data_formats": ["NCHW", "NHWC"],
        "output_tensors": ["sum", "deep"],
        "output_shapes": ["1,8,8,4", "1,8,4,4"],
        "output_data_formats": ["NHWC", "NCHW"],
    }
    found = validated(droidmace, adreno_phone, deployment(tmp_path, subgraph, runtime))
    assert [(one["name"], one["elements"]) for one in found["outputs"]] == [
        ("sum", 256),
        ("deep", 128),
    ]
    assert found["classification"] is None


def test_whole_numbers_as_input(droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path) -> None:
    save(
        tmp_path / "net.onnx",
        [
            helper.make_node("Gather", ["table", "ids"], ["rows"], axis=0),
            helper.make_node("ReduceMean", ["rows"], ["mean"], axes=[1], keepdims=0),
        ],
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 6])],
        [helper.make_tensor_value_info("mean", TensorProto.FLOAT, [1, 8])],
        table=weights(50, 8),
    )
    np.savez(tmp_path / "samples.npz", ids=np.arange(COUNT * 6).reshape(COUNT, 6) % 50)
    subgraph = {
        "input_tensors": ["ids"],
        "input_shapes": ["1,6"],
        "input_data_formats": ["NONE"],
        "input_data_types": ["int32"],
        "output_tensors": ["mean"],
        "output_shapes": ["1,8"],
        "output_data_formats": ["NONE"],
    }
    found = validated(droidmace, adreno_phone, deployment(tmp_path, subgraph, "cpu"))
    assert found["runtime"] == "cpu"
