"""A CLIP of two tiny towers, made on the spot and saved as open_clip keeps its models."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from fmsteal.data.images import Images

CONFIG: dict[str, Any] = {
    "embed_dim": 24,
    "vision_cfg": {"image_size": 16, "layers": 2, "width": 32, "head_width": 16, "patch_size": 4},
    "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 24, "heads": 2, "layers": 2},
}
MEAN, STD = [0.3, 0.4, 0.5], [0.5, 0.6, 0.7]


def small_clip(folder: Path, images: Images | None = None, texts: Sequence[str] = (), seed: int = 0) -> list[str]:
    """Save one below ``folder``; the overrides of ``clip`` that name it, without the prefix.

    With ``images`` its image tower learns for some steps which of ``texts`` they show.
    """
    import open_clip

    folder.mkdir(parents=True)
    config = folder / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": CONFIG, "preprocess_cfg": {"mean": MEAN, "std": STD}}))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.create_model(f"local-dir:{folder}")
        if images is not None:
            _teach(model, open_clip.get_tokenizer(f"local-dir:{folder}"), images, texts)
    file = folder / "open_clip_model.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, file)
    return [f"model={config}", f"weights={file}"]


def _teach(model: Any, tokenize: Any, images: Images, texts: Sequence[str]) -> None:
    with torch.no_grad():
        rows = model.encode_text(tokenize(list(texts)), normalize=True)
    mean, std = torch.tensor(MEAN).view(1, 3, 1, 1), torch.tensor(STD).view(1, 3, 1, 1)
    pixels = torch.from_numpy(images.pixels[:]).float() / 255
    x = (F.interpolate(pixels, (16, 16), mode="bilinear", antialias=True) - mean) / std
    y = torch.from_numpy(images.labels)
    steps = torch.optim.AdamW(model.visual.parameters(), lr=3e-3)
    for _ in range(200):
        some = torch.randint(len(x), (128,))
        loss = F.cross_entropy(100 * model.encode_image(x[some], normalize=True) @ rows.T, y[some])
        steps.zero_grad()
        loss.backward()
        steps.step()
