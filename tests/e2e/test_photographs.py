"""A trained net over photographs: from ONNX to an emulated phone's answers."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from droidmace.emulator.manager import Phone
from tests.conftest import PhoneLab
from tests.e2e.conftest import ROOT, Droidmace

NETS = ROOT / "examples" / "nets"
CONFIG = ROOT / "configs" / "efficientnet_lite0.yml"
FOLDER = "/data/local/tmp/photographs"


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(NETS))
    yield
    sys.path.remove(str(NETS))


@pytest.fixture(scope="module")
def twenty() -> list[Any]:
    import photographs

    return photographs.load_photographs()


@pytest.fixture(scope="module")
def converted(droidmace: Droidmace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the net as ONNX and, converted by the command, as ``.pb`` and ``.data``."""
    import nets

    folder = tmp_path_factory.mktemp("efficientnet")
    onnx.save(nets.efficientnet_lite0(), folder / "efficientnet_lite0.onnx")
    config = folder / "efficientnet_lite0.yml"
    config.write_text(CONFIG.read_text("utf-8").replace("../build/nets", str(folder)), "utf-8")
    done = droidmace("convert", "-c", config)
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def expected(converted: Path, twenty: list[Any]) -> np.ndarray:
    """onnxruntime's scores of each photograph, (20, 1000)."""
    import photographs

    session = onnxruntime.InferenceSession(converted / "efficientnet_lite0.onnx")
    inputs = [photographs.as_input(photograph.pixels) for photograph in twenty]
    return np.concatenate([session.run(None, {"image": image})[0] for image in inputs])


def test_a_phone_names_photographs_as_onnxruntime_does(
    phone_lab: PhoneLab,
    adreno_phone: Phone,
    converted: Path,
    twenty: list[Any],
    expected: np.ndarray,
    tmp_path: Path,
) -> None:
    import photographs

    local = tmp_path / "photographs"
    (local / "in").mkdir(parents=True)
    (local / "out").mkdir()
    for kind in ("pb", "data"):
        (local / f"net.{kind}").write_bytes((converted / f"efficientnet_lite0.{kind}").read_bytes())
    for index, photograph in enumerate(twenty):
        photographs.as_input(photograph.pixels).tofile(local / "in" / f"image_{index}")
    # read before the folder is, and not used
    photographs.as_input(twenty[0].pixels).tofile(local / "one_image")
    pushed = phone_lab.run_adb("-s", adreno_phone.serial, "push", str(local), FOLDER)
    assert pushed.returncode == 0, pushed
    try:
        phone_lab.output(
            adreno_phone,
            f"mkdir -p {FOLDER}/out && cd {FOLDER} &&"
            f" MACE_INTERNAL_STORAGE_PATH={FOLDER} /vendor/bin/mace_run"
            " --model_name=efficientnet_lite0 --model_file=net.pb --model_data_file=net.data"
            " --input_node=image --input_shape=1,3,224,224 --input_data_format=NCHW"
            " --output_node=scores --output_shape=1,1000 --output_data_format=NONE"
            " --input_file=one --input_dir=in --output_dir=out",
        )
        pulled = phone_lab.run_adb(
            "-s", adreno_phone.serial, "pull", f"{FOLDER}/out", str(tmp_path / "out")
        )
        assert pulled.returncode == 0, pulled
    finally:
        phone_lab.output(adreno_phone, f"rm -rf {FOLDER}")
    scores = np.stack(
        [np.fromfile(tmp_path / "out" / f"scores_{i}", np.float32) for i in range(len(twenty))]
    )
    assert scores.argmax(1).tolist() == expected.argmax(1).tolist()
    np.testing.assert_allclose(scores, expected, atol=1e-3 * np.abs(expected).max())
    labels = [photograph.label for photograph in twenty]
    assert sum(scores.argmax(1) == labels) == 18
