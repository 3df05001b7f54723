"""Samples by the chunk: one stream to the phone, one ``mace_run`` over all, one archive back.

``device_scripts/batch.sh`` cuts the stream into files (all samples of an input have one size, so
that no archive is needed), runs and packs. ``mace_run`` in batch mode prints no table and
drops the status of every inference (``mace/tools/mace_run.cc``): what counts is that each sample's
outputs come back, of the right size, exactly once, and that the log tells of no failed inference.
"""

from __future__ import annotations

import posixpath
import re
import secrets
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from droidmace.devices.base import Device, OutputChunk, RemoteProcess
from droidmace.errors import (
    DeviceError,
    DeviceStorageError,
    DeviceTimeoutError,
    DroidmaceError,
    MaceRunCrashError,
    MaceRunError,
    MaceRunOutputError,
)
from droidmace.formats.tensor_values import Values
from droidmace.macerun import failures
from droidmace.macerun.batch_outputs import BatchOutputs, split_suffix
from droidmace.macerun.events import Stage, StageReached
from droidmace.macerun.invocation import Invocation, formatted_name
from droidmace.macerun.output import OutputParser
from droidmace.macerun.session import MaceRunSession, WatchLimits
from droidmace.macerun.supervision import MarkerFilter
from droidmace.resources import device_script

_RAN = re.compile(rb"\x1edroidmace ran ([0-9]{1,3}) ([0-9.]{0,22}) ([0-9.]{0,22})\n")
_LONGEST_RAN = 80
_UPTIME = re.compile(rb"[0-9]{1,12}(\.[0-9]{1,9})?")
# ``MACE_RETURN_IF_ERROR`` (``include/mace/utils/logging.h``), all that an inference leaves behind.
_FAILED_STEP = " failed with error: "
SLOTS = 2
"""Chunks whose samples are on the phone at one time: one is computed, one waits or arrives."""
_PIECE_BYTES = 1 << 18
_SAID_BYTES = 8192
_REMOVE_TIMEOUT_S = 60.0
_FULL_BYTES = 4 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """Samples ``first`` to ``first + len(inputs)``: each input's raw file content by tensor name.

    Little-endian float32, or int32 for int32 tensors, in the shape and layout of the invocation.
    """

    first: int
    inputs: Sequence[Mapping[str, bytes]]


@dataclass(frozen=True, slots=True)
class SentChunk:
    """A chunk whose samples are on the phone, in the folder ``slot``; that took ``send_s``."""

    first: int
    count: int
    slot: str
    send_s: float


@dataclass(frozen=True, slots=True, eq=False)
class ChunkOutputs:
    """What came back for a chunk: each output by name, shape (samples, elements).

    ``run_s`` is the time in ``mace_run``, by the phone's clock where it tells one; ``wall_s``
    counts from when its output is first read until all is here.
    """

    first: int
    outputs: Mapping[str, Values]
    wall_s: float
    run_s: float

    @property
    def count(self) -> int:
        """How many samples."""
        return len(next(iter(self.outputs.values())))


