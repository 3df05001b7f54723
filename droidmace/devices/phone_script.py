"""Scripts of ``device_scripts/`` that run on the phone beside the work.

Each is given to the phone's shell as text, so it needs no file there. It prints lines; the first is
``pid NUMBER``, so that it can be told to stop and still say its last words.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import threading
from collections.abc import Callable, Iterator

from droidmace.devices.base import Device, RemoteProcess
from droidmace.errors import DeviceError
from droidmace.resources import device_script

STOP_TIMEOUT_S = 8.0
"""How long a script may take to tidy up once it was told to stop."""

_COMMAND_TIMEOUT_S = 10.0
_MAX_LINE_BYTES = 8192
_PID = re.compile(r"pid ([1-9][0-9]{0,9})")


def script_command(name: str, *arguments: str) -> str:
    """The command line that runs a script with these arguments; the text is its ``$script``."""
    words = shlex.join(["sh", "-c", 'eval "$script"', name, *arguments])
    return f"script={shlex.quote(device_script(name))} {words}"


def script_lines(process: RemoteProcess) -> Iterator[str]:
    """The lines that a script prints, as they come. A last one without its end is left out.

    Lines beyond 8 KiB come cut. Raises what ``process.chunks()`` raises.
    """
    held = b""
    for chunk in process.chunks():
        if chunk.stream != "stdout":
            continue
        *lines, held = (held + chunk.data).split(b"\n")
        for line in lines:
            yield line[:_MAX_LINE_BYTES].decode("utf-8", "replace").rstrip("\r")
        held = held[:_MAX_LINE_BYTES]


class ScriptRun:
    """A script under way on the phone; a thread reads what it prints.

    ``on_line`` is called from that thread with every line but the first, ``on_end`` after the last.
    ``error`` is what broke the connection, if anything did: by then the script has noticed as well.
    """

    def __init__(
        self,
        device: Device,
        name: str,
        *arguments: str,
        timeout_s: float,
        on_line: Callable[[str], None],
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._device = device
        self._name = name
        self._on_line = on_line
        self._on_end = on_end
        self._pid: int | None = None
        self._stopping = threading.Event()
        self.ended = threading.Event()
        self.error: DeviceError | None = None
        self._process = device.start(script_command(name, *arguments), timeout_s=timeout_s)
        self._thread = threading.Thread(target=self._read, name=name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> bool:
        """Tell it to stop and wait for its end; False if that did not come in time."""
        self._stopping.set()
        if self._pid is not None and not self.ended.is_set():
            # A phone out of reach cannot be told; the script sees the connection end.
            with contextlib.suppress(DeviceError):
                self._device.run(
                    f"kill -s TERM {self._pid} 2>/dev/null", timeout_s=_COMMAND_TIMEOUT_S
                )
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _read(self) -> None:
        try:
            with self._process as process:
                for line in script_lines(process):
                    match = _PID.fullmatch(line) if self._pid is None else None
                    if match is not None:
                        self._pid = int(match[1])
                        if self._stopping.is_set():
                            return  # it was too early to be told: leaving stops it as well
                        continue
                    self._on_line(line)
        except DeviceError as error:
            self.error = error
        finally:
            self.ended.set()
            self._on_end()
