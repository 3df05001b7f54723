"""``droidmace validate`` as a user runs it: on emulated phones, through a real adb server."""

from __future__ import annotations

import gzip
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from droidmace.emulator.manager import Phone
from droidmace.validation.idx import read_idx
from tests.conftest import PhoneLab
from tests.e2e.conftest import FASHION, ROOT, Done, Droidmace

DATASETS = Path("/usr/share/datasets/fashion-mnist")
ALL_IMAGES = DATASETS / "t10k-images-idx3-ubyte.gz"
ALL_LABELS = DATASETS / "t10k-labels-idx1-ubyte.gz"
EXAMPLE = ROOT / "examples" / "fashion_mnist"
FEW_IMAGES = EXAMPLE / "t10k-first1000-images-idx3-ubyte.gz"
FEW_LABELS = EXAMPLE / "t10k-first1000-labels-idx1-ubyte.gz"


def validate(droidmace: Droidmace, phone: Phone, out: Path, *arguments: object) -> Done:
    given = [str(argument) for argument in arguments]
    config = () if "-c" in given else ("-c", FASHION)
    return droidmace("validate", "--serial", phone.serial, *config, "--out", out, "--json", *given)


def left_on(phone_lab: PhoneLab, phone: Phone) -> list[str]:
    """What is there of a run: its folder, what is named as ``split`` names samples, its graph."""
    names = "-name batch -o -name '*_aaa?' -o -name '*.tar' -o -name '*.cpu'"
    found = phone_lab.output(phone, f"find /data/local/tmp/mace_run {names}")
    return found.splitlines()


@pytest.fixture(scope="module")
def whole(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path_factory: pytest.TempPathFactory
) -> Any:
    """All ten thousand test images, once."""
    out = tmp_path_factory.mktemp("whole")
    done = validate(
        droidmace,
        adreno_phone,
        out,
        *("--dataset", ALL_IMAGES, "--labels", ALL_LABELS),
        *("--save-outputs", out / "outputs.npz"),
    )
    assert done.code == 0, done.stderr
    return done.document, out


def test_ten_thousand_images_agree_with_onnxruntime_label_for_label(whole: Any) -> None:
    document, _ = whole
    assert document["asked"] == document["took_part"] == 10_000
    assert document["classification"]["agreement"]["of"] == 10_000
    assert document["classification"]["agreement"]["share"] >= 0.999
    assert document["threshold"]["passed"]
    assert document["outputs"][0]["not_finite"] == 0


def test_top1_is_what_an_independent_count_finds(whole: Any) -> None:
    document, out = whole
    labels = np.frombuffer(gzip.decompress(ALL_LABELS.read_bytes())[8:], dtype=np.uint8)
    with np.load(out / "outputs.npz") as arrays:
        outputs = arrays["probabilities"]
    assert outputs.shape == (10_000, 10)
    right = sum(int(row.argmax()) == label for row, label in zip(outputs, labels, strict=True))
    top1 = document["classification"]["phone"]["top1"]
    assert (top1["count"], top1["of"]) == (right, 10_000)
    # Wilson's interval by its defining equation: (p - x)^2 = z^2 x (1 - x) / n at both ends.
    for end in (top1["low"], top1["high"]):
        share = right / 10_000
        z2 = (share - end) ** 2 * 10_000 / (end * (1 - end))
        assert z2 == pytest.approx(1.959964**2, rel=1e-4)
    per_class = {row["label"]: row for row in document["classification"]["classes"]}
    for label in range(10):
        mine = labels == label
        assert per_class[label]["samples"] == mine.sum()
        assert per_class[label]["right"] == (outputs.argmax(axis=1)[mine] == label).sum()


def test_the_result_is_kept_and_nothing_else(
    whole: Any, phone_lab: PhoneLab, adreno_phone: Phone
) -> None:
    document, out = whole
    kept = {path.name for path in out.iterdir()}
    (name,) = kept - {"outputs.npz"}
    assert name.endswith(".validation.json")
    assert json.loads((out / name).read_text()) == document
    assert left_on(phone_lab, adreno_phone) == []