class BatchTransport:
    """Carries chunks to one folder on the phone and their outputs back.

    ``send`` may run in another thread than the rest.
    """

    def __init__(
        self,
        device: Device,
        session: MaceRunSession,
        invocation: Invocation,
        root: str,
        *,
        timeout_s: float,
        limits: WatchLimits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``invocation`` is that of single runs; ``timeout_s`` is for a chunk's every step."""
        if invocation.batch or invocation.tuning:
            raise ValueError("a batch makes folders of its own, and tunes nothing")
        self._device = device
        self._session = session
        self._invocation = invocation
        self._root = posixpath.normpath(root)
        self._base = f"{self._root}/batch/{secrets.token_hex(4)}"
        self._timeout_s = timeout_s
        self.limits = limits or WatchLimits()
        self.clock = clock
        self._next_slot = 0

    def remove(self) -> None:
        """Remove all that batches, also earlier ones, have put on the phone."""
        self._device.remove(f"{self._root}/batch")

    def free_bytes(self) -> int | None:
        """The phone's free storage, if it tells."""
        result = self._device.run(f"df -k {shlex.quote(posixpath.dirname(self._root))}")
        match = re.search(r"\s[0-9]{1,15}\s+[0-9]{1,15}\s+([0-9]{1,15})\s+[0-9]{1,3}%", result.text)
        return int(match[1]) * 1024 if match else None

    def send(self, chunk: Chunk, stop: threading.Event) -> SentChunk:
        """Bring a chunk's samples to the phone, over those of the last chunk but one.

        Gives up once ``stop`` is set, whatever has arrived by then. Raises ``DeviceStorageError``,
        ``ValueError`` for a sample that is not as the invocation says.
        """
        self._check(chunk)
        began_s = self.clock()
        count = len(chunk.inputs)
        slot = f"in{self._next_slot}"
        self._next_slot = (self._next_slot + 1) % SLOTS
        for tensor in self._invocation.inputs:
            if not stop.is_set():
                files = [formatted_name(tensor), str(count), str(tensor.size_bytes)]
                contents = (sample[tensor.name] for sample in chunk.inputs)
                self._send_files(chunk, [slot, *files], contents, stop)
        return SentChunk(chunk.first, count, slot, self.clock() - began_s)

    def _send_files(
        self, chunk: Chunk, files: Sequence[str], contents: Iterable[bytes], stop: threading.Event
    ) -> None:
        markers = MarkerFilter()
        said = bytearray()
        with self._device.start(
            self._command("take", *files),
            timeout_s=self._timeout_s,
            silence_s=self.limits.heartbeat_s,
            stdin=_pieces(contents, stop),
        ) as process:
            for piece in process.chunks():
                if piece.stream == "stderr":
                    said += markers.feed(piece.data)
                    del said[:-_SAID_BYTES]
                if stop.is_set():
                    return
            said += markers.finish()
            self._judge_sent(chunk, markers.exit_status, process, bytes(said))

    def start(self, chunk: SentChunk, *, keep_outputs: bool = False) -> RunningChunk:
        """Start ``mace_run`` on a chunk that was sent.

        With ``keep_outputs`` its outputs stay on the phone until :meth:`remove`.
        """
        invocation = self._batch_invocation(chunk)
        variables = [f"{name}={value}" for name, value in invocation.environment().items()]
        words = [str(chunk.first), invocation.cwd, *(["-k"] if keep_outputs else []), *variables]
        process = self._device.start(
            self._command("run", *words, "--", *invocation.argv()),
            timeout_s=self._timeout_s,
            silence_s=self.limits.heartbeat_s,
        )
        return RunningChunk(self, process, chunk, invocation)

    def run_in_terminal(self, invocation: Invocation, count: int) -> None:
        """Run the ``count`` samples of a chunk once more, where no line of the log is lost.

        Raises what a session raises.
        """
        suffixes = [split_suffix(index) for index in range(count)]
        self._session.run_batch(invocation, suffixes, timeout_s=self._timeout_s, pty=True)

    def _batch_invocation(self, chunk: SentChunk) -> Invocation:
        return replace(
            self._invocation,
            input_file=f"{self._base}/unused",
            output_file="",
            input_dir=f"{self._base}/{chunk.slot}",
            output_dir=f"{self._base}/out/{chunk.first}",
            rounds=1,
        )

    def _command(self, todo: str, *words: str) -> str:
        return shlex.join(
            ["sh", "-c", device_script("batch.sh"), "batch.sh", todo, self._base, *words]
        )

    def _check(self, chunk: Chunk) -> None:
        wanted = {tensor.name: tensor.size_bytes for tensor in self._invocation.inputs}
        if not chunk.inputs:
            raise ValueError("a chunk without samples")
        for index, sample in enumerate(chunk.inputs, chunk.first):
            sizes = {name: len(data) for name, data in sample.items()}
            if sizes != wanted:
                raise ValueError(f"sample {index} has inputs {sizes} instead of {wanted}")

    def _judge_sent(
        self, chunk: Chunk, status: int | None, process: RemoteProcess, said: bytes
    ) -> None:
        text = said.decode("utf-8", "replace").strip()
        if status is None:
            parser = OutputParser()
            parser.feed(said)
            parser.finish()
            raise failures.cut_off(process.exit_code, parser, self._device.serial)
        if status:
            raise self.storage_error(
                f"the phone cannot take samples {chunk.first} to "
                f"{chunk.first + len(chunk.inputs) - 1}",
                text,
            )

    def storage_error(self, message: str, said: str) -> DeviceStorageError:
        """The error for files that could not be written, with what the phone has left."""
        free = self._free_text()
        return DeviceStorageError(
            f"{message}{free}",
            serial=self._device.serial,
            stderr=said,
            hint="free some space on the device, or let it take fewer samples at a time; then run "
            "the command again",
        )

    def _free_text(self) -> str:
        try:
            free = self.free_bytes()
        except DeviceError:
            return ""
        return "" if free is None else f": {free / (1 << 20):,.1f} MiB are free"

    def is_full(self) -> bool:
        """Whether the phone's storage is as good as full."""
        try:
            free = self.free_bytes()
        except DeviceError:
            return False
        return free is not None and free < _FULL_BYTES

    @property
    def serial(self) -> str:
        """The device's."""
        return self._device.serial


class RunningChunk:
    """``mace_run`` at work on a chunk. Use it as a context manager, or close it."""

    def __init__(
        self,
        transport: BatchTransport,
        process: RemoteProcess,
        chunk: SentChunk,
        invocation: Invocation,
    ) -> None:
        self._transport = transport
        self._process = process
        self._first = chunk.first
        self._count = chunk.count
        self._invocation = invocation
        self._parser = OutputParser()
        self._outputs = BatchOutputs(invocation.outputs, chunk.count)
        self._markers = MarkerFilter()
        self._held = b""
        self._run_s: float | None = None
        self._status: int | None = None
        self._failed_run = ""

    @property
    def computed(self) -> bool:
        """Whether ``mace_run`` has ended; its outputs may still be on their way."""
        return self._status is not None

    def close(self) -> None:
        """Stop it if it still runs."""
        self._process.close()

    def collect(self, on_progress: Callable[[], None] = lambda: None) -> ChunkOutputs:
        """Read it to its end. ``on_progress`` is called whenever something has come.

        Raises ``MaceRunCrashError``, ``MaceRunRetryError``, ``MaceRunOutputError`` (an inference
        failed; an output is missing, of the wrong size, or one too many), ``DeviceStorageError``
        where that is for want of room, and the device's own ``DeviceError`` s.
        """
        limits, clock = self._transport.limits, self._transport.clock
        began_s = spoke_s = clock()
        with self._process:
            try:
                for piece in self._process.chunks():
                    if self._take(piece):
                        spoke_s = clock()
                    retry = self._parser.retry
                    if retry is not None and limits.endless(retry, clock() - spoke_s):
                        raise failures.endless_retry(retry, self._parser, self._transport.serial)
                    on_progress()
            except DeviceTimeoutError as error:
                raise self._timed_out() from error
        self._parser.feed(self._markers.finish(), "stderr")
        self._parser.finish()
        self._judge()
        wall_s = clock() - began_s
        return ChunkOutputs(
            self._first,
            self._outputs.values,
            wall_s,
            wall_s if self._run_s is None else self._run_s,
        )

    def _take(self, piece: OutputChunk) -> bool:
        """Take a piece of output; return whether ``mace_run`` said something in it."""
        if piece.stream == "stderr":
            return self._log(self._markers.feed(piece.data), "stderr")
        if self.computed:
            self._outputs.feed(piece.data)
            return False
        data = self._held + piece.data
        match = _RAN.search(data)
        if match is None:
            lead = data.rfind(b"\x1e")
            keep = len(data) - lead if lead >= 0 and len(data) - lead < _LONGEST_RAN else 0
            self._held = data[len(data) - keep :]
            return self._log(data[: len(data) - keep], "stdout")
        self._held = b""
        self._status = int(match[1])
        if all(_UPTIME.fullmatch(match[group]) for group in (2, 3)):
            self._run_s = max(0.0, float(match[3]) - float(match[2]))
        spoke = self._log(data[: match.start()], "stdout")
        self._outputs.feed(data[match.end() :])
        return spoke

    def _log(self, data: bytes, stream: str) -> bool:
        if not data:
            return False
        lines = self._parser.feed(data, "stdout" if stream == "stdout" else "stderr")
        for line in lines:
            if isinstance(line.event, StageReached) and line.event.stage is Stage.ENGINE_CREATED:
                # What had failed was creating it, and was repeated.
                self._failed_run = ""
            elif line.log is not None and _FAILED_STEP in line.text and not self._failed_run:
                self._failed_run = line.log.text
        return True

    def _timed_out(self) -> DroidmaceError:
        parser = self._parser
        if parser.retry is not None:
            return failures.endless_retry(parser.retry, parser, self._transport.serial)
        return DeviceTimeoutError(
            f"mace_run did not end its {self._count} samples in time and was stopped",
            serial=self._transport.serial,
            hint="raise the deadline, or let it take fewer samples at a time",
            details=parser.tail() or None,
        )

    def _judge(self) -> None:
        parser, serial = self._parser, self._transport.serial
        if self._markers.exit_status is None:
            raise failures.cut_off(self._process.exit_code, parser, serial)
        if self._status is None:
            raise DeviceStorageError(
                "the phone's run folder is gone", serial=serial, details=parser.tail() or None
            )
        if (error := failures.not_started(parser, self._status, serial)) is not None:
            raise error
        if failures.signal_of(self._status) is not None or parser.fatal:
            raise self._crash()
        if self._failed_run:
            raise MaceRunOutputError(
                f"an inference failed in batch mode: {self._failed_run}",
                where=serial,
                hint="its outputs would be those of another sample: none of this chunk is used",
                details=parser.tail() or None,
            )
        problems = self._outputs.problems()
        if self._markers.exit_status and not problems:
            problems = [f"the phone's tar ended with status {self._markers.exit_status}"]
        if problems:
            total = self._count * len(self._invocation.outputs)
            error = failures.bad_outputs(problems, self._outputs.wrong, total, parser, serial)
            if self._transport.is_full():
                raise self._transport.storage_error(
                    f"the phone's storage is full: {error.message}", error.details or ""
                ) from error
            raise error

    def _crash(self) -> DroidmaceError:
        """The error for a crash, with what a second run through a terminal says: none is lost."""
        parser, status = self._parser, self._status or 0
        serial = self._transport.serial
        first = failures.crash(status, first=parser, second=parser, recovery="", serial=serial)
        if parser.fatal or not failures.crashed_by_itself(status):
            return first
        try:
            self._transport.run_in_terminal(self._invocation, self._count)
        except MaceRunCrashError as error:
            return error
        except (DeviceError, MaceRunError):
            return first
        return first


def _pieces(contents: Iterable[bytes], stop: threading.Event) -> Iterator[bytes]:
    """Files one behind the other, in pieces that are worth a packet; ends early at ``stop``."""
    held: list[bytes] = []
    size = 0
    for data in contents:
        held.append(data)
        size += len(data)
        if size >= _PIECE_BYTES:
            if stop.is_set():
                return
            yield b"".join(held)
            held.clear()
            size = 0
    yield b"".join(held)
