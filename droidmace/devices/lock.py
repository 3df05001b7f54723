"""One run per phone at a time: a lock that lies on the phone itself.

The phone may be reached from several computers and adb servers, so the lock is a folder on it:
``mkdir`` either makes it or fails. Inside, ``owner`` says who holds it; the owner touches
``beat`` now and then. A lock whose owner is gone (a dead process of this computer, or no beat for
long, by the phone's own clock) is taken over, and that is noted.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import secrets
import shlex
import socket
import sys
import threading
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Self

from droidmace.devices.base import CommandResult, Device
from droidmace.devices.probe import clean_text
from droidmace.devices.remote_paths import PHONE_ROOT, checked_path
from droidmace.errors import DeviceBusyError, DeviceError, DeviceStorageError

LOCK_NAME = "mace_run.lock"
LOCK_PATH = f"{PHONE_ROOT}/{LOCK_NAME}"
BEAT_S = 30.0
"""How often the owner touches its lock."""
STALE_S = 300
"""A lock without a beat for this long (by the phone's clock) has no owner any more."""
_TAKEOVER_STALE_S = 60
_COMMAND_TIMEOUT_S = 15.0
_MAX_OWNER_CHARACTERS = 4096

# All of it runs in one shell on the phone: nobody can come between two of its steps but another
# such shell, which the second folder ($L.takeover) keeps out while a stale lock is replaced.
_ACQUIRE = """\
L={path} STALE={stale} TAKEN={taken}
age() {{
  now=$(date +%s); then=$(stat -c %Y "$1" 2>/dev/null) || then=$now
  echo $((now - then))
}}
take() {{
  mkdir "$L" 2>/dev/null || return 1
  printf '%s\\n' {owner} > "$L/owner" && : > "$L/beat" && return 0
  rm -rf "$L"
  return 1
}}
held() {{
  grep -qF "$1" "$L/owner" 2>/dev/null
}}
if take; then echo acquired; exit 0; fi
if [ ! -d "$L" ]; then
  mkdir -p "${{L%/*}}"
  if take; then echo acquired; exit 0; fi
  if [ ! -d "$L" ]; then echo unwritable; mkdir "$L"; exit 1; fi
fi
if [ -e "$L/beat" ]; then beat=$L/beat; else beat=$L; fi
beat_age=$(age "$beat")
if [ "$beat_age" -gt "$STALE" ] || {{ [ -n "$TAKEN" ] && held "$TAKEN"; }}; then
  if [ "$(age "$L.takeover")" -gt {takeover_stale} ]; then rmdir "$L.takeover" 2>/dev/null; fi
  if mkdir "$L.takeover" 2>/dev/null; then
    if [ "$(age "$beat")" -gt "$STALE" ] || {{ [ -n "$TAKEN" ] && held "$TAKEN"; }}; then
      old=$(cat "$L/owner" 2>/dev/null)
      rm -rf "$L"
      if take; then
        rmdir "$L.takeover"
        echo "took-over $beat_age"
        echo "$old"
        exit 0
      fi
    fi
    rmdir "$L.takeover"
  fi
fi
echo "held $beat_age"
cat "$L/owner" 2>/dev/null
exit 0
"""
_BEAT = 'L={path}; grep -qF {token} "$L/owner" 2>/dev/null && touch "$L/beat"'
_RELEASE = 'L={path}; if grep -qF {token} "$L/owner" 2>/dev/null; then rm -rf "$L"; fi'


@dataclass(frozen=True, slots=True)
class LockOwner:
    """Who holds a phone: computer, process, since when (ISO 8601, UTC), and a random token."""

    host: str
    pid: int
    since: str
    token: str

    @classmethod
    def this_process(cls) -> LockOwner:
        """An owner for this process, with a fresh token."""
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        return cls(socket.gethostname(), os.getpid(), now, secrets.token_hex(16))

    def text(self) -> str:
        """One line of JSON, as it is kept on the phone."""
        return json.dumps(asdict(self), ensure_ascii=True)

    @property
    def is_dead(self) -> bool:
        """Whether it was a process of this computer that has ended."""
        return self.host == socket.gethostname() and not _process_exists(self.pid)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since}"


def parse_owner(text: str) -> LockOwner | None:
    """Parse what an ``owner`` file holds; None for anything that is not one."""
    try:
        record = json.loads(text[:_MAX_OWNER_CHARACTERS])
        host, pid, since, token = (record[key] for key in ("host", "pid", "since", "token"))
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not (isinstance(host, str) and isinstance(since, str) and isinstance(token, str)):
        return None
    if type(pid) is not int or not 0 < pid < 1 << 31:
        return None
    # The token goes back into a command line: only what we make ourselves is one.
    if not token.isalnum() or not token.isascii() or len(token) != 32:
        return None
    return LockOwner(clean_text(host)[:256], pid, clean_text(since)[:64], token)


