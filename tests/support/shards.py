"""Tar shards and drawn JPEGs, as webdataset and ImageNet have them."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def draw_jpeg(seed: int, size: tuple[int, int] = (64, 64), **save: object) -> bytes:
    """A JPEG of coarse noise."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    stream = io.BytesIO()
    image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
    image.save(stream, "jpeg", quality=90, **save)  # type: ignore[arg-type]
    return stream.getvalue()


def write_tar(file: Path, members: Iterable[tuple[str, bytes]]) -> Path:
    """A tar archive with these members, in this order."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def write_shards(
    folder: Path, samples: Sequence[Mapping[str, bytes]], each: int = 10, name: str = "shard-{:03d}.tar"
) -> list[Path]:
    """Shards of ``each`` samples; a sample is the content of its members by ending."""
    found = []
    for number, first in enumerate(range(0, len(samples), each)):
        members = [
            (f"{at:06d}.{ending}", content)
            for at, sample in enumerate(samples[first : first + each], start=first)
            for ending, content in sample.items()
        ]
        found.append(write_tar(folder / name.format(number), members))
    return found


def label_samples(count: int, classes: int = 4) -> list[dict[str, bytes]]:
    """Samples of a drawn image each, with the label ``number % classes`` in a .cls member."""
    return [{"jpg": draw_jpeg(at), "cls": str(at % classes).encode()} for at in range(count)]
