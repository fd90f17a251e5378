"""A service of a function, which needs no training."""

from __future__ import annotations

from pathlib import Path

from tests.support.serving import Service, write_clients

GIVEN = ("tracker=none", "trainer=cpu", "thief=resnet10t", "query.count=3000", "victim=custom")
MODEL = """
import time
import numpy as np

def answer(images):
    time.sleep({seconds})
    rows = images.reshape(len(images), 3, -1).astype(np.float32).mean(2) / 64
    rows = np.exp(np.concatenate([rows, np.zeros((len(rows), 7), np.float32)], 1))
    return rows / rows.sum(1, keepdims=True)

def embed(images):
    return images.reshape(len(images), 3, -1).astype(np.float32).mean(2) - 128
"""


def start(folder: Path, *words: str, seconds: float = 0.0, victim: str = "answer", clients: bool = True) -> Service:
    """A service of a function that takes so many seconds for a batch."""
    folder.mkdir(exist_ok=True)
    (folder / "theirs.py").write_text(MODEL.format(seconds=seconds))
    who = write_clients(folder / "clients.json", ann={"price_per_1000": 1000.0}, ben={"budget": 30}) if clients else []
    return Service(folder, *GIVEN, f"victim.model=theirs:{victim}", *words, *who)
