"""MACE's ``AccuracyValidator``: a script of the user's that brings samples and judges outputs.

The protocol is that of MACE's ``tools/accuracy_validator.py`` as its ``tools/device.py`` uses it:
``AccuracyValidator()`` with ``sample_size()``, ``batch_size()``, ``preprocess(start, end)`` that
returns inputs by name in the shape of the model's, ``postprocess(start, end, outputs)`` with
outputs by name in the shape of the model's, and ``result()``, which prints.

The script is code that runs here, with all that its user may do: it is loaded only if that was
asked for, whoever wrote the deployment file that names it.
"""

from __future__ import annotations

import importlib.util
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from droidmace.errors import InputError
from droidmace.files import sha256_of_file
from droidmace.validation.layouts import TensorLike
from droidmace.validation.samples import RawSample, Tensor, input_values

CLASS = "AccuracyValidator"
MAX_SAMPLES = 1_000_000_000
MAX_BATCH = 1 << 16
_KEPT_TEXT = 1 << 16
_MODULE = "droidmace_accuracy_plugin"
_METHODS = ("sample_size", "batch_size", "preprocess", "postprocess", "result")


def refuse_code(what: str, name: str) -> InputError:
    """Why code that a deployment file names does not run by itself, and how to let it."""
    return InputError(
        f"{what} {name} is Python code that would run on this computer with all your rights",
        where=name,
        hint="read it, then add --allow-plugin",
    )


