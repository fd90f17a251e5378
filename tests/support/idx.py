"""Files of MNIST's format."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np


def idx(path: Path, array: np.ndarray) -> None:
    """An IDX file, as MNIST and its kin come in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(header + array.astype(np.uint8).tobytes())
