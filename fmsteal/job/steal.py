"""The theft itself: the victim behind its API, the attack in front of it, and the check of the account."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from fmsteal.attacks.base import AttackContext
from fmsteal.attacks.own_data import find_labelled_images
from fmsteal.base.errors import AttackError, BudgetExceeded, FmstealError, TheftError
from fmsteal.base.metric import Metric
from fmsteal.base.metric import record as record_metrics
from fmsteal.base.store import explain_errors
from fmsteal.data.images import Ids, Images, Task
from fmsteal.defenses.base import name_of, prepare
from fmsteal.job import stolen
from fmsteal.job.meter import Meter
from fmsteal.job.parts import Parts
from fmsteal.job.theft import Record, Theft
from fmsteal.oracle.ledger import Ledger
from fmsteal.oracle.oracle import Oracle
from fmsteal.records.folders import JobFolder
from fmsteal.tracking.base import keep_last, read_points
from fmsteal.training.context import Context
from fmsteal.training.curves import SPENT, Spending
from fmsteal.victims.base import Victim
from fmsteal.victims.calls import Purpose

LOOK = 8  # number of pool images that a thief is tried on


@dataclass
class Account:
    """What left the API, by the oracle's own count, which the attack does not see.

    Attributes:
        before: number of answers in the ledger when this run opened it.
        answered: number of answers paid for since.
        closed: whether no more may be asked.
        past: number of images that bypassed the oracle, by the module of the victim that saw them.
    """

    before: int = 0
    answered: int = 0
    closed: bool = False
    past: Counter[str] = field(default_factory=Counter)
    _open: bool = False

    def admit(self) -> None:
        """Note that the oracle is about to ask the victim for a block that fits the budget."""
        self._open = True

    def pay(self, answers: int) -> None:
        """Note that the block is over; ``answers`` of its answers have reached the disk."""
        self.answered += answers
        self._open = False

    @property
    def purpose(self) -> Purpose:
        """Who is asking the victim now: the oracle, for a block, or somebody bypassing it."""
        return "attack" if self._open else "outside"

    @property
    def total(self) -> int:
        """The number of answers that the ledger must hold."""
        return self.before + self.answered


def steal(
    cfg: DictConfig, theft: Theft, victim: Victim, pool: Images, task: Task, parts: Parts, meter: Meter, ctx: Context
) -> tuple[Record, nn.Module]:
    """Let the attack ask and train, then write its thief. If interrupted, call it again to continue from the ledger.

    Returns:
        The record to seal the theft with, and the thief as the attack returned it.

    Raises:
        AttackError, BudgetExceeded: the attack failed; the message names it.
        TheftError: the ledger does not account for what the victim was asked.
    """
    account, made, look = Account(), stolen.Made(), take_look(pool)
    oracle, thief, found = let_attack(cfg, theft, victim, pool, task, parts, account, made, ctx)
    theft.lease.require()
    with explain_errors(theft.folder.path):
        known = stolen.write(theft.folder, thief, parts.thief, made, look)
        keep_last(theft.folder.curves)
    record = {
        "victim": victim.digest,
        "paid": victim.paid,
        "thief": known,
        "budget": int(cfg.budget.queries),
        "cost": {"cost/queries": account.total, **oracle.costs(), **meter.read()},
        "ledger": {"rows": account.total, "width": oracle.width},
        "making": meter.making,  # seconds of the cost that went into making the victim
        **({"found": record_metrics(found)} if found else {}),
    }
    return record, thief


def train_again(
    cfg: DictConfig, theft: Theft, victim: Victim, pool: Images, task: Task, parts: Parts, ctx: Context
) -> nn.Module:
    """Train the thief of a sealed theft, which no file holds, from its ledger alone; the theft does not change.

    Raises:
        TheftError: the attack asks for an answer that is not in the ledger, so it is not deterministic.
    """
    return let_attack(cfg, theft, victim, pool, task, parts, Account(closed=True), stolen.Made(), ctx)[1]


def let_attack(
    cfg: DictConfig,
    theft: Theft,
    victim: Victim,
    pool: Images,
    task: Task,
    parts: Parts,
    account: Account,
    made: stolen.Made,
    ctx: Context,
) -> tuple[Oracle, nn.Module, list[Metric]]:
    """Run the attack, and check that its thief is sound and that the ledger accounts for everything it asked.

    Returns:
        The API, the thief, and what the attack reported.
    """
    oracle = put_behind_api(theft, victim, pool, task, parts, account, ctx)
    width = victim.width if victim.answers == "probabilities" else None
    with name_attack(cfg.attack._target_), blame_attack(oracle), watch(victim, account):
        own = find_labelled_images(parts.attack, task)
        attack_ctx = AttackContext(parts.thief, ctx, lambda: oracle.answered, made.note, own)
        thief = made.settle(parts.attack.run(oracle, pool, attack_ctx))
        thief = stolen.require_sound(thief, width, take_look(pool))
    require_account(cfg, theft, victim, account)
    return oracle, thief, attack_ctx.found


def take_look(pool: Images) -> Tensor:
    """A few pool images to try a thief on, uint8 ``(n, 3, H, W)``."""
    return torch.from_numpy(np.array(pool.pixels[np.arange(min(LOOK, len(pool)))]))


def put_behind_api(
    theft: Theft, victim: Victim, pool: Images, task: Task, parts: Parts, account: Account, ctx: Context
) -> Oracle:
    """Put the victim behind defense, budget and ledger; from here on nothing else calls it."""
    with victim.calls.during("defense"):
        guard = prepare(parts.defense, victim, task.train, ctx)
    ledger = Ledger(theft.folder.ledger, account_name(theft, victim), guard.width)
    account.before = len(ledger)
    account.closed = account.closed or theft.was_sealed
    spending = Spending(ctx.tracker, parts.budget.usd, find_last_logged(theft.folder.curves))
    spending(len(ledger), parts.budget.queries)  # a run may have been killed before it logged its last answers

    def tell(used: int, allowed: int) -> None:
        ctx.progress.update("queries", used, allowed)
        spending(used, allowed)

    def admit() -> None:
        theft.lease.require()
        if account.closed:
            raise TheftError(
                f"{theft.folder.path.name} was sealed, and its attack now asks for an answer that is not among the "
                f"{len(ledger)} of its ledger: the ledger has lost some, or the attack does not ask the same questions "
                "twice. Nothing was asked. Put the ledger back from a copy, or make a further theft beside this one: "
                "force=true."
            )
        account.admit()

    def answer_pool(ids: Ids) -> Tensor:
        with victim.calls.during(account.purpose):
            return victim.raw(pool, ids, ctx)

    def answer_images(images: Tensor) -> Tensor:
        with victim.calls.during(account.purpose):
            return victim.raw_images(images, ctx)

    return Oracle(
        answer_pool=answer_pool,
        answer_images=answer_images,
        to_answers=victim.answer,
        pool=pool,
        guard=guard,
        defense=name_of(parts.defense),
        defense_log=theft.folder.defense_log,
        budget=parts.budget,
        ledger=ledger,
        seed=ctx.seed,
        on_answer=tell,
        before_block=admit,
        account=account.pay,
    )


def find_last_logged(curves: Path) -> int:
    """The largest number of queries whose cost a theft's curves hold."""
    return int(max((x for name, x, metric, _ in read_points(curves) if (name, metric) == SPENT), default=0))


