"""Converts weights of other code to the names, and the size, of a timm trunk."""

from __future__ import annotations

import functools
import logging
import re
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from fmsteal.base.errors import DataError
from fmsteal.networks.weights import State

log = logging.getLogger(__name__)
OWN = "backbone.trunk."  # prefix of a trunk's weights in a victim or thief that was trained here
Convert = Callable[[dict[str, Tensor]], Mapping[str, Tensor]]
# words in prefixes of networks that are taken only if no other fits
_LAST = {"ema", "averaged", "student", "momentum", "optimizer"}
_TOKENS = ("register_tokens", "reg_token", "dist_token")  # with these it is another network
_PATCHES = "patch_embed.proj.weight"


def fit_to_trunk(state: State, trunk: nn.Module, file: Path | str, model: str, convert: Convert | None = None) -> State:
    """A file's tensors under the names of ``trunk``; the file may use the names of timm, torchvision or SimCLR codes.

    A prefix (``module.``, ``encoder_q.``, ``state_dict.backbone.model.``, any other) may stand before the names. The
    parts of a ResNet may also be numbered, as in an `nn.Sequential` of them (``f.0.weight``, ``f.3.0.conv1.weight``).
    Anything else in the file, a classifier or a projection head, is left out. Of two networks in one file that fit
    equally (a momentum encoder beside the trained one), the first is taken, but a teacher before its student, and raw
    weights before their moving average; the log says so.

    Args:
        state: the file's tensors by name.
        trunk: the network.
        file: where the tensors come from, for messages.
        model: the network's name, for messages.
        convert: timm's conversion of a file with the authors' naming, or for another image size; tried if the names
            and shapes do not fit as they are.

    Raises:
        DataError: the tensors are not those of the trunk, some are missing, they are those of a deeper network, or
            they are not finite; the message names ``file`` and ``model``.
    """
    wanted = trunk.state_dict()
    namings = _namings(wanted, state)
    renamed = _best(wanted, namings)
    if _fits(wanted, renamed):
        _tell_others(wanted, namings, renamed, file)
    elif convert is not None:
        converted = {name: _converted(wanted, found, convert) for name, found in namings.items()}
        if _fits(wanted, best := _best(wanted, converted)):
            before = next(namings[name] for name, found in converted.items() if found is best)
            _tell_resampled(wanted, before, file, model)
            renamed = {**before, **best}
    _require_tokens(wanted, renamed, file, model)
    if not _fits(wanted, renamed):
        raise _misfit(wanted, renamed, state, file, model)
    _require_depth(wanted, renamed, file, model)
    return _finite(_taken(wanted, renamed), file)


def _best(wanted: State, namings: Mapping[str, State]) -> State:
    """The naming under which the most tensors have the right names and shapes; ties go to the first."""
    return max(namings.values(), key=lambda found: (_fitting(wanted, found), len(wanted.keys() & found.keys())))


def _misfit(wanted: State, renamed: State, state: State, file: Path | str, model: str) -> DataError:
    named = _taken(wanted, renamed)
    missing = sorted(wanted.keys() - named.keys())
    unlike = sorted(k for k in wanted.keys() & named.keys() if wanted[k].shape != named[k].shape)
    used = {id(tensor) for tensor in named.values()}
    foreign = [k for k, tensor in state.items() if id(tensor) not in used]
    return DataError(
        f"{file} does not fit {model}: {len(missing)} tensors are missing ({', '.join(missing[:4]) or 'none'}), "
        f"{len(unlike)} have another shape ({', '.join(unlike[:4]) or 'none'}). Its own keys begin with "
        f"{', '.join(list(state)[:4])}; not the model's: {', '.join(foreign[:4]) or 'none'}."
        f"{_hint(wanted, named, unlike)}"
    )


def _fits(wanted: State, renamed: State) -> bool:
    named = _taken(wanted, renamed)
    return wanted.keys() == named.keys() and all(named[k].shape == tensor.shape for k, tensor in wanted.items())


