"""Knockoff Nets, adaptive policy (Orekondy et al., CVPR 2019): a bandit learns which images are worth asking about.

The authors never released it; this follows the paper. A killed run draws the same images again: its draws follow from
the ledger's answers, and from the arms and losses, which are kept because they depend on the machine's arithmetic.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import ClassVar, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from fmsteal.attacks.bandit_rewards import Reward, Rewards
from fmsteal.attacks.base import FITTED_TO_ANSWERS, AttackContext, affordable
from fmsteal.attacks.strategies import margin
from fmsteal.base.errors import ConfigError
from fmsteal.base.seeds import derive_seed, seed_block
from fmsteal.config.answers import Answers
from fmsteal.data.images import Ids, Images
from fmsteal.identity.rules import Ignores
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.training.classifier import Classifier, Loss, soft_cross_entropies

Floats = npt.NDArray[np.float64]
THUMBNAIL = 8  # side of the clustered thumbnails, in pixels
CHUNK = 1024  # images shrunk at a time


@dataclass(frozen=True, kw_only=True)
class AdaptiveKnockoff:
    """Draws arms, which are classes or clusters of the pool, and for each an image that was not asked about yet.

    The thief that is returned is trained from scratch on all answers. For the loss reward a second thief takes a step
    on each batch of answers, after its own outputs were compared with them.

    Attributes:
        loss: takes the thief's logits and the answers.
        reward: how an answer is valued: ``certainty``, ``diversity``, ``loss``, or ``all`` of them.
        batch: number of questions asked together, drawn by the same policy; the paper has 1. With the loss reward a
            small file for each batch is kept until the job is done.
        window: number of last steps, this one included, whose mean reward is the baseline (Delta).
        arms: for a pool without labels, the arms are k-means clusters of thumbnails (``pixels``) or of the features of
            the thief's untrained trunk (``features``).
        clusters: number of clusters.
        lr: SGD learning rate of the second thief.
        momentum: SGD momentum of the second thief.
    """

    answers: ClassVar[Answers] = "probabilities"
    ignores: ClassVar[Ignores] = FITTED_TO_ANSWERS

    loss: Loss
    reward: Literal["certainty", "diversity", "loss", "all"] = "all"
    batch: int = 32
    window: int = 25
    arms: Literal["pixels", "features"] = "pixels"
    clusters: int = 64
    lr: float = 0.01
    momentum: float = 0.5

    def __post_init__(self) -> None:
        if self.batch < 1 or self.window < 2 or self.clusters < 2:
            raise ConfigError(
                "attack.batch must be at least 1, attack.window and attack.clusters at least 2: "
                f"{self.batch}, {self.window}, {self.clusters}."
            )

    def check(self, budget: Budget, pool: Images) -> None:
        """Refuse a budget that the pool cannot use up."""
        affordable(budget, pool)

    def run(self, oracle: Oracle, pool: Images, ctx: AttackContext) -> nn.Module:
        """Draw, ask and update the bandit in turn; then fit a thief to all answers."""
        kinds: tuple[Reward, ...] = ("certainty", "diversity", "loss") if self.reward == "all" else (self.reward,)
        random = np.random.default_rng(derive_seed("bandit", ctx.seed))
        shelves = Shelves(ctx.kept("arms", lambda: self.arms_of(pool, ctx)), random)
        bandit, rewards = Bandit(len(shelves.ids)), Rewards(kinds, self.window)
        learner = BanditLearner(self, ctx, pool, oracle.width)
        asked, answered = list[Ids](), list[Tensor]()
        for start in range(0, oracle.budget.queries, self.batch):
            open_ = shelves.open.copy()
            drawn = shelves.draw(bandit, min(self.batch, oracle.budget.queries - start), random)
            ids = np.array([image for _, image in drawn], dtype=np.int64)
            answers = oracle.ask(ids)
            found = {"certainty": margin(answers)}
            if "loss" in kinds:
                compared = partial(learner.surprise, ids, answers, asked, answered)
                found["loss"] = torch.from_numpy(ctx.kept(f"losses-{start}", compared))
            for row, (arm, _) in enumerate(drawn):
                advantage = rewards.advantage(answers[row].numpy(), {k: float(v[row]) for k, v in found.items()})
                bandit.update(arm, advantage, open_)
            asked.append(ids)
            answered.append(answers)
        return ctx.fit_thief(pool, np.concatenate(asked), torch.cat(answered), self.loss)

    def arms_of(self, pool: Images, ctx: AttackContext) -> Ids:
        """The arm of each pool image, int64 ``(N,)``: 0, 1, ... without gaps."""
        labels = pool.labels
        if labels is None:
            seed = derive_seed("arms", ctx.seed)
            inputs = self._features(pool, ctx) if self.arms == "features" else make_thumbnails(pool)
            count = min(self.clusters, len(pool))
            labels = MiniBatchKMeans(count, random_state=seed, batch_size=4096, n_init=1).fit_predict(inputs)
        return np.unique(labels, return_inverse=True)[1].astype(np.int64)

    def _features(self, pool: Images, ctx: AttackContext) -> npt.NDArray[np.float32]:
        return ctx.features(ctx.untrained(1).model, pool, np.arange(len(pool))).numpy()


class Bandit:
    """A gradient bandit (Sutton & Barto, section 2.8) with a learning rate of 1 / N(arm)."""

    def __init__(self, arms: int) -> None:
        self.preferences = np.zeros(arms)
        self.drawn = np.zeros(arms, np.int64)

    def policy(self, open_: npt.NDArray[np.bool_]) -> Floats:
        """The probability of each arm: the softmax of the preferences over the open arms, 0 for the others."""
        logits = np.where(open_, self.preferences, -np.inf)
        weights = np.exp(logits - logits.max())
        return weights / weights.sum()

    def update(self, arm: int, advantage: float, open_: npt.NDArray[np.bool_]) -> None:
        """Update after ``arm`` was drawn from the open arms and its reward was ``advantage`` above the baseline::

        H(arm)   += advantage / N(arm) * (1 - policy(arm))
        H(other) -= advantage / N(arm) * policy(other)
        """
        self.drawn[arm] += 1
        step = advantage / self.drawn[arm]
        self.preferences -= step * self.policy(open_)
        self.preferences[arm] += step


class Shelves:
    """The images of each arm, in random order; each image is drawn once.

    Attributes:
        open: which arms still have images.
    """

    def __init__(self, arms: Ids, random: np.random.Generator) -> None:
        self.ids = [random.permutation(np.flatnonzero(arms == arm)).tolist() for arm in range(int(arms.max()) + 1)]
        self.open = np.array([bool(ids) for ids in self.ids])

    def draw(self, bandit: Bandit, count: int, random: np.random.Generator) -> list[tuple[int, int]]:
        """Draw ``count`` arms by the bandit's policy, one by one as `Generator.choice` would, and an image of each.

        During a batch the policy only changes when an arm runs out of images.
        """
        drawn, edges = [], self._edges(bandit)
        for _ in range(count):
            arm = int(edges.searchsorted(random.random(), side="right"))
            drawn.append((arm, self.ids[arm].pop()))
            if not self.ids[arm]:
                self.open[arm] = False
                if len(drawn) < count:
                    edges = self._edges(bandit)
        return drawn

    def _edges(self, bandit: Bandit) -> Floats:
        """The upper end of each arm's share of [0, 1)."""
        edges = bandit.policy(self.open).cumsum()
        return edges / edges[-1]


