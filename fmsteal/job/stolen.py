"""The thief as a file: written when a theft is sealed, loaded for later measurements."""

from __future__ import annotations

import json
import logging
import weakref
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fmsteal.base.errors import AttackError, TheftError
from fmsteal.networks.own_backbone import restore
from fmsteal.records.folders import TheftFolder
from fmsteal.training.classifier import Classifier
from fmsteal.training.encoder import Encoder
from fmsteal.training.learners import ClassifierLearner, EncoderLearner
from fmsteal.training.updates import has_updates, merge

log = logging.getLogger(__name__)
SCHEMA = "1"
SHOWN = 8  # number of images on which a program must answer like the module that it was made from
CLOSE = 1e-5  # tolerance of that comparison, relative to the largest output

Learner = ClassifierLearner | EncoderLearner
Shapes = list[tuple[str, torch.Size]]


class Made:
    """The models that an attack got from its context: a thief that is one of them can be rebuilt."""

    def __init__(self) -> None:
        self._models: list[tuple[weakref.ref[nn.Module], Shapes]] = []

    def note(self, model: nn.Module) -> None:
        """Remember a model and the shapes of its weights."""
        self._models.append((weakref.ref(model), _shapes(model)))

    def settle(self, thief: Any) -> Any:
        """The thief that an attack returned, with low-rank updates merged into its weights."""
        if isinstance(thief, nn.Module) and has_updates(thief):
            known = thief in self
            merge(thief)
            if known:
                self.note(thief)
        return thief

    def __contains__(self, thief: object) -> bool:
        """Whether a model is one of them and still has the same architecture."""
        return any(model() is thief and shapes == _shapes(model()) for model, shapes in self._models)


def write(folder: TheftFolder, thief: nn.Module, learner: Learner, made: Made, look: Tensor) -> dict[str, Any]:
    """Write the thief into its theft's folder.

    A thief that was made through the context is saved as safetensors, with what is needed to rebuild it, but without a
    frozen trunk, whose weights are public. Any other module is saved by `torch.export`, if the program answers alike.

    Args:
        folder: the theft's folder.
        thief: the stolen model.
        learner: how the job's thief is made.
        made: the models that the attack got from its context.
        look: some images, uint8 ``(n, 3, H, W)``.

    Returns:
        ``form`` (``weights``, ``program`` or ``none``), ``width``, and whatever else is needed to load the thief.
    """
    known: dict[str, Any] = {
        "form": "weights",
        "width": _width(thief, look),
        "aligned": getattr(thief, "aligned", True),
    }
    if isinstance(thief, Classifier | Encoder) and thief in made:
        known |= {
            "kind": type(thief).__name__,
            "adaptation": learner.adaptation,
            "match": getattr(thief, "match", None),
        }
        known["backbone"] = asdict(getattr(thief, "frozen", None) or learner.backbone)  # an attack may choose the trunk
        header = {"fmsteal": json.dumps({"schema": SCHEMA, **known})}
        tensors = {name: value.contiguous() for name, value in _trained(thief).state_dict().items()}
        fresh = folder.thief.with_name(f".{folder.thief.name}")
        fresh.write_bytes(save(tensors, metadata=header))
        fresh.replace(folder.thief)
        folder.program.unlink(missing_ok=True)
        return known
    folder.thief.unlink(missing_ok=True)
    known["form"] = "program" if _exported(folder.program, thief, look) else "none"
    if known["form"] == "none":
        log.warning(
            "The thief is a %s that torch.export cannot keep: what is measured later trains it again from its ledger",
            type(thief).__name__,
        )
    return known


def require_sound(thief: object, width: int | None, look: Tensor) -> nn.Module:
    """Check that an attack returned a thief that can be measured.

    Args:
        thief: what the attack returned.
        width: number of values in an answer of the victim; None if any width is allowed.
        look: some images, uint8 ``(n, 3, H, W)``.

    Raises:
        AttackError: `thief` is not a model, or its answers have another shape, or it is not finite.
    """
    if not isinstance(thief, nn.Module):
        raise AttackError(f"it returned {type(thief).__name__}, not a thief (a torch.nn.Module).")
    answers = _answers(thief, look[:2])
    if answers.ndim != 2 or len(answers) != len(look[:2]) or width not in (None, answers.shape[1]):
        due = f"({len(look[:2])}, {'any width' if width is None else width})"
        raise AttackError(f"its thief answers {tuple(answers.shape)} where the victim answers {due}.")
    if not (answers.isfinite().all() and all(p.isfinite().all() for p in thief.parameters())):
        raise AttackError("its thief's weights or answers are not finite: the training diverged.")
    return thief


