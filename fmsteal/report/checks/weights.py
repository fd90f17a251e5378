"""Checks a thief's weights; reads the safetensors format itself: a JSON header, then the tensors' bytes."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fmsteal.report.checks.findings import Findings

EXPONENTS = {
    "F64": ("<u8", 0x7FF0 << 48),
    "F32": ("<u4", 0x7F80 << 16),
    "F16": ("<u2", 0x7C00),
    "BF16": ("<u2", 0x7F80),
}
CHUNK = 2**24  # numbers that are checked at a time


def check_weights(file: Path, known: Mapping[str, Any], found: Findings) -> None:
    """Compare a thief's file with its entry in the theft's record (``known``); its numbers must be finite."""
    name, size = file.name, file.stat().st_size
    with found.reading(name):
        with file.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            if length > size - 8:
                found.add(name, "its header is longer than the file")
                return
            header = json.loads(stream.read(length))
        said = json.loads(header.pop("__metadata__")["fmsteal"])
        for key in sorted(known):
            found.require(said.get(key) == known[key], name, f"says {key} {said.get(key)!r}, theft.json {known[key]!r}")
        ends = sorted(tuple(tensor["data_offsets"]) for tensor in header.values())
        whole = [0, *(end for _, end in ends)] == [*(begin for begin, _ in ends), size - 8 - length]
        found.require(whole, name, "its tensors do not fill the file")
        numbers = np.memmap(file, np.uint8, "r", 8 + length) if whole and header else np.empty(0, np.uint8)
        tensors = sorted(header.items(), key=lambda item: item[1]["data_offsets"]) if whole else []
        for dtype, group in itertools.groupby(tensors, key=lambda item: item[1]["dtype"]):
            names, places = zip(*((tensor, about["data_offsets"]) for tensor, about in group), strict=True)
            if not _finite(numbers[places[0][0] : places[-1][1]], dtype):
                found.add(name, f"not all numbers of {names[0]} to {names[-1]} are finite")


def _finite(content: npt.NDArray[np.uint8], dtype: str) -> bool:
    """Whether no number has an exponent of all ones, as infinities and NaN have."""
    if dtype not in EXPONENTS:
        return True
    kind, ones = EXPONENTS[dtype]
    bits = content.view(kind)
    mask = bits.dtype.type(ones)
    return not any(((bits[at : at + CHUNK] & mask) == mask).any() for at in range(0, len(bits), CHUNK))