def _converted(wanted: State, renamed: State, convert: Convert) -> State:
    """A file's tensors as timm converts them; empty if it cannot, or would change the size of patches too."""
    theirs, ours = renamed.get(_PATCHES), wanted.get(_PATCHES)
    if theirs is not None and ours is not None and theirs.ndim == 4 and theirs.shape[2:] != ours.shape[2:]:
        return {}
    found = dict(renamed)
    if "register_tokens" in found:
        found.setdefault("mask_token", torch.zeros(1))  # by this timm recognises DINOv2's naming
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # from timm's own interpolation
            return convert(found)
    except Exception:  # made for files of that architecture: on others it may raise anything
        return {}


def _require_depth(wanted: State, renamed: State, file: Path | str, model: str) -> None:
    if deeper := _deeper(wanted, renamed):
        raise DataError(
            f"{file} is of a deeper network than {model}, which has no {', '.join(deeper[:4])}: a part of it is "
            "another encoder. Choose the backbone.model=... that the file is of."
        )


def _require_tokens(wanted: State, renamed: State, file: Path | str, model: str) -> None:
    own = any(token in wanted for token in _TOKENS)
    if not own and (more := [token for token in _TOKENS if token in renamed]):
        raise DataError(
            f"{file} is of a network with further tokens ({more[0]}) than {model} has: without them it is another "
            "encoder. Choose the backbone.model=... that the file is of (timm's names have reg4 or distilled in them)."
        )


def _finite(named: State, file: Path | str) -> State:
    bad = [k for k, tensor in named.items() if tensor.is_floating_point() and not tensor.float().isfinite().all()]
    if bad:
        raise DataError(
            f"{file} holds numbers that are not finite (NaN or infinity), in {len(bad)} of {len(named)} tensors, first "
            f"{bad[0]}: the training that made it diverged, or the file is damaged. Use another."
        )
    return named


def _tell_others(wanted: State, namings: Mapping[str, State], taken: State, file: Path | str) -> None:
    """Log which of several networks in a file is taken."""
    fitting = {prefix: found for prefix, found in namings.items() if _fits(wanted, found)}
    both = [key for key in wanted if key in taken]
    differ = [p for p, found in fitting.items() if any(not torch.equal(found[key], taken[key]) for key in both)]
    if differ:
        which = next(prefix for prefix, found in fitting.items() if found is taken)
        others = ", ".join(prefix or "those without a prefix" for prefix in differ)
        _tell(
            f"{file} holds several networks that fit: {which or 'that without a prefix'} is taken, not {others}",
            logging.WARNING,
        )


def _tell_resampled(wanted: State, renamed: State, file: Path | str, model: str) -> None:
    """Log which tensors were resampled to another size."""
    other = [k for k, tensor in wanted.items() if k in renamed and renamed[k].shape != tensor.shape]
    if other:
        shapes = " to ".join(str(tuple(found[other[0]].shape)) for found in (renamed, wanted))
        more = f", and {len(other) - 1} more" if len(other) > 1 else ""
        _tell(f"{file} is of another size than {model}: resampled are {other[0]}, from {shapes}{more}", logging.INFO)


@functools.lru_cache(maxsize=64)
def _tell(line: str, level: int) -> None:
    """Log a line once per process: a job makes its backbones more than once."""
    log.log(level, line)


def _namings(wanted: State, state: State) -> dict[str, State]:
    """The file's tensors, renamed in each way that their names can be read, without those that lack the prefix."""
    found: dict[str, State] = {}
    for prefix in _prefixes(wanted, state):
        found[prefix] = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    for prefix, shift in _numberings(state):
        found[f"{prefix}N."] = {_unnumbered(k, prefix, shift): v for k, v in state.items() if k.startswith(prefix)}
    return found