def test_stored_outputs_serve_as_reference(
    whole: Any, droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    _, out = whole
    done = validate(
        droidmace, adreno_phone, tmp_path, "--limit", 40, "--against", out / "outputs.npz"
    )
    assert done.code == 0, done.stderr
    assert done.document["classification"]["agreement"]["count"] == 40
    assert done.document["outputs"][0]["max_abs_error"] == 0
    assert "outputs.npz" in done.document["against"]


def test_the_phones_own_processor_serves_as_reference(
    droidmace: Droidmace, mali_phone: Phone, phone_lab: PhoneLab, tmp_path: Path
) -> None:
    done = validate(droidmace, mali_phone, tmp_path, "--limit", 30, "--against", "cpu")
    assert done.code == 0, done.stderr
    document = done.document
    assert document["classification"]["agreement"]["count"] == 30
    assert 0 < document["outputs"][0]["max_abs_error"] < 1e-4
    assert left_on(phone_lab, mali_phone) == []


def test_gates_decide_the_exit_code(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    config = deployment_with(tmp_path, {"validate": {"gates": {"top1": 0.999}}})
    done = validate(droidmace, adreno_phone, tmp_path, "-c", config, "--limit", 50)
    assert done.code == 1
    (gate,) = done.document["gates"]
    assert (gate["name"], gate["passed"]) == ("top1", False)


def test_a_killed_host_leaves_work_that_the_same_command_goes_on_with(
    droidmace: Droidmace, adreno_phone: Phone, phone_lab: PhoneLab, tmp_path: Path
) -> None:
    config = deployment_with(tmp_path, {"validate": {"chunk_samples": 50}})
    command = [
        *(sys.executable, "-m", "droidmace", "validate", "--serial", adreno_phone.serial),
        *("-c", str(config), "--out", str(tmp_path), "--limit", "300"),
    ]
    running = subprocess.Popen(
        command, env=phone_lab.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    log = None
    while running.poll() is None:
        log = next(tmp_path.glob("*.validation.work/outputs/outputs.bin"), None)
        if log is not None and log.stat().st_size > 0:
            running.send_signal(signal.SIGKILL)
            break
    running.wait()
    assert log is not None
    assert log.exists(), "it was over before it could be killed"
    done = validate(droidmace, adreno_phone, tmp_path, "-c", config, "--limit", 300)
    assert done.code == 0, done.stderr
    timings = done.document["timings"]
    assert 50 <= timings["resumed"] < 300
    assert timings["resumed"] % 50 == 0
    assert done.document["took_part"] == 300
    reference = validate(droidmace, adreno_phone, tmp_path, "--limit", 300).document
    assert done.document["classification"] == reference["classification"]
    assert not list(tmp_path.glob("*.work"))


def deployment_with(folder: Path, section: dict[str, Any], **dataset: object) -> Path:
    """The example's deployment file with more in its ``droidmace`` section."""
    document = yaml.safe_load(FASHION.read_text())
    model = document["models"]["fashion_mnist"]
    model["model_file_path"] = str(EXAMPLE / "fashion_mnist.onnx")
    ours = document["droidmace"]
    ours["models"]["fashion_mnist"] = {
        "graph_file": str(EXAMPLE / "fashion_mnist.pb"),
        "data_file": str(EXAMPLE / "fashion_mnist.data"),
    }
    ours["dataset"] |= {"images": str(FEW_IMAGES), "labels": str(FEW_LABELS)}
    ours["dataset"] = {
        key: value for key, value in (ours["dataset"] | dataset).items() if value is not None
    }
    path = folder / "net.yml"
    path.write_text(yaml.safe_dump(document | {"droidmace": ours | section}))
    return path


# A plugin as MACE documents it: written to the protocol, not to droidmace.
PLUGIN = """
import gzip
import sys
import numpy as np

class AccuracyValidator(object):
    def __init__(self, **kwargs):
        sys.stdout.write("past print")
        with gzip.open({images!r}) as stream:
            data = stream.read()
        self.images = np.frombuffer(data[16:], dtype=np.uint8).reshape(-1, 28, 28)
        with gzip.open({labels!r}) as stream:
            self.labels = np.frombuffer(stream.read()[8:], dtype=np.uint8)
        self.correct = 0

    def sample_size(self):
        return 200

    def batch_size(self):
        return 7

    def preprocess(self, start, end, **kwargs):
        values = self.images[start:end].astype(np.float32) / np.float32(255)
        return {{"image": [one.reshape(1, 28, 28).tolist() for one in values]}}

    def postprocess(self, start, end, output_map, **kwargs):
        answers = np.asarray(output_map["probabilities"]).reshape(end - start, 10)
        self.correct += int((answers.argmax(axis=1) == self.labels[start:end]).sum())

    def result(self, **kwargs):
        return "top1: %d" % self.correct
"""


def plugin_deployment(folder: Path, text: str = PLUGIN) -> Path:
    script = folder / "validator.py"
    script.write_text(text.format(images=str(FEW_IMAGES), labels=str(FEW_LABELS)))
    clear = dict.fromkeys(("images", "labels", "mean", "scale"))
    return deployment_with(folder, {}, plugin=str(script), **clear)


def test_a_plugin_counts_what_the_built_in_path_counts(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    config = plugin_deployment(tmp_path)
    done = validate(droidmace, adreno_phone, tmp_path, "-c", config, "--allow-plugin")
    assert done.code == 0, done.stderr
    own = validate(droidmace, adreno_phone, tmp_path, "--limit", 200).document
    right = own["classification"]["phone"]["top1"]["count"]
    assert done.document["plugin"] == f"top1: {right}"
    assert done.document["took_part"] == 200


def test_a_plugin_runs_only_when_it_is_allowed(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    marker = tmp_path / "ran"
    text = f"open({str(marker)!r}, 'w').close()\n" + PLUGIN
    done = validate(droidmace, adreno_phone, tmp_path, "-c", plugin_deployment(tmp_path, text))
    assert done.code == 2
    assert "--allow-plugin" in done.error["hint"]
    assert not marker.exists()


def test_samples_without_labels_and_without_reference_are_refused(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    images = tmp_path / "images.gz"
    shutil.copy(FEW_IMAGES, images)
    done = validate(droidmace, adreno_phone, tmp_path, "--dataset", images, "--against", "none")
    assert done.code == 2
    assert "no labels" in done.error["message"]


def test_more_samples_than_there_are_is_an_error(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    done = validate(droidmace, adreno_phone, tmp_path, "--limit", 1001)
    assert done.code == 2
    assert "1001 samples are asked for, there are 1000" in done.error["message"]


def test_fewer_labels_than_images_is_an_error(
    droidmace: Droidmace, adreno_phone: Phone, tmp_path: Path
) -> None:
    labels = read_idx(FEW_LABELS)
    short = tmp_path / "labels"
    short.write_bytes(b"\0\0\x08\x01" + (999).to_bytes(4, "big") + labels[:999].tobytes())
    done = validate(droidmace, adreno_phone, tmp_path, "--dataset", FEW_IMAGES, "--labels", short)
    assert done.code == 2
    assert "999" in done.error["message"]
    assert "1000" in done.error["message"]
