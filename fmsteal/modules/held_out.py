"""Choosing a training's epoch by images that are held out of it: the best one's weights are kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn

from fmsteal.data.images import Ids, Picked
from fmsteal.modules.classifier import soft_cross_entropies

BATCH = 64


@dataclass(frozen=True)
class HeldOut:
    """Images of the transfer set that a thief is not trained on.

    Attributes:
        ids: which pool images.
        answers: the API's, ``(n, C)``.
        patience: stop after so many epochs in a row that are not better than the best; None: train all epochs.
    """

    ids: Ids
    answers: Tensor
    patience: int | None = None


class BestEpoch(Callback):
    """Measures each epoch's agreement with held-out answers, and in the end puts back the best epoch's weights.

    Of epochs that agree equally often the one with the smaller cross-entropy is better. All it knows is in the
    training's checkpoints: a resumed training ends as one that was never stopped.
    """

    def __init__(self, inputs: Tensor | Picked, answers: Tensor, patience: int | None) -> None:
        self.inputs, self.answers, self.patience = inputs, answers, patience
        self.score = (-1.0, 0.0)
        self.stale = 0
        self.weights: dict[str, Tensor] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go no further where a resumed training had been about to stop."""
        self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Measure; remember the weights if they are better than all before."""
        agreement, loss = trainer.strategy.broadcast(self.measured(pl_module.net))  # or processes could part ways
        if trainer.logger is not None and trainer.is_global_zero:
            held_out = {"held_out_agreement": agreement, "held_out_loss": loss}
            trainer.logger.log_metrics(held_out, step=trainer.current_epoch + 1)
        better = (agreement, -loss) > self.score
        if better:
            self.score = (agreement, -loss)
            self.weights = {k: v.detach().cpu().clone() for k, v in pl_module.net.state_dict().items()}
        self.stale = 0 if better else self.stale + 1
        self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Put the best weights back."""
        if not self.weights:
            return
        pl_module.net.load_state_dict(self.weights)
        if trainer.logger is not None and trainer.is_global_zero:
            best = {"best_held_out_agreement": self.score[0], "best_held_out_loss": -self.score[1]}
            trainer.logger.log_metrics(best, step=trainer.current_epoch)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training has to know."""
        return {"score": list(self.score), "stale": self.stale, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        agreement, loss = state_dict["score"]
        self.score, self.stale, self.weights = (agreement, loss), state_dict["stale"], state_dict["weights"]

    @torch.no_grad()
    def measured(self, net: nn.Module) -> tuple[float, float]:
        """Share of the held-out answers whose argmax the network finds, and its mean cross-entropy to them."""
        device = next(net.parameters()).device
        net.eval()
        rows = [torch.as_tensor(self.inputs[start : start + BATCH]) for start in range(0, len(self.answers), BATCH)]
        logits = torch.cat([net(part.to(device)).float().cpu() for part in rows])
        net.train()
        agreement = (logits.argmax(dim=1) == self.answers.argmax(dim=1)).double().mean()
        return float(agreement), float(soft_cross_entropies(logits, self.answers).mean())

    def _stop(self, trainer: Trainer) -> None:
        if self.patience is not None and self.stale >= self.patience:
            trainer.should_stop = True