class BanditLearner:
    """The thief for the loss reward: takes one SGD step per batch of answers, but only catches up when asked."""

    def __init__(self, attack: AdaptiveKnockoff, ctx: AttackContext, pool: Images, classes: int) -> None:
        self.attack, self.ctx, self.pool = attack, ctx, pool
        self.classes = classes
        self.steps = 0

    @cached_property
    def model(self) -> Classifier:
        """The thief, on the device."""
        return self.ctx.untrained(self.classes).model.to(self.ctx.device)

    @cached_property
    def optimizer(self) -> torch.optim.Optimizer:
        """SGD on the parameters that are trained."""
        attack = self.attack
        return torch.optim.SGD(self.model.trained.parameters(), lr=attack.lr, momentum=attack.momentum)

    def surprise(
        self, ids: Ids, answers: Tensor, asked: Sequence[Ids], answered: Sequence[Tensor]
    ) -> npt.NDArray[np.float32]:
        """The cross-entropy of its logits to a batch's answers, after it has learned all earlier batches."""
        for step in range(self.steps, len(asked)):
            self.learn(asked[step], answered[step])
        return soft_cross_entropies(self.logits(ids), answers).numpy()

    def logits(self, ids: Ids) -> Tensor:
        """Its own logits for pool images, ``(n, C)``."""
        return self.ctx.logits(self.model, self.pool, ids)

    def learn(self, ids: Ids, answers: Tensor) -> None:
        """Take one step on these images; with a single image BatchNorm uses its running statistics."""
        model, device, net = self.model, self.ctx.device, self.model.trained
        if model.frozen is not None:
            inputs = self.ctx.features(model, self.pool, ids)
        else:
            inputs = torch.from_numpy(np.array(self.pool.pixels[ids]))
        net.to(device).train(len(ids) > 1)
        self.steps += 1
        with seed_block("bandit", "dropout", self.ctx.seed, self.steps):
            loss = self.attack.loss(net(inputs.to(device)), answers.to(device))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def make_thumbnails(pool: Images) -> npt.NDArray[np.float32]:
    """Thumbnails of the images, flattened, in [0, 1]: ``(N, 3 * 8 * 8)``."""
    out = np.empty((len(pool), 3 * THUMBNAIL**2), np.float32)
    for start in range(0, len(pool), CHUNK):
        part = torch.from_numpy(np.array(pool.pixels[start : start + CHUNK])).float() / 255
        out[start : start + CHUNK] = F.adaptive_avg_pool2d(part, THUMBNAIL).flatten(1).numpy()
    return out