class DeviceLock:
    """Holds a device from ``with`` to its end. Also released on Ctrl-C and on errors.

    ``note`` says, after it was taken, whether an abandoned lock was replaced.
    """

    def __init__(
        self,
        device: Device,
        *,
        path: str = LOCK_PATH,
        beat_s: float = BEAT_S,
        stale_s: int = STALE_S,
    ) -> None:
        self._device = device
        self._path = checked_path(path)
        self._beat_s = beat_s
        self._stale_s = stale_s
        self._owner: LockOwner | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._taken_by_other = False
        self.note: str | None = None

    def acquire(self) -> None:
        """Take the lock; raises ``DeviceBusyError`` that says who has it, and since when."""
        owner = LockOwner.this_process()
        holder: LockOwner | None = None
        try:
            holder = self._try(owner, taken=None)
            if holder is not None and holder.is_dead:
                holder = self._try(owner, taken=holder.token)
        except BaseException:
            # Ctrl-C may come after the phone has done it and before we know.
            self._remove(owner)
            raise
        if self._owner is None:
            raise self._busy(holder)
        self._thread = threading.Thread(target=self._beat, name="phone-lock", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """Give the lock back; a phone that is gone is no error here."""
        self._stop.set()
        owner, self._owner = self._owner, None
        if owner is not None:
            self._remove(owner)

    def check(self) -> None:
        """Raise ``DeviceBusyError`` if another run has taken the lock over in the meantime."""
        if self._taken_by_other:
            raise DeviceBusyError(
                "another run has taken the phone over, because this one did not reach it for long",
                serial=self._device.serial,
                hint="run the command again",
            )

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def _try(self, owner: LockOwner, *, taken: str | None) -> LockOwner | None:
        """One attempt; sets ``_owner`` on success, else returns the holder (None: unknown)."""
        script = _ACQUIRE.format(
            path=shlex.quote(self._path),
            stale=self._stale_s,
            taken=taken or "''",
            owner=shlex.quote(owner.text()),
            takeover_stale=_TAKEOVER_STALE_S,
        )
        result = self._device.run(script, timeout_s=_COMMAND_TIMEOUT_S)
        first, _, rest = result.text.replace("\r", "").partition("\n")
        word, _, age = first.partition(" ")
        if word == "acquired":
            self._owner = owner
        elif word == "took-over":
            self._owner = owner
            old = parse_owner(rest)
            self.note = (
                f"took over the lock of {old or 'an unknown run'}, which is gone "
                f"(last sign of life {clean_text(age)[:20]} s ago)"
            )
        elif word == "held":
            return parse_owner(rest)
        else:
            raise self._failed(result)
        return None

    def _busy(self, holder: LockOwner | None) -> DeviceBusyError:
        who = str(holder) if holder is not None else "another run"
        return DeviceBusyError(
            f"the phone is in use by {who}",
            serial=self._device.serial,
            hint="wait until it has ended; if it has died, run "
            f"`adb -s {shlex.quote(self._device.serial)} shell rm -r {self._path}`",
        )

    def _failed(self, result: CommandResult) -> DeviceStorageError:
        return DeviceStorageError(
            f"the lock {self._path} cannot be made",
            serial=self._device.serial,
            exit_code=result.exit_code,
            stdout=result.text[-1024:],
            stderr=result.error_text[-1024:],
            hint="check free space and permissions of its folder",
        )

    def _beat(self) -> None:
        """Touch the lock until released; notice when it is another's."""
        owner = self._owner
        while owner is not None and not self._stop.wait(self._beat_s):
            command = _BEAT.format(path=shlex.quote(self._path), token=owner.token)
            # A phone out of reach fails the work itself; the next beat tries again.
            with contextlib.suppress(DeviceError):
                result = self._device.run(command, timeout_s=_COMMAND_TIMEOUT_S)
                if result.exit_code != 0 and not self._stop.is_set():
                    self._taken_by_other = True
                    return

    def _remove(self, owner: LockOwner) -> None:
        command = _RELEASE.format(path=shlex.quote(self._path), token=owner.token)
        # The phone may be gone, which is then the error that the user should see, not this; the
        # lock left on it is taken over once this process has ended.
        with contextlib.suppress(DeviceError):
            self._device.run(command, timeout_s=_COMMAND_TIMEOUT_S)


def _process_exists(pid: int) -> bool:
    """Whether a process of this computer has that id; in doubt yes."""
    if sys.platform == "win32":
        # os.kill would end it there. The beat decides instead.
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
