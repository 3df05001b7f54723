"""``python -m droidmace.emulator.adbd``: the daemon as a process.

It listens on sockets that it inherits, because its sandbox has no network of its own::

    --listen-fd N     listening TCP or Unix socket, for adb
    --control-fd N    listening Unix socket, for whoever started the phone (optional)
    --config FILE     see config.py
    --shell FILE      instead of the configuration's; for use outside a sandbox

Exit codes: 0 stopped, 2 cannot start, 75 a host asked for a reboot.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import dataclasses
import logging
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from droidmace.emulator.adbd.config import DaemonConfig, read_config
from droidmace.emulator.adbd.daemon import Daemon
from droidmace.emulator.adbd.errors import DaemonConfigError
from droidmace.errors import EXIT_ERROR, DroidmaceError

_FIRST_INHERITED_FD = 3
_PR_SET_DUMPABLE = 4  # linux/prctl.h


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; return its exit code."""
    parser = argparse.ArgumentParser(prog="adbd", description="ADB daemon of an emulated phone")
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--control-fd", type=int)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--shell")
    parser.add_argument("-v", "--verbose", action="store_true")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        config = read_config(options.config)
        if options.shell:
            config = dataclasses.replace(config, shell=options.shell)
        _keep_from_children()
        _keep_from_others()
        listener = _inherited_socket(
            options.listen_fd, (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        )
        control = None
        if options.control_fd is not None:
            control = _inherited_socket(options.control_fd, (socket.AF_UNIX,))
        # Commands start where the daemon is.
        os.chdir(config.home)
    except (DroidmaceError, OSError) as exc:
        print(f"adbd: {exc}", file=sys.stderr)  # noqa: T201 - a process says why it cannot start
        return EXIT_ERROR
    return asyncio.run(_run(config, listener, control))


async def _run(config: DaemonConfig, listener: socket.socket, control: socket.socket | None) -> int:
    return await Daemon(config).run(listener, control)


def _keep_from_children() -> None:
    """Let no command inherit what this process inherited, sockets above all."""
    for entry in Path("/proc/self/fd").iterdir():
        fd = int(entry.name)
        if fd >= _FIRST_INHERITED_FD:
            try:
                os.set_inheritable(fd, False)
            except OSError:
                continue  # The one that listed the folder; it is closed by now.


def _keep_from_others() -> None:
    """Let no process of the phone take our descriptors with ptrace(2) or pidfd_getfd(2).

    Commands run as the same user, and our TCP sockets belong to the network outside the sandbox:
    a taken one, disconnected, could be connected to anything that the host can reach.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl(PR_SET_DUMPABLE): {os.strerror(number)}")


def _inherited_socket(fd: int, families: tuple[socket.AddressFamily, ...]) -> socket.socket:
    """Take over a listening socket. Raises ``DaemonConfigError`` if it is none."""
    try:
        found = socket.socket(fileno=fd)
    except OSError as exc:
        raise DaemonConfigError(f"descriptor {fd} is not a socket: {exc}") from exc
    listening = found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if found.family not in families or found.type != socket.SOCK_STREAM or not listening:
        raise DaemonConfigError(f"descriptor {fd} is not a listening socket of the right kind")
    found.setblocking(False)
    return found


if __name__ == "__main__":
    sys.exit(main())
