"""The names that a plug-in needs; they stay here, whatever moves inside the package.

``CONTRIBUTING.md`` explains each name, and has a recipe for everything that can be added. The package's own code
imports from its own modules instead.
"""

from fmsteal.attacks.base import AttackContext, affordable
from fmsteal.attacks.encoders import EncoderAttack
from fmsteal.attacks.selection import select
from fmsteal.attacks.strategies import Round
from fmsteal.base.metric import Metric
from fmsteal.data.images import Images, Task
from fmsteal.defenses.base import RowDefense
from fmsteal.evaluation.base import Pair
from fmsteal.oracle.guard import Ask, Reply
from fmsteal.oracle.oracle import Budget, Oracle
from fmsteal.tracking.base import CsvTracker, RunInfo
from fmsteal.training.context import Context
from fmsteal.training.recipe import Recipe, StealModule
from fmsteal.victims.base import Victim

__all__ = [
    "Ask",
    "AttackContext",
    "Budget",
    "Context",
    "CsvTracker",
    "EncoderAttack",
    "Images",
    "Metric",
    "Oracle",
    "Pair",
    "Recipe",
    "Reply",
    "Round",
    "RowDefense",
    "RunInfo",
    "StealModule",
    "Task",
    "Victim",
    "affordable",
    "select",
]
