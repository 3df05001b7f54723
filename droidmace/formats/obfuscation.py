"""MACE's obfuscated symbols, made readable.

MACE's CMake builds replace kernel names and tuning keys by a substitution that depends on the
position (``ObfuscateSymbol`` in ``mace/utils/string_util.cc``): the first byte stays, letters,
digits and ``_`` are shifted within a 63-letter alphabet, everything else stays. Capitals share
their places with digits and small letters, so decoding gives small letters: for display only.
"""

from __future__ import annotations

import string

from droidmace.formats.protowire import decode_text, encode_text
from droidmace.formats.store_keys import QUEUE_WINDOW_SIZE_KEY

_ALPHABET = (string.ascii_uppercase + string.ascii_lowercase + string.digits + "_").encode()
"""What obfuscated symbols are written in."""
_PLACES = {byte: place for place, byte in enumerate(_ALPHABET)}
_SHIFT = 31

_PLAIN = (string.digits + string.ascii_lowercase).encode()
_UNDERSCORE_INDEX = 62
_INDEX_OF = {byte: index for index, byte in enumerate(_PLAIN)}
_INDEX_OF[ord("_")] = _UNDERSCORE_INDEX
# MACE subtracts 'a' from capitals too, which puts 'A' at 4.
_INDEX_OF |= {byte: 36 + byte - ord("a") for byte in string.ascii_uppercase.encode()}
_BYTE_AT = dict(enumerate(_PLAIN)) | {_UNDERSCORE_INDEX: ord("_")}

_KERNEL_WORDS = (
    "kernel", "buffer", "image", "transform", "conv", "batch", "space", "depth", "pad", "pooling",
    "softmax", "activation", "relu", "eltwise", "concat", "reduce", "transpose", "matmul", "split",
    "slice", "resize", "lstm", "addn", "crop", "norm", "shuffle", "bias",
)  # fmt: skip
"""Words in the names of MACE's kernels and tuning keys; one of them in every key."""


def obfuscate_symbol(symbol: str) -> str:
    """The symbol as an obfuscating build of MACE writes it."""
    encoded = bytearray(encode_text(symbol))
    for position in range(1, len(encoded)):
        index = _INDEX_OF.get(encoded[position])
        if index is not None:
            encoded[position] = _ALPHABET[(index + position + _SHIFT) % len(_ALPHABET)]
    return decode_text(bytes(encoded))


def deobfuscate_symbol(symbol: str) -> str | None:
    """The symbol that obfuscation turned into this one; None if no symbol can give it."""
    decoded = bytearray(encode_text(symbol))
    for position in range(1, len(decoded)):
        place = _PLACES.get(decoded[position])
        if place is None:
            continue
        byte = _BYTE_AT.get((place - position - _SHIFT) % len(_ALPHABET))
        if byte is None:
            return None
        decoded[position] = byte
    return decode_text(bytes(decoded))


def is_obfuscated(symbol: str) -> bool:
    """Whether a kernel name or tuning key is obfuscated.

    It is when it can be decoded, and a word that MACE's kernels are named with shows only then.
    """
    if symbol == QUEUE_WINDOW_SIZE_KEY or _names_a_kernel(symbol):
        return False
    decoded = deobfuscate_symbol(symbol)
    return decoded is not None and _names_a_kernel(decoded)


def readable_symbol(symbol: str) -> str:
    """The symbol for people: decoded if it is obfuscated, else as it is."""
    decoded = deobfuscate_symbol(symbol) if is_obfuscated(symbol) else None
    return symbol if decoded is None else decoded


def readable_program_key(key: str) -> str:
    """A compiled program's key for people: kernel names in its ``-D<name>=<value>`` decoded."""
    parts = []
    for part in key.split(" "):
        name, equals, value = part.partition("=")
        parts.append(f"{name}={readable_symbol(value)}" if equals else part)
    return " ".join(parts)


def _names_a_kernel(symbol: str) -> bool:
    return any(word in symbol for word in _KERNEL_WORDS)
