"""Which abi an executable is for: the head of an ELF file.

Numbers from the ELF specification (``e_ident``, ``e_machine``) and its processor supplements.
"""

from __future__ import annotations

from droidmace.errors import FormatError

HEAD_BYTES = 20
"""How much of a file :func:`executable_abi` needs."""

SCRIPT = "script"
"""What :func:`executable_abi` answers for a script: it runs on any abi."""

_MACHINES = {
    3: "x86",
    40: "armeabi-v7a",
    62: "x86_64",
    183: "arm64-v8a",
}


def executable_abi(head: bytes) -> str:
    """Android's name for the abi of an executable, or ``SCRIPT``; ``head`` is the file's start.

    Raises ``FormatError`` if these bytes do not begin a program that a phone could run.
    """
    if head.startswith(b"#!"):
        return SCRIPT
    if not head.startswith(b"\x7fELF"):
        raise FormatError("not an executable: neither an ELF file nor a script", offset=0)
    if len(head) < HEAD_BYTES:
        raise FormatError(f"cut off: an ELF head has at least {HEAD_BYTES} bytes", offset=len(head))
    if head[5] != 1:
        raise FormatError("a big-endian program; no Android phone runs those", offset=5)
    machine = int.from_bytes(head[18:20], "little")
    abi = _MACHINES.get(machine)
    if abi is None:
        raise FormatError(f"a program for another processor (ELF machine {machine})", offset=18)
    return abi