def _taken(wanted: State, renamed: State) -> State:
    found = {k: renamed[k] for k in wanted if k in renamed}
    counters = {k: v for k, v in wanted.items() if k.endswith("num_batches_tracked")}  # converted files have none
    return {**counters, **found} if found else {}


def _prefixes(wanted: State, state: State) -> list[str]:
    """Prefixes that may stand before the trunk's names: our own first, the others in the file's order.

    A prefix stands before one of the trunk's names in the file; or, if names are not timm's, before very many of them.
    """
    ends = {name for name in wanted if name.endswith(("weight", "bias"))}
    found: dict[str, None] = {}
    before: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        starts = [(".".join(parts[:at]) + ".", ".".join(parts[at:])) for at in range(1, len(parts))]
        found |= dict.fromkeys(start for start, rest in starts if rest in ends)
        before.update(start for start, _ in starts[:4])
    found |= dict.fromkeys(start for start, count in before.items() if 2 * count >= len(wanted))
    ranked = sorted(found, key=lambda prefix: bool(_LAST & set(re.split(r"[._]", prefix.lower()))))
    return list(dict.fromkeys((OWN, "", *ranked)))


def _numberings(state: State) -> list[tuple[str, int]]:
    """Prefixes before ``N.B.conv1.weight``, each with the number of its first stage."""
    found: dict[str, list[int]] = {}
    for key in state:
        if match := re.fullmatch(r"((?:.*\.)?)(\d+)\.0\.conv1\.weight", key):
            found.setdefault(match[1], []).append(int(match[2]))
    return [(prefix, min(stages)) for prefix, stages in sorted(found.items())]


def _unnumbered(key: str, prefix: str, first: int) -> str:
    """``f.0.weight`` -> ``conv1.weight``, ``f.1.bias`` -> ``bn1.bias``, ``f.3.0.bn2.weight`` -> ``layer1.0.bn2...``."""
    number, _, rest = key.removeprefix(prefix).partition(".")
    if not number.isdigit():
        return key
    at = int(number)
    return f"{('conv1', 'bn1')[at] if at < 2 else f'layer{at - first + 1}'}.{rest}"


def _fitting(wanted: State, renamed: State) -> int:
    return sum(k in renamed and renamed[k].shape == tensor.shape for k, tensor in wanted.items())


def _deeper(wanted: State, renamed: State) -> list[str]:
    """The file's blocks that continue the trunk's numbered blocks: ``layer1.2`` of a ResNet-34 for a ResNet-18."""
    own = {block for name in wanted for block in _blocks(name)}
    rows = {block.rpartition(".")[0] for block in own}
    others = {block for name in renamed.keys() - wanted.keys() for block in _blocks(name)}
    return sorted(block for block in others - own if block.rpartition(".")[0] in rows)


def _blocks(name: str) -> list[str]:
    """The numbered modules on the path to a tensor: ``layer1.0``, ``layer1.0.downsample.1`` for the latter's weight."""
    parts = name.split(".")
    return [".".join(parts[: at + 1]) for at, part in enumerate(parts) if part.isdigit()]


def _hint(wanted: State, named: State, unlike: list[str]) -> str:
    """What to type if only the size of the first convolution, or of patches, does not fit."""
    if _PATCHES in unlike and named[_PATCHES].ndim == 4:
        patches = [f"{found[_PATCHES].shape[-2]}x{found[_PATCHES].shape[-1]}" for found in (named, wanted)]
        return f" Its patches are {patches[0]}, the model's {patches[1]}: choose the backbone.model=... of the file."
    if unlike != ["conv1.weight"]:
        return ""
    theirs, ours = named["conv1.weight"].shape[-1], wanted["conv1.weight"].shape[-1]
    stem = {3: "small", 7: "own"}.get(theirs)
    return (
        f" Its first convolution is {theirs}x{theirs}, the model's {ours}x{ours}: backbone.stem={stem}." if stem else ""
    )
