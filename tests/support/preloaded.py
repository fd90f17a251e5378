"""What the fork server of `tests.support.warm` has done for all its commands, once it has imported all they need."""

from __future__ import annotations

import gc

import torch

from fmsteal.data import glyphs


def draw_letters() -> None:
    """The letters of all fonts, which glyphs are made of: they take as long to draw as a small thief to train."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork would wait for ever for threads that begin here
    glyphs.render(1, seed=0)
    torch.set_num_threads(threads)


draw_letters()
gc.collect()
gc.freeze()  # no command looks through all this again