def list_files(folder: TheftFolder) -> list[Path]:
    """The files that hold the thief."""
    return [file for file in (folder.thief, folder.program) if file.is_file()]


def load(folder: TheftFolder, known: dict[str, Any]) -> nn.Module | None:
    """The thief, which maps raw images to answers; None if it was sealed as one that cannot be loaded.

    Raises:
        TheftError: the thief's file does not match the seal's record of it (``known``).
        DataError: the public weights of the thief's frozen trunk are missing.
    """
    if known["form"] == "none":
        return None
    if known["form"] == "program":
        return Program(folder.program, known["aligned"])
    return _filled(folder.thief, known)


def open_thief(file: Path) -> nn.Module:
    """A thief from its safetensors file alone, which holds everything needed to rebuild it.

    Raises:
        TheftError: the file is not a thief's, or is damaged.
        DataError: the public weights of the thief's frozen trunk are missing.
    """
    try:
        with safe_open(file, "pt") as weights:
            known = json.loads((weights.metadata() or {})["fmsteal"])
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise TheftError(f"{file} is no thief's file: {error}") from error
    return _filled(file, known)


def _filled(file: Path, known: dict[str, Any]) -> nn.Module:
    """Build a model as ``known`` describes it and load its weights; those of a frozen trunk are public."""
    spec, frozen = restore(known["backbone"]), known["adaptation"] == "probe"
    model: Classifier | Encoder
    with torch.random.fork_rng():
        backbone = spec.build(pretrained=frozen)
        if known["kind"] == Classifier.__name__:
            model = Classifier(backbone, known["width"], spec if frozen else None)
        else:
            model = Encoder(backbone, known["width"], known["match"], spec if frozen else None)
    try:
        with safe_open(file, "pt") as weights:
            _trained(model).load_state_dict({name: weights.get_tensor(name) for name in weights.keys()})  # noqa: SIM118
    except (OSError, RuntimeError, SafetensorError) as error:
        raise TheftError(f"{file} does not hold the weights of this thief: {error}") from error
    if not known["aligned"]:
        model.aligned = False
    return model.eval()


class Program(nn.Module):
    """A thief saved by `torch.export`, which takes raw images, uint8 or float in [0, 1].

    Attributes:
        size: height and width of the images that it was traced with.
    """

    def __init__(self, file: Path, aligned: bool = True) -> None:
        super().__init__()
        self.aligned = aligned
        program = torch.export.load(file)
        self.inner = program.module()
        (name,) = program.graph_signature.user_inputs
        (images,) = (node.meta["val"] for node in program.graph.nodes if node.name == name)
        self.size = (int(images.shape[-2]), int(images.shape[-1]))

    def forward(self, images: Tensor) -> Tensor:
        """Answers for a batch of images."""
        return cast("Tensor", self.inner(images.float() / 255 if images.dtype == torch.uint8 else images))

    def train(self, mode: bool = True) -> Program:
        """Do nothing: a program is always in eval mode."""
        return self


def _trained(model: Classifier | Encoder) -> nn.Module:
    return model.trained


@torch.no_grad()
def _answers(thief: nn.Module, images: Tensor) -> Tensor:
    device = next((p.device for p in thief.parameters()), torch.device("cpu"))
    return cast("Tensor", thief.eval()(images.to(device))).float().cpu()


def _shapes(model: nn.Module | None) -> Shapes:
    return [] if model is None else [(name, value.shape) for name, value in model.state_dict().items()]


def _width(thief: nn.Module, look: Tensor) -> int:
    if isinstance(thief, Classifier | Encoder):
        return thief.width
    return int(_answers(thief, look[:2]).shape[1])


def _exported(file: Path, thief: nn.Module, look: Tensor) -> bool:
    """Save a module as a program for batches of any size; return whether it worked and answers alike."""
    look = look[:SHOWN].float() / 255
    fresh = file.with_name(f".{file.name}")
    try:
        due = _answers(thief, look)
        batch = torch.export.Dim("batch", min=1)
        program = torch.export.export(thief.cpu().eval(), (look,), dynamic_shapes=({0: batch},))
        torch.export.save(program, fresh)
        found = _answers(Program(fresh), look[:1]), _answers(Program(fresh), look)
        scale = due.abs().max().clamp(min=1.0)
        if max((found[0] - due[:1]).abs().max(), (found[1] - due).abs().max()) > CLOSE * scale:
            return False
        fresh.replace(file)
    except Exception as error:  # torch.export can fail in many ways
        log.debug("torch.export: %s", error)
        return False
    finally:
        fresh.unlink(missing_ok=True)
    return True