class AccuracyPlugin:
    """The plugin as a source of samples, and as the judge of their outputs.

    ``inputs`` and ``outputs`` are the model's; their batch dimension is 1, and a plugin's batches
    of ``batch_size()`` are cut up. ``limit``: the plugin is told that there are no more samples
    than that, so that the shares that it prints are of those that ran.

    Raises ``InputError`` that names the script and the method: not allowed, not loadable, not of
    the protocol, raises, or gives something of a wrong shape.
    """

    many_readers = False
    classes: tuple[str, ...] = ()

    def __init__(
        self,
        script: Path,
        inputs: Sequence[TensorLike],
        outputs: Sequence[TensorLike],
        *,
        allow: bool,
        limit: int | None = None,
    ) -> None:
        if not allow:
            raise refuse_code("the accuracy plugin", str(script))
        self._script = script
        self._inputs = tuple(inputs)
        self._outputs = tuple(outputs)
        self._printed = _Tail()
        self._sink = self._printed
        self._waiting = _Waiting()
        try:
            self._script_sha256 = sha256_of_file(script)
        except OSError as error:
            raise InputError(
                f"cannot be read: {error.strerror or error}",
                where=str(script),
                hint="check the path of the plugin",
            ) from error
        module = self._guarded("import", lambda: _load(script, self._print))
        kind = getattr(module, CLASS, None)
        missing = [name for name in _METHODS if not callable(getattr(kind, name, None))]
        if not isinstance(kind, type) or missing:
            lacks = f"no {', '.join(missing)} in its" if isinstance(kind, type) else "no"
            raise InputError(
                f"has {lacks} class {CLASS}",
                where=str(script),
                hint="see MACE's tools/accuracy_validator.py for what it must have",
            )
        self._validator: Any = self._guarded(f"{CLASS}()", kind)
        self._count = self._whole("sample_size", MAX_SAMPLES)
        self._batch = self._whole("batch_size", MAX_BATCH)
        self._asked = self._count if limit is None else min(limit, self._count)
        if self._asked < self._count:
            # Its own methods ask self.sample_size() for the end and for the share.
            self._validator.sample_size = lambda: self._asked

    @property
    def count(self) -> int:
        """What ``sample_size()`` says, before any limit."""
        return self._count

    @property
    def identity(self) -> str:
        """The script's hash: what it reads is its own business."""
        return self._script_sha256

    @property
    def printed(self) -> str:
        """The last of what it printed while it worked."""
        return self._printed.text

    def read(self, begin: int, end: int) -> Iterator[RawSample]:
        """Samples as ``preprocess`` makes them, in batches that begin at multiples of its size."""
        first = begin
        while first < end:
            last = min(end, (first // self._batch + 1) * self._batch)
            call = f"preprocess({first}, {last})"
            found = self._guarded(call, partial(self._validator.preprocess, first, last))
            batch = self._checked_inputs(call, found, last - first)
            for place in range(last - first):
                yield RawSample(
                    f"{self._script.name}[{first + place}]",
                    None,
                    tensors={name: values[place : place + 1] for name, values in batch.items()},
                )
            first = last

    def postprocess(self, begin: int, end: int, outputs: Mapping[str, NDArray[Any]]) -> None:
        """Hand over the outputs (n, elements) of samples ``begin`` to ``end``, in order.

        The plugin gets them in batches of its own size; a part of a batch waits for the rest.
        """
        expected = self._waiting.begin + self._waiting.count
        if begin != expected:
            raise ValueError(f"outputs of sample {begin} after those of {expected - 1}")
        shaped = {}
        for tensor in self._outputs:
            shaped[tensor.name] = outputs[tensor.name].reshape(end - begin, *tensor.shape[1:])
        self._waiting.add(end - begin, shaped)
        while self._waiting.count >= self._batch:
            self._judge(self._batch)

    def result(self) -> str:
        """What ``result()`` prints, and what it returns if it returns something."""
        if self._waiting.count:
            self._judge(self._waiting.count)
        said = self._sink = _Tail()
        try:
            returned = self._guarded("result()", self._validator.result)
        finally:
            self._sink = self._printed
        parts = [said.text.strip(), "" if returned is None else str(returned)]
        return "\n".join(part for part in parts if part)

    def _judge(self, count: int) -> None:
        begin, outputs = self._waiting.take(count)
        end = begin + count
        self._guarded(
            f"postprocess({begin}, {end}, ...)",
            lambda: self._validator.postprocess(begin, end, outputs),
        )

    def _checked_inputs(self, call: str, found: object, count: int) -> dict[str, Tensor]:
        if not isinstance(found, Mapping):
            raise self._wrong(call, f"returned {type(found).__name__}, not inputs by name")
        batch: dict[str, Tensor] = {}
        for tensor in self._inputs:
            if tensor.name not in found:
                names = ", ".join(sorted(str(name) for name in found)) or "nothing"
                raise self._wrong(call, f"gave {names}, but no {tensor.name!r}")
            values: Tensor
            try:
                # A copy: the plugin may use its own array again.
                values = input_values(np.array(found[tensor.name]), tensor.data_type)
            except (ValueError, TypeError, OverflowError) as error:
                raise self._wrong(
                    call, f"{tensor.name!r} is no array of numbers: {error}"
                ) from error
            wanted = (count, *tensor.shape[1:])
            if values.shape != wanted:
                raise self._wrong(
                    call, f"{tensor.name!r} has shape {list(values.shape)}, not {list(wanted)}"
                )
            batch[tensor.name] = values
        return batch

    def _whole(self, method: str, most: int) -> int:
        value = self._guarded(f"{method}()", getattr(self._validator, method))
        if isinstance(value, bool) or not isinstance(value, int | np.integer):
            raise self._wrong(f"{method}()", f"returned {value!r:.80}, not a whole number")
        if not 1 <= value <= most:
            raise self._wrong(f"{method}()", f"returned {value}, not 1 to {most}")
        return int(value)

    def _print(
        self,
        *values: object,
        sep: str | None = None,
        end: str | None = None,
        file: TextIO | None = None,
        flush: bool = False,
    ) -> None:
        """The plugin's ``print``: its text is kept, so that it does not end up in our output.

        Of the script alone: standard output itself belongs to all threads.
        """
        sink = self._sink if file in (None, sys.stdout) else file
        print(*values, sep=sep, end=end, file=sink, flush=flush)

    def _guarded(self, call: str, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - anything
        """The call's result, or an error that names the call."""
        try:
            return function()
        except MemoryError:
            raise
        # Even sys.exit: a plugin does not end the run without a word.
        except (Exception, SystemExit) as error:
            raise self._wrong(
                call, f"raised {type(error).__name__}: {str(error)[:500]}", _line_of(error)
            ) from error

    def _wrong(self, call: str, what: str, line: str = "") -> InputError:
        return InputError(
            f"the plugin: {call} {what}",
            where=f"{self._script}{line}",
            hint="mend the plugin; MACE's tools/accuracy_validator.py shows the protocol",
            details=self._printed.text or None,
        )


class _Waiting:
    """Outputs (n, …) that do not fill a batch yet."""

    def __init__(self) -> None:
        self.begin = 0
        self.count = 0
        self._pieces: list[dict[str, NDArray[Any]]] = []

    def add(self, count: int, outputs: dict[str, NDArray[Any]]) -> None:
        self.count += count
        self._pieces.append(outputs)

    def take(self, count: int) -> tuple[int, dict[str, NDArray[Any]]]:
        """The first ``count``, and the number of the first of them."""
        whole = {
            name: np.concatenate([piece[name] for piece in self._pieces])
            for name in self._pieces[0]
        }
        first = {name: values[:count].copy() for name, values in whole.items()}
        self._pieces = [{name: values[count:] for name, values in whole.items()}]
        begin = self.begin
        self.begin += count
        self.count -= count
        return begin, first


class _Tail(io.TextIOBase):
    """Takes any amount of text and keeps the end of it."""

    def __init__(self) -> None:
        self.text = ""

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self.text = (self.text + text)[-_KEPT_TEXT:]
        return len(text)


def _load(script: Path, print_: Callable[..., None]) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE, script)
    if spec is None or spec.loader is None:
        raise ImportError("its name does not end in .py")
    module = importlib.util.module_from_spec(spec)
    vars(module)["print"] = print_
    # Not among sys.modules: two plugins in one process are two modules.
    spec.loader.exec_module(module)
    return module


def _line_of(error: BaseException) -> str:
    """``:LINE`` of the innermost frame in the plugin, empty if there is none."""
    line = ""
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_globals.get("__name__") == _MODULE:
            line = f":{trace.tb_lineno}"
        trace = trace.tb_next
    return line
