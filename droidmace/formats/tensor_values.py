"""The values of a tensor's raw file, as ``mace_run`` reads and writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float32] | NDArray[np.int32]
"""What a file holds, in an array."""


def value_type(data_type: str) -> np.dtype[Any]:
    """What a file of a tensor holds: int32 for int32 tensors, for all others float32.

    ``data_type`` is the tensor's in the deployment file.
    """
    return np.dtype("<i4" if data_type == "int32" else "<f4")
