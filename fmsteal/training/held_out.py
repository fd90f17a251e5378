"""Chooses a training's epoch by held-out images: the weights of the best one are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from fmsteal.base.errors import ConfigError
from fmsteal.data.images import Ids, Picked
from fmsteal.training.classifier import soft_cross_entropies

BATCH = 64
By = Literal["agreement", "macro_f1"]


@dataclass(frozen=True)
class HeldOut:
    """Images of the transfer set that a thief is not trained on; a convex one is, once its penalty has been chosen.

    Attributes:
        ids: ids of the images in the pool.
        answers: the API's answers, ``(n, C)``.
        patience: stop after this many measured epochs in a row that are not better than the best; None trains all.
        by: what makes an epoch the best: ``agreement`` with the answers' argmax, or ``macro_f1`` (see `macro_f1`).
        every: number of epochs from one measurement to the next; the last epoch is always measured.
    """

    ids: Ids
    answers: Tensor
    patience: int | None = None
    by: By = "agreement"
    every: int = 1


def require_choice(validation: float, by: str, every: int) -> None:
    """Refuse options of an attack by which no epoch can be chosen.

    Raises:
        ConfigError: the share is not in [0, 1), ``by`` or ``every`` is invalid, or they have no effect because nothing
            is held out.
    """
    if not 0 <= validation < 1:
        raise ConfigError(f"attack.validation must be at least 0 and below 1, not {validation}.")
    if by not in get_args(By) or every < 1:
        raise ConfigError(
            f"attack.by must be one of {', '.join(get_args(By))} and attack.every at least 1, not {by} and {every}."
        )
    if not validation and (by, every) != ("agreement", 1):
        raise ConfigError(
            f"attack.by={by} and attack.every={every} have no effect without images held out: set attack.validation "
            "above 0, or leave them out."
        )


def require_each_class(held: int, classes: int, validation: float) -> None:
    """Refuse a held-out part that leaves a class without an image: its score would say nothing about that class.

    Raises:
        ConfigError: fewer images than classes. The answers' classes cannot be known before they are paid for.
    """
    if held < classes:
        raise ConfigError(
            f"attack.validation={validation:g} holds out {held} images, but the API knows {classes} classes: at least "
            f"{classes - held} would be without an image to choose the epoch by. Hold out a larger share, choose a "
            "larger budget (budget=...), or hold out nothing: attack.validation=0."
        )


class BestEpoch(Callback):
    """Measures epochs on held-out answers, by agreement or macro-F1, and at the end restores the best one's weights.

    Of epochs with equal scores, the one with the smaller cross-entropy is better. Its state is in the training's
    checkpoints: a resumed training ends like one that was never stopped.
    """

    def __init__(
        self,
        inputs: Tensor | Picked,
        answers: Tensor,
        patience: int | None,
        by: By = "agreement",
        every: int = 1,
    ) -> None:
        self.inputs, self.answers, self.patience = inputs, answers, patience
        self.by, self.every = by, every
        self.score = (-1.0, 0.0)
        self.stale = 0
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop at once if the training that is resumed was about to stop."""
        self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Measure, if this epoch is to be measured; remember the weights if they are better than all before."""
        done = trainer.current_epoch + 1
        if done % self.every and done != trainer.max_epochs:
            return
        scores, loss = self.measure(pl_module.net)
        found, loss = trainer.strategy.broadcast((scores[self.by], loss))  # or processes could decide differently
        if trainer.logger is not None and trainer.is_global_zero:
            named = {f"held_out_{by}": score for by, score in scores.items()}
            trainer.logger.log_metrics({**named, "held_out_loss": loss}, step=done)
        better = (found, -loss) > self.score
        if better:
            self.score = (found, -loss)
            self.weights = {k: v.detach().cpu().clone() for k, v in pl_module.net.state_dict().items()}
        self.stale = 0 if better else self.stale + 1
        self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Put the best weights back."""
        if not self.weights:
            return
        pl_module.net.load_state_dict(self.weights)
        if trainer.logger is not None and trainer.is_global_zero:
            best = {f"best_held_out_{self.by}": self.score[0], "best_held_out_loss": -self.score[1]}
            trainer.logger.log_metrics(best, step=trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        """The state that a resumed training needs."""
        return {"score": list(self.score), "stale": self.stale, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore that state."""
        found, loss = state_dict["score"]
        self.score, self.stale, self.weights = (found, loss), state_dict["stale"], state_dict["weights"]

    @torch.no_grad()
    def measure(self, net: nn.Module) -> tuple[dict[By, float], float]:
        """How well the network predicts the held-out answers' argmax, and its mean cross-entropy to them.

        The first is the agreement, and what an epoch is chosen by (`by`), if that is another.
        """
        device = next(net.parameters()).device
        net.eval()
        rows = [torch.as_tensor(self.inputs[start : start + BATCH]) for start in range(0, len(self.answers), BATCH)]
        logits = torch.cat([net(part.to(device)).float().cpu() for part in rows])
        net.train()
        ours, theirs = logits.argmax(dim=1), self.answers.argmax(dim=1)
        scores: dict[By, float] = {"agreement": float((ours == theirs).double().mean())}
        if self.by == "macro_f1":
            scores["macro_f1"] = macro_f1(theirs, ours)
        return scores, float(soft_cross_entropies(logits, self.answers).mean())

    def _stop(self, trainer: Trainer) -> None:
        if self.patience is not None and self.stale >= self.patience:
            trainer.should_stop = True


def macro_f1(truth: Tensor, guess: Tensor) -> float:
    """The mean of ``2 TP / (2 TP + FP + FN)`` over the classes that occur in labels ``(n,)`` or guesses.

    As in scikit-learn's ``f1_score(average="macro")``, a class that is guessed but never true counts as 0.
    """
    classes = int(max(truth.max(), guess.max())) + 1
    hits = truth[truth == guess].bincount(minlength=classes)
    named = truth.bincount(minlength=classes) + guess.bincount(minlength=classes)  # 2 TP + FP + FN
    there = named > 0
    return float((2 * hits[there].double() / named[there]).mean())