def account_name(theft: Theft, victim: Victim) -> str:
    """The account that a ledger's answers belong to, as its header names it."""
    return f"{theft.account} against {victim.digest}"


def require_account(cfg: DictConfig, theft: Theft, victim: Victim, account: Account) -> None:
    """Check that the ledger on the disk holds every answer that left the API, and no more than the budget.

    The ledger is read again, the budget is the config's, and the victim itself counts what it was shown past the
    oracle. An honest attack can reach none of the three. A hostile one in the same process can still get round them:
    only an API in another process is a real boundary.

    Raises:
        TheftError: the account does not balance. The ledger is kept.
    """
    asked = max(victim.calls.shown["outside"], victim.calls.computed["outside"])
    if outside := asked or max(account.past.values(), default=0):
        raise theft.refuse(f"{cfg.attack._target_} had the victim look at {outside} images past the oracle.")
    rows = len(Ledger(theft.folder.ledger, account_name(theft, victim)))
    if rows != (left := account.total + theft.unaccounted):
        raise theft.refuse(
            f"{theft.folder.ledger} holds {rows} answers, but {left} left the API under {cfg.attack._target_}.",
            unaccounted=abs(rows - left),
        )
    if rows > cfg.budget.queries:
        raise theft.refuse(f"{cfg.attack._target_} was given {rows} answers, {cfg.budget.queries} being its budget.")


@contextmanager
def watch(victim: Victim, account: Account) -> Iterator[None]:
    """Count whatever the victim is shown in the block as bypassing the oracle, unless the oracle asked for it.

    Each module of the victim has a hook: calling the model's ``forward`` directly would bypass a hook on the model.
    """

    def look(name: str, module: nn.Module, inputs: tuple[Any, ...]) -> None:
        if victim.calls.purpose == "outside":
            account.past[name] += len(inputs[0]) if inputs and isinstance(inputs[0], Tensor) and inputs[0].ndim else 1

    model: object = victim.model
    modules = model.named_modules() if isinstance(model, nn.Module) else ()
    hooks = [module.register_forward_pre_hook(partial(look, name)) for name, module in modules]
    try:
        with victim.calls.during("outside"):
            yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def name_attack(attack: str) -> Iterator[None]:
    """Name the attack in its errors.

    Raises:
        AttackError, BudgetExceeded: the block raised one; the attack's name is added to its message.
    """
    try:
        yield
    except (AttackError, BudgetExceeded) as error:
        kind = BudgetExceeded if isinstance(error, BudgetExceeded) else AttackError
        raise kind(f"{attack}: {error}") from error


@contextmanager
def blame_attack(oracle: Oracle) -> Iterator[None]:
    """Report any error as the attack's failure; what it has paid for stays in the ledger.

    Raises:
        AttackError: in place of any error except fmsteal's own, which pass unchanged.
    """
    try:
        yield
    except FmstealError:
        raise
    except Exception as error:  # attacks of other packages may raise anything
        raise AttackError(
            f"it failed after {oracle.used} queries ({type(error).__name__}: {error}). The answers are kept: the same "
            f"command goes on from them. The stack trace is in {JobFolder(Path()).failure}."
        ) from error
