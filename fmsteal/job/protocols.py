"""Checks, before anything is trained, that the parts of a job can be used; the message names the one that cannot."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.callbacks import Callback
from torch import nn

from fmsteal.attacks.base import Attack
from fmsteal.base.errors import ConfigError, FmstealError, VictimError
from fmsteal.data.images import Images, Task
from fmsteal.evaluation.base import Evaluation, list_measurements
from fmsteal.oracle.oracle import Budget
from fmsteal.training.context import Context
from fmsteal.victims.base import Victim, VictimMaker

METHODS: Mapping[str, Mapping[str, tuple[str, ...]]] = {  # by part: required methods and their arguments
    "victim": {"prepare": ("task", "ctx")},
    "attack": {"run": ("oracle", "pool", "ctx")},
    "defense": {"prepare": ("victim", "train", "ctx")},
    "tracker": {"open": ("run",)},
    "evaluation": {"run": ("pair", "ctx")},
}
OPTIONAL: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "attack": {"check": ("budget", "pool"), "check_thief": ("learner",)},
    "evaluation": {"inputs": ("store",)},
}
CALLED = {  # options of an attack that are called, and their arguments
    "selection": ("pool", "count", "seed"),
    "strategy": ("round", "count"),
    "loss": ("logits", "answers"),
}


def is_ours(part: object) -> bool:
    """Whether a part, or a class, belongs to this package."""
    kind = part if inspect.isclass(part) else type(part)
    return kind.__module__.partition(".")[0] == __name__.partition(".")[0]


def name_of(part: object) -> str:
    """The import path of a part's class, or of a function, as a config names it."""
    kind = part if inspect.isroutine(part) or inspect.isclass(part) else type(part)
    return f"{kind.__module__}.{kind.__qualname__}"


def require_methods(key: str, part: object, kind: str) -> None:
    """Check that a part of a ``kind`` (`METHODS`) has the required methods with the right arguments.

    Raises:
        ConfigError: a method is missing or takes other arguments; the message has the part's ``key`` in the config.
    """
    for method, takes in METHODS[kind].items():
        if not callable(getattr(part, method, None)):
            raise ConfigError(f"{key} ({name_of(part)}) has no method {method}({', '.join(takes)}).")
    for method, takes in {**METHODS[kind], **OPTIONAL.get(kind, {})}.items():
        if (function := getattr(part, method, None)) is not None:
            require_takes(f"{key} ({name_of(part)}): {method}", function, takes)


def require_takes(what: str, function: Any, takes: tuple[str, ...]) -> None:
    """Check that a function takes this number of arguments.

    Raises:
        ConfigError: the function does not; ``what`` names it in the message.
    """
    if not callable(function):
        raise ConfigError(f"{what} is a {type(function).__name__}, which cannot be called with ({', '.join(takes)}).")
    try:
        signature = inspect.signature(function)
    except ValueError:  # a builtin without a signature
        return
    further = {"features": None} if "features" in signature.parameters and "features" not in takes else {}
    try:
        signature.bind(*takes, **further)
    except TypeError as error:
        raise ConfigError(
            f"{what} is called with ({', '.join(takes)}), but it takes ({', '.join(signature.parameters)}): {error}."
        ) from None


def require_attack(attack: Attack) -> None:
    """Check that an attack can be run, and that functions given to one of our attacks take the arguments they get.

    Raises:
        ConfigError: a method or function is missing or takes other arguments.
    """
    require_methods("attack", attack, "attack")
    ours = {name for kind in type(attack).__mro__ if is_ours(kind) for name in vars(kind).get("__annotations__", ())}
    for option, takes in CALLED.items():
        if option in ours and (function := getattr(attack, option, None)) is not None:
            require_takes(f"attack.{option}", function, takes)


def require_measurements(evaluation: Evaluation) -> None:
    """Check that each measurement of an evaluation can be run.

    Raises:
        ConfigError: a measurement cannot, or the evaluation has no ``name`` or no ``also``.
    """
    require_methods("evaluation", evaluation, "evaluation")
    if missing := [part for part in ("name", "also") if not hasattr(evaluation, part)]:
        raise ConfigError(
            f"evaluation ({name_of(evaluation)}) has no {missing[0]}: a measurement stands below evaluation.also, "
            "beside the evaluation that it is made with (defaults: [classify])."
        )
    for name, measurement in list_measurements(evaluation).items():
        if measurement is not evaluation:
            require_methods(f"evaluation.also.{name}", measurement, "evaluation")


def require_callbacks(callbacks: Any) -> None:
    """Check that trainer.callbacks are Lightning callbacks.

    Raises:
        ConfigError: one is not.
    """
    for number, callback in enumerate(callbacks):
        if not isinstance(callback, Callback):
            raise ConfigError(f"trainer.callbacks.{number} ({name_of(callback)}) is no lightning.pytorch.Callback.")


def check_attack(attack: Attack, budget: Budget, pool: Images) -> None:
    """Let an attack check its budget and the query set, if it has a ``check``; errors name the attack.

    Raises:
        ConfigError: the attack refuses them.
    """
    if (check := getattr(attack, "check", None)) is None:
        return
    try:
        check(budget, pool)
    except FmstealError:
        raise
    except Exception as error:  # attacks of other packages may raise anything
        raise ConfigError(f"attack ({name_of(attack)}) refuses budget or query set: {_said(error)}") from error


def require_task(made: object, target: str) -> Task:
    """The task made from ``data``.

    Raises:
        ConfigError: `made` is not a `Task`.
    """
    if isinstance(made, Task):
        return made
    hint = ""
    if _is_dataset(made):
        hint = " It gives one image after the other: data=dataset +data.train={_target_: ...} reads such a class."
    elif isinstance(made, Images):
        hint = " A query set is given by query=."
    raise ConfigError(f"data ({target}) gave a {name_of(made)}, not a Task (fmsteal.extend.Task).{hint}")


def require_images(made: object, target: str) -> Images:
    """The query set made from ``query``.

    Raises:
        ConfigError: `made` is not `Images`.
    """
    if isinstance(made, Images):
        return made
    hint = ""
    if isinstance(made, Task):
        hint = " query=task data@query.of=... takes the images of one."
    elif _is_dataset(made):
        hint = " It gives one image after the other: query=dataset query.images={_target_: ...} reads such a class."
    raise ConfigError(f"query ({target}) gave a {name_of(made)}, not Images (fmsteal.extend.Images).{hint}")


def make_victim(maker: VictimMaker, task: Task, ctx: Context) -> Victim:
    """Let a maker prepare the victim, and check it.

    Raises:
        VictimError: the result is not a `Victim`, its model has no ``width``, or a maker of another package failed.
    """
    name = f"victim ({name_of(maker)})"
    try:
        made: object = maker.prepare(task, ctx)
    except FmstealError:
        raise
    except Exception as error:
        if is_ours(maker):
            raise
        raise VictimError(f"{name} could not be prepared ({_said(error)}).") from error
    if not isinstance(made, Victim):
        raise VictimError(f"{name}: prepare(task, ctx) gave a {name_of(made)}, not a Victim (fmsteal.extend.Victim).")
    model: object = made.model
    if isinstance(model, nn.Module) and not isinstance(getattr(model, "width", None), int):
        raise VictimError(
            f"{name}: its model ({name_of(model)}) has no attribute width, the numbers in an answer: classes, or an "
            "embedding's dimensions."
        )
    return made


def _is_dataset(made: object) -> bool:
    return hasattr(made, "__getitem__") and not isinstance(made, str | bytes | dict)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
