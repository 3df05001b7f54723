"""The keys that MACE reserves in its key-value files (``opencl_executor.cc``, ``tuner.h``)."""

from __future__ import annotations

PLATFORM_INFO_KEY = "mace_opencl_precompiled_platform_info_key"
"""Compiled program: what it was compiled by, as text."""
DEVICE_NAME_KEY = "mace_opencl_precompiled_device_name_key"
"""Compiled program: the GPU's name as MACE derives it; current generation only."""
PROGRAM_HASH_PREFIX = "program_hash_ "
"""Compiled program: before a program's key, the key of its source hash; the blank belongs to it."""
QUEUE_WINDOW_SIZE_KEY = "MACE_OPENCL_QUEUE_WINDOW_SIZE"
"""Tuned parameters: the one key that is not a kernel's, and is never obfuscated."""
