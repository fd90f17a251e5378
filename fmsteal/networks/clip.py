"""CLIP's image tower and text tower, by open_clip: which model, where its weights come from, features of texts."""

from __future__ import annotations

import functools
import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError, DataError
from fmsteal.base.store import Store, checksum, digest

CONFIG = "open_clip_config.json"  # its name in open_clip, and in models on the hub
HUB = "hf-hub:"
Tokenizer = Callable[[list[str]], Tensor]


@dataclass(frozen=True)
class ClipSpec:
    """Which CLIP model.

    Attributes:
        model: a name of open_clip's (``ViT-B-32-quickgelu``), ``hf-hub:ORGANISATION/NAME``, or the path of an
            ``open_clip_config.json``.
        weights: a tag of open_clip's for that name (``openai``; downloaded once), or a path (safetensors, .pt, .bin);
            None with ``hf-hub:``, which brings its own.
    """

    model: str
    weights: str | None = None

    def __post_init__(self) -> None:
        if self.model.startswith(HUB) != (self.weights is None):
            need = "has weights of its own: clip.weights=null" if self.weights else "needs clip.weights=TAG or a path"
            raise ConfigError(f"clip.model={self.model} {need}.")

    def require_weights(self) -> None:
        """Check that the model is known and its weights are there, as far as possible without the network.

        Raises:
            ConfigError: open_clip is not installed, or does not know the model.
            DataError: there is no such tag or file.
        """
        known = _open_clip()
        if self._config is not None and not (self._config.is_file() and self._config.name == CONFIG):
            raise DataError(f"There is no file {self._config}: clip.model is the path of an {CONFIG}, or a name.")
        if self._config is None and not self.model.startswith(HUB) and self.model not in known.list_models():
            raise ConfigError(
                f"open_clip has no model '{self.model}'. All names: python -c 'import open_clip; "
                f"print(open_clip.list_models())'. Or give hf-hub:ORGANISATION/NAME, or the path of an {CONFIG}."
            )
        if self.weights is not None and not self._is_tag(known) and not Path(self.weights).expanduser().is_file():
            tags = ", ".join(known.list_pretrained_tags_by_model(self.model)) or "none"
            raise DataError(
                f"clip.weights={self.weights} is no file, and no tag of open_clip's for {self.model}: {tags}."
            )

    def identity(self) -> dict[str, Any]:
        """All that decides the towers, for an artifact's spec: files count by content, not by path."""
        model = self.model if self._config is None else _file_digest(str(self._config))
        file = Path(self.weights or "").expanduser()
        return {"model": model, "weights": _file_digest(str(file)) if file.is_file() else self.weights}

    def load(self) -> tuple[nn.Module, Tokenizer]:
        """The model, in eval mode, and its tokenizer.

        Raises:
            ConfigError: open_clip is not installed.
            DataError: the weights could not be loaded, or are of another architecture.
        """
        known = _open_clip()
        name = self.model if self._config is None else f"local-dir:{self._config.parent}"
        path = None if self._is_tag(known) or self.weights is None else str(Path(self.weights).expanduser())
        try:
            with torch.random.fork_rng(devices=[]), _quiet(), warnings.catch_warnings():
                warnings.filterwarnings(
                    "error", message="QuickGELU mismatch"
                )  # another activation than in its training
                model = known.create_model(
                    name, None if path else self.weights, load_weights=path is None, require_pretrained=path is None,
                    pretrained_text=False,
                )  # fmt: skip
                if path is not None:
                    known.load_checkpoint(model, path)
                tokenizer = known.get_tokenizer(name)
        except Exception as error:  # open_clip and the hub's client raise many kinds
            said = str(error).strip().splitlines()
            raise DataError(
                f"The towers of clip.model={self.model} with clip.weights={self.weights} could not be loaded "
                f"({type(error).__name__}: {said[0] if said else ''}). A tag needs the network; a path is of a file "
                "with the weights of that very model."
            ) from error
        return model.eval(), tokenizer

    @property
    def slug(self) -> str:
        """A short name for folders."""
        return self.model.rpartition("/")[2] if self._config is None else self._config.parent.name

    @property
    def _config(self) -> Path | None:
        return Path(self.model).expanduser() if self.model.endswith(".json") else None

    def _is_tag(self, known: Any) -> bool:
        return self.weights in known.list_pretrained_tags_by_model(self.model)


@torch.no_grad()
def embed_texts(model: nn.Module, tokenize: Tokenizer, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """A unit vector for each name, ``(n, D)``: the mean over its texts, one per template (Radford et al. 2021)."""
    rows = []
    for name in names:
        texts: Tensor = model.encode_text(tokenize([each.replace("{}", name) for each in templates]))  # type: ignore[operator]
        rows.append(F.normalize(F.normalize(texts.float(), dim=1).mean(dim=0), dim=0))
    return torch.stack(rows)


def load_text_features(spec: ClipSpec, names: Sequence[str], templates: Sequence[str], store: Store) -> Tensor:
    """The result of `embed_texts`, from the store if it was computed before."""

    def build(out: Path, scratch: Path) -> None:
        model, tokenize = spec.load()
        np.save(out / "rows.npy", embed_texts(model, tokenize, names, templates).numpy())

    key = {"clip": spec.identity(), "names": list(names), "templates": list(templates)}
    return torch.from_numpy(np.load(store.get("texts", f"{spec.slug}-{digest(key)[:4]}", key, build) / "rows.npy"))


def require_templates(template: str | Sequence[str], option: str) -> list[str]:
    """The templates that an option gives, one or several.

    Raises:
        ConfigError: there is no template, or one does not have exactly one ``{}``.
    """
    templates = [template] if isinstance(template, str) else list(template)
    if not templates or any(each.count("{}") != 1 for each in templates):
        raise ConfigError(f"{option}={template} must have one {{}}, for the class's name: 'a photo of a {{}}.'.")
    return templates


def _open_clip() -> Any:
    if importlib.util.find_spec("open_clip") is None:
        raise ConfigError("CLIP's text tower needs open_clip, which is not installed: pip install 'fmsteal[clip]'.")
    import open_clip

    return open_clip


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's own messages out of the job's log: it writes them to the root logger."""

    def others(record: logging.LogRecord) -> bool:
        return "open_clip" not in record.pathname

    root = logging.getLogger()
    root.addFilter(others)
    try:
        yield
    finally:
        root.removeFilter(others)


@functools.cache
def _file_digest(file: str) -> str:
    return checksum(Path(file))
