"""What it costs to choose and decode a query set of many images: from tar shards, against torchvision and webdataset.

    OMP_NUM_THREADS=1 FMSTEAL_POOL=100000 pytest tests/bench/test_pools.py -n 0 --benchmark-enable --benchmark-only -s

Drawn JPEGs of 64 pixels (``FMSTEAL_POOL`` of them, 2,000 by default; kept in ``FMSTEAL_POOL_FILES``, if that is given)
lie in shards of 1,000 and, the same bytes, in a folder. A twentieth of them, then all, are chosen and decoded: by us
from the shards into the store, by ImageFolder behind a DataLoader without workers, and by webdataset, whose loader has
to pass all shards to find those that are wanted, but decodes no other. CPU seconds, user and system, of this process,
which all of it runs in. All pixels are compared in the same run. Claims: from the shards into the store no slower than
1.5 passes of ImageFolder over the folder; a twentieth in less time than webdataset takes.
"""

from __future__ import annotations

import itertools
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pytest_benchmark.fixture import BenchmarkFixture
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import ImageFolder
from torchvision.transforms import PILToTensor

from fmsteal.base.store import Store
from fmsteal.data import webdataset
from fmsteal.data.images import choose_ids
from fmsteal.data.procedural import render
from tests.bench.table import Row, note
from tests.support.shards import write_tar

wds = pytest.importorskip("webdataset")

COUNT = int(os.environ.get("FMSTEAL_POOL", "2000"))
SIZE, EACH, CLASSES, BLOCK = 64, 1000, 10, 200


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The same JPEGs in shards and in a folder of classes; each is one of a few pictures, moved and recoloured."""
    place = Path(os.environ.get("FMSTEAL_POOL_FILES") or tmp_path_factory.mktemp("drawn"))
    shards, folder = place / "shards", place / "folder"
    blocks = render(BLOCK, 0, SIZE).transpose(0, 2, 3, 1)
    for first in range(0, COUNT, EACH):
        shard, members = shards / f"shard-{first // EACH:04d}.tar", []
        if shard.exists():
            continue
        for at in range(first, min(first + EACH, COUNT)):
            pixels = np.roll(blocks[at % BLOCK], np.random.default_rng(at).integers(0, SIZE, 2), (0, 1))
            file = folder / f"{at % CLASSES}" / f"{at:07d}.jpg"
            file.parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(pixels ^ np.uint8(at // BLOCK % 8)).save(file, quality=85)
            members += [(file.name, file.read_bytes()), (f"{at:07d}.cls", f"{at % CLASSES}".encode())]
        write_tar(shard, members)
    return shards, folder


class Costs:
    """CPU seconds of each thing that was done, and the largest private memory while it was."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.memory: dict[str, float] = {}
        self._now = ""

    def pass_over(self, what: str, items: Iterable[Any], check: Callable[[Any], int]) -> None:
        """Measure what makes the items, not what checks them; ``check`` says how many images one holds."""
        seconds, count, iterator = 0.0, 0, iter(items)
        while True:
            began = time.process_time()
            item = next(iterator, None)
            seconds += time.process_time() - began
            if item is None:
                break
            count += check(item)
        self.seconds[what] = seconds
        print(f"{what}: {seconds:.2f} CPU s for {count:,} images", flush=True)

    def measure(self, what: str, do: Callable[[], Any]) -> Any:
        self._now = what
        before, began = private_memory(), time.process_time()
        self.memory[what] = before
        made = do()
        self.seconds[what] = time.process_time() - began
        self.look()
        self.memory[what] -= before
        print(f"{what}: {self.seconds[what]:.2f} CPU s, {self.memory[what]:.0f} MB more", flush=True)
        return made

    def look(self, *_: object) -> None:
        self.memory[self._now] = max(self.memory[self._now], private_memory())


def private_memory() -> float:
    """MB of this process that are not files."""
    found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def by_webdataset(shards: Path, wanted: set[str] | None) -> Iterator[tuple[str, np.ndarray]]:
    """Key and pixels ``(h, w, 3)`` of the wanted images, by its own loader."""
    samples = wds.WebDataset(sorted(map(str, shards.iterdir())), shardshuffle=False)
    if wanted is not None:
        samples = samples.select(lambda sample: sample["__key__"] in wanted)
    yield from samples.decode("rgb8").to_tuple("__key__", "jpg")


def test_pools(drawn: tuple[Path, Path], benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    shards, folder = drawn
    costs = Costs()
    store = Store(tmp_path, tell=costs.look)
    some = choose_ids(COUNT, COUNT // 20, 0)
    print(
        f"\n{COUNT:,} JPEGs of {SIZE} pixels, {sum(f.stat().st_size for f in shards.iterdir()) / 1e6:.0f} MB of shards"
    )

    def run() -> None:
        costs.measure("ours: index", lambda: webdataset.index_shards(store, str(shards), None, None, "", "error"))
        few = costs.measure(
            "ours: a twentieth", lambda: webdataset.pool(store, str(shards), size=SIZE, count=len(some))
        )
        every = costs.measure("ours: all", lambda: webdataset.pool(store, str(shards), size=SIZE))
        costs.measure("ours: all, again", lambda: webdataset.pool(store, str(shards), size=SIZE))

        assert len(every) == COUNT
        np.testing.assert_array_equal(few.pixels, every.pixels[some])

        def same_batch(batch: Any) -> int:
            numbers = [numbered[at] for at in order[: len(batch[0])]]
            del order[: len(batch[0])]
            np.testing.assert_array_equal(every.pixels[numbers], batch[0].numpy())
            return len(numbers)

        def same_sample(sample: Any) -> int:
            np.testing.assert_array_equal(every.pixels[int(sample[0])], sample[1].transpose(2, 0, 1))
            return 1

        theirs = costs.measure("ImageFolder: list", lambda: ImageFolder(folder, PILToTensor()))
        numbered = [int(Path(name).stem) for name, _ in theirs.samples]
        order = sorted(range(COUNT), key=numbered.__getitem__)
        order = [order[number] for number in some]
        costs.pass_over("ImageFolder: a twentieth", DataLoader(Subset(theirs, list(order)), 64), same_batch)
        order = list(range(COUNT))
        costs.pass_over("ImageFolder: all", DataLoader(theirs, 64), same_batch)
        wanted = {f"{number:07d}" for number in some}
        costs.pass_over("webdataset: a twentieth", by_webdataset(shards, wanted), same_sample)
        costs.pass_over("webdataset: all", by_webdataset(shards, None), same_sample)

    benchmark.pedantic(run, rounds=1)
    indexed = sum(file.stat().st_size for file in tmp_path.glob("indexes/*/*"))
    print(f"the index takes {indexed / COUNT:.0f} bytes an image, a decoded image {3 * SIZE * SIZE:,}")
    benchmark.extra_info |= costs.seconds
    seconds = costs.seconds
    for part, beside in itertools.product(("a twentieth", "all"), ("ImageFolder", "webdataset")):
        what = f"{part} of {COUNT:,} JPEGs in shards, {SIZE} pixels"
        mine, theirs = seconds[f"ours: {part}"], seconds[f"{beside}: {part}"]
        note(Row(what, f"{beside}'s loader", theirs, mine, "s of CPU", "pixels"))
    assert seconds["ours: index"] + seconds["ours: all"] <= 1.5 * (
        seconds["ImageFolder: list"] + seconds["ImageFolder: all"]
    )
    assert seconds["ours: index"] + seconds["ours: a twentieth"] < seconds["webdataset: a twentieth"]
    assert seconds["ours: all, again"] < 0.1 * seconds["ours: all"]
