from __future__ import annotations

import numpy as np
import pytest
import torch

from fmsteal.data.loader import TensorLoader


@pytest.mark.parametrize("tensor", [True, False])
def test_an_epoch_serves_every_pair_once(tensor: bool) -> None:
    inputs = np.arange(23, dtype=np.uint8)[:, None]
    loader = TensorLoader(torch.from_numpy(inputs) if tensor else inputs, torch.arange(23), batch_size=5, seed=3)
    batches = list(loader)
    assert len(batches) == len(loader) == 5 and [len(x) for x, _ in batches] == [5, 5, 5, 5, 3]
    assert all((x[:, 0] == y).all() for x, y in batches)
    assert sorted(torch.cat([y for _, y in batches]).tolist()) == list(range(23))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        loader = TensorLoader(torch.arange(50), torch.arange(50), batch_size=7, seed=seed)
        loader.sampler.set_epoch(epoch)
        return torch.cat([y for _, y in loader]).tolist()

    assert order(0, 4) == order(0, 4)
    assert len({tuple(order(s, e)) for s in range(3) for e in range(3)}) == 9


def test_inputs_and_targets_must_pair() -> None:
    with pytest.raises(ValueError, match="5 inputs, but 4 targets"):
        TensorLoader(torch.zeros(5), torch.zeros(4), 2, 0)


def test_whole_batches_only_unless_there_is_but_one() -> None:
    def sizes(count: int) -> list[int]:
        loader = TensorLoader(torch.arange(count), torch.arange(count), batch_size=4, seed=0, whole=True)
        assert len(loader) == len(list(loader))
        return [len(x) for x, _ in loader]

    assert sizes(9) == [4, 4] and sizes(8) == [4, 4] and sizes(3) == [3]
