"""The fastest batch size of forward passes on this device: measured once, kept in the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from fmsteal.base.store import Store, read_json, write_json

SIZES = (16, 32, 64, 128, 256, 512)
LEAST_SECONDS = 0.2  # each size is measured for this long
WORTH = 1.05  # a larger batch has to be this much faster: it costs memory, and more padding


def find_best_batch(store: Store, model: nn.Module, example: Tensor) -> int:
    """The batch size with the most images per second, for inputs like ``example`` ``(1, ...)`` on the model's device.

    The first result is kept for this store, device and version of torch: batch sizes decide the last bits of a
    feature, so they must not change from job to job.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu-{torch.get_num_threads()}"
    spec = {
        "device": name,
        "torch": torch.__version__,
        "model": repr(model),
        "input": [str(example.dtype), *example.shape[1:]],
    }

    def build(out: Path, scratch: Path) -> None:
        write_json(
            out / "speeds.json", {str(size): speed for size, speed in measure_speeds(model, example.to(device)).items()}
        )

    found = read_json(store.get("tuning", type(model).__name__.lower(), spec, build) / "speeds.json")
    return pick({int(size): speed for size, speed in found.items()})


def pick(speeds: dict[int, float]) -> int:
    """The smallest size that no larger one beats by much; ``speeds`` are in images per second."""
    best = min(speeds)
    for size in sorted(speeds):
        if speeds[size] > WORTH * speeds[best]:
            best = size
    return best


@torch.no_grad()
def measure_speeds(
    model: nn.Module, example: Tensor, clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Images per second by batch size, up to the largest that fits into the device's memory."""
    found: dict[int, float] = {}
    for size in SIZES:
        batch = example.expand(size, *example.shape[1:]).contiguous()
        try:
            _run(model, batch)  # kernels are chosen, memory is claimed
            began, images = clock(), 0
            while images == 0 or clock() - began < LEAST_SECONDS:
                _run(model, batch)
                images += size
        except torch.OutOfMemoryError:
            break
        found[size] = round(images / (clock() - began), 1)
    return found or {1: 1.0}


def _run(model: nn.Module, batch: Tensor) -> None:
    model(batch)
    if batch.is_cuda:
        torch.cuda.synchronize(batch.device)
