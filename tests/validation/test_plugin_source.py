"""MACE's AccuracyValidator: its protocol kept, its mistakes told."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from droidmace.errors import InputError
from droidmace.validation.classification import ClassTally
from droidmace.validation.pipeline import prepared
from droidmace.validation.preprocess import Preprocess
from droidmace.validation.sources.plugin import AccuracyPlugin
from tests.validation.labelled_files import AnInput

INPUT = AnInput((1, 2, 2, 1), data_format="NHWC")
OUTPUT = AnInput((1, 3), name="scores", data_format="NONE")

# Written to MACE's documentation: docs/user_guide/advanced_usage.rst, "Validate accuracy".
GOOD = """\
import os
import numpy as np

print("loading")

class AccuracyValidator(object):
    def __init__(self, **kwargs):
        self._count = 10
        self._right = 0
        self.calls = []

    def sample_size(self):
        return self._count

    def batch_size(self):
        return BATCH

    def preprocess(self, sample_idx_start, sample_idx_end, **kwargs):
        end = min(sample_idx_end, self.sample_size())
        print("preparing", sample_idx_start, end)
        return {"image": [np.full((2, 2, 1), i, np.float32).tolist()
                          for i in range(sample_idx_start, end)]}

    def postprocess(self, sample_idx_start, sample_idx_end, output_map, **kwargs):
        end = min(sample_idx_end, self.sample_size())
        count = end - sample_idx_start
        output = np.array(output_map["scores"]).reshape((count, -1))
        for place, label in enumerate(np.argmax(output, axis=-1)):
            self._right += int(label == (sample_idx_start + place) % 3)
        self.calls.append((sample_idx_start, sample_idx_end))

    def result(self):
        print("calls", self.calls)
        print("Top 1 accuracy: %f" % (self._right * 1.0 / self.sample_size()))
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "validator.py"
    path.write_text(textwrap.dedent(text), "utf-8")
    return path


def loaded(
    tmp_path: Path, text: str = GOOD, batch: int = 1, limit: int | None = None
) -> AccuracyPlugin:
    script = write(tmp_path, text.replace("BATCH", str(batch)))
    return AccuracyPlugin(script, [INPUT], [OUTPUT], allow=True, limit=limit)


def scores(count: int) -> np.ndarray:
    """Seven of ten are right."""
    labels = np.arange(10) % 3
    labels[[1, 4, 8]] = (labels[[1, 4, 8]] + 1) % 3
    return np.eye(3, dtype=np.float32)[labels[:count]]


@pytest.mark.parametrize("batch", [1, 4, 10, 64])
def test_the_protocol(tmp_path: Path, batch: int, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = loaded(tmp_path, batch=batch)
    samples = list(prepared(plugin, Preprocess(), [INPUT], 0, plugin.count))
    assert [sample.inputs["image"].ravel().tolist() for sample in samples] == [
        [float(n)] * 4 for n in range(10)
    ]
    # Outputs come in chunks of any size; the plugin sees its own batches.
    outputs = scores(10)
    for begin, end in [(0, 3), (3, 4), (4, 10)]:
        plugin.postprocess(begin, end, {"scores": outputs[begin:end]})
    said = plugin.result()
    batches = [(first, min(first + batch, 10)) for first in range(0, 10, batch)]
    assert f"calls {batches}" in said
    assert "Top 1 accuracy: 0.700000" in said
    assert "loading" in plugin.printed
    assert capsys.readouterr().out == ""


def test_its_top1_is_ours(tmp_path: Path) -> None:
    plugin = loaded(tmp_path)
    plugin.postprocess(0, 10, {"scores": scores(10)})
    tally = ClassTally(None)
    tally.add(np.arange(10) % 3, scores(10), None)
    assert f"{tally.result().phone.top1.value:f}" in plugin.result()


def test_a_limit_is_what_the_plugin_counts(tmp_path: Path) -> None:
    plugin = loaded(tmp_path, batch=4, limit=6)
    assert plugin.count == 10
    list(plugin.read(0, 6))
    plugin.postprocess(0, 6, {"scores": scores(6)})
    assert "Top 1 accuracy: 0.666667" in plugin.result()


def test_reading_in_the_middle_keeps_to_batches(tmp_path: Path) -> None:
    plugin = loaded(tmp_path, batch=4)
    assert [sample.name for sample in plugin.read(3, 9)] == [
        f"validator.py[{n}]" for n in range(3, 9)
    ]
    prepared_ranges = [line for line in plugin.printed.splitlines() if "preparing" in line]
    assert prepared_ranges == ["preparing 3 4", "preparing 4 8", "preparing 8 9"]


def test_it_runs_only_if_allowed(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    script = write(
        tmp_path,
        f"from pathlib import Path\nPath({str(marker)!r}).touch()\n" + GOOD.replace("BATCH", "1"),
    )
    with pytest.raises(InputError, match="with all your rights") as caught:
        AccuracyPlugin(script, [INPUT], [OUTPUT], allow=False)
    assert caught.value.hint is not None
    assert "--allow-plugin" in caught.value.hint
    assert not marker.exists()
    AccuracyPlugin(script, [INPUT], [OUTPUT], allow=True)
    assert marker.exists()


def test_a_module_of_its_own(tmp_path: Path) -> None:
    before = set(sys.modules)
    loaded(tmp_path)
    assert "validator" not in set(sys.modules) - before


def changed(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("x = (", r"validator\.py: the plugin: import raised SyntaxError"),
        ("import nowhere", r"validator\.py:1: .*raised ModuleNotFoundError"),
        ("import sys; sys.exit(3)", "import raised SystemExit: 3"),
        ("x = 1", "has no class AccuracyValidator"),
        ("AccuracyValidator = 3", "has no class AccuracyValidator"),
        (changed("def result", "def results"), "has no result in its class"),
        (changed("self._count = 10", "open('/nowhere')"), r":8: .*AccuracyValidator\(\) raised"),
        (changed("return self._count", "return 0"), r"sample_size\(\) returned 0, not 1 to"),
        (changed("return self._count", "return '9'"), "returned '9', not a whole number"),
        (changed("return BATCH", "return None"), r"batch_size\(\) returned None"),
    ],
)
def test_what_cannot_be_loaded(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint) as caught:
        loaded(tmp_path, text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (changed('return {"image": [', "return [1, [").replace("}\n", "]\n", 1), "returned list"),
        (changed('{"image"', '{"data"'), r"preprocess\(0, 1\) gave data, but no 'image'"),
        (
            changed("(2, 2, 1), i", "(2, 2), i"),
            r"'image' has shape \[1, 2, 2\], not \[1, 2, 2, 1\]",
        ),
        (changed("np.full((2, 2, 1), i, np.float32).tolist()", "'cat'"), "no array of numbers"),
        (changed('print("preparing"', 'raise KeyError("gone"'), r":20: .*\(0, 1\) raised KeyError"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path: Path, text: str, complaint: str) -> None:
    plugin = loaded(tmp_path, text)
    with pytest.raises(InputError, match=complaint):
        list(plugin.read(0, 10))


def test_too_few_samples_of_a_batch(tmp_path: Path) -> None:
    plugin = loaded(tmp_path, changed("range(sample_idx_start, end)]", "range(1)]"), batch=4)
    with pytest.raises(
        InputError, match=r"preprocess\(0, 4\) .*\[1, 2, 2, 1\], not \[4, 2, 2, 1\]"
    ):
        list(plugin.read(0, 10))


def test_judging_that_fails(tmp_path: Path) -> None:
    plugin = loaded(tmp_path, changed('["scores"]', '["probabilities"]'))
    with pytest.raises(InputError, match=r"postprocess\(0, 1, \.\.\.\) raised KeyError"):
        plugin.postprocess(0, 2, {"scores": scores(2)})
    plugin = loaded(tmp_path, changed("self._right * 1.0 /", "1 / 0 *"))
    with pytest.raises(InputError, match=r":34: .*result\(\) raised ZeroDivisionError"):
        plugin.result()


def test_only_its_own_print_is_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = changed('print("preparing"', 'import sys; print("told", file=sys.stderr); print("kept"')
    plugin = loaded(tmp_path, text)
    for _ in plugin.read(0, 1):
        sys.stdout.write("ours\n")
    assert plugin.printed.endswith("kept 0 1\n")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("ours\n", "told\n")


def test_what_it_prints_is_bounded(tmp_path: Path) -> None:
    plugin = loaded(tmp_path, changed('print("preparing"', 'print("x" * 10_000_000 + "end"'))
    list(plugin.read(0, 1))
    assert len(plugin.printed) <= 1 << 16
    assert "end" in plugin.printed
