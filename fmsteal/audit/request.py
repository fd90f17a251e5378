"""What an audit was asked for, checked as far as the command line alone shows. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fmsteal.audit.shelf import NONE, UNDEFENDED, ShelfChoice, parse_choices
from fmsteal.base.errors import ConfigError
from fmsteal.base.store import digest

AUTHORISED = "i_am_authorised"
LADDER = (100, 300, 1000, 3000)  # budgets of the thefts, unless given
MACHINE = ("output=", "cache=", "tracker", "trainer", "hydra", "quiet=")  # say where and how, not what
OURS = {  # keys that an audit sets itself: what to write in place of each
    "attack": "--attacks knockoff,solve; an attack's own options: --attacks 'solve thief=resnet10t'",
    "defense": "--defenses prada,rounding; a defense's own options: --defenses 'gaussian defense.sigma=0.2'",
    "budget": "--ladder 100,1000 for the budgets of thefts, --queries and --usd for the whole",
    "budget.queries": "--ladder 100,1000 for the budgets of thefts, --queries for the whole",
    "seed": "--seeds N for seeds 0 to N - 1",
    "sweep_id": "--name NAME",
    "dry_run": "--plan",
    **dict.fromkeys(("sweep", "stage", "force", "reuse", "metric", "evaluations"), "leave it out"),
}


@dataclass(frozen=True)
class AuditRequest:
    """What an audit was asked for.

    Attributes:
        target: overrides that say what is attacked, and with what: ``victim=...``, ``data=...``, ``thief=...``.
        attacks: the attackers; None: the default shelf.
        defenses: what is put in front of the victim, one at a time; None: the default list.
        ladder: the budgets of the thefts, ascending; None: as much of `LADDER` as fits.
        seeds: how many seeds.
        queries: most queries in all; None: no limit.
        usd: most US dollars in all; None: no limit.
        name: the audit's name, that of its folder.
    """

    target: tuple[str, ...]
    attacks: tuple[ShelfChoice, ...] | None = None
    defenses: tuple[ShelfChoice, ...] | None = None
    ladder: tuple[int, ...] | None = None
    seeds: int = 1
    queries: int | None = None
    usd: float | None = None
    name: str | None = None

    @property
    def sweep_id(self) -> str:
        """The name of the audit's sweep: what was asked for decides it, so that the same command goes on."""
        what = sorted(word for word in self.target if not word.startswith(MACHINE))
        shelf = [None if some is None else [one.label for one in some] for some in (self.attacks, self.defenses)]
        asked = [what, shelf, self.ladder, self.seeds, self.queries, self.usd]
        return self.name or f"audit-{digest(asked)[:8]}"


def require_authorised(words: Sequence[str]) -> tuple[str, ...]:
    """The words without the owner's statement.

    Raises:
        ConfigError: it is missing.
    """
    said = [word.partition("=")[2].lower() for word in words if word.startswith(f"{AUTHORISED}=")]
    if said != ["true"]:
        raise ConfigError(
            "An audit asks a model as attackers would, and copies it. Do that to a model of yours, or with its owner's "
            f"written consent, and say so: {AUTHORISED}=true. Nothing was asked."
        )
    return tuple(word for word in words if not word.startswith(f"{AUTHORISED}="))


def make_request(
    words: Sequence[str],
    attacks: Sequence[str] = (),
    defenses: Sequence[str] = (),
    ladder: str | None = None,
    seeds: int = 1,
    queries: int | None = None,
    usd: float | None = None,
    name: str | None = None,
) -> AuditRequest:
    """Check a command line; for the arguments see `AuditRequest`.

    Raises:
        ConfigError: the owner did not say that they may, or an option is not usable.
    """
    target = require_authorised(words)
    for word in target:
        _require_targets(word)
    if seeds < 1:
        raise ConfigError(f"--seeds must be at least 1, not {seeds}.")
    for option, limit in (("--queries", queries), ("--usd", usd)):
        if limit is not None and not 0 < limit < float("inf"):
            raise ConfigError(f"{option} must be more than 0, not {limit}.")
    tried, given = parse_choices(attacks, "--attacks"), parse_choices(defenses, "--defenses")
    for choices, own in ((tried, "attack"), (given, "defense")):
        for word in (word for choice in choices for word in choice.words):
            if not word.lstrip("+~").startswith((f"{own}.", f"{own}/", f"{own}@")):
                _require_targets(word)
    chosen = None if not given else (NONE, *(one for one in given if one.name != UNDEFENDED))
    return AuditRequest(target, tried or None, chosen, parse_ladder(ladder), seeds, queries, usd, name)


def _require_targets(word: str) -> None:
    """Check that a word may be given for all jobs of an audit."""
    key, equals, value = word.partition("=")
    plain = key.lstrip("+~")
    if not equals and not key.startswith("~"):
        raise ConfigError(f"{word} is no override (key=value). A served model: victim=http victim.url=http://...")
    owner = next((name for name in OURS if plain == name or plain.startswith((f"{name}/", f"{name}@"))), None)
    owner = owner or next((name for name in ("attack", "defense") if plain.startswith(f"{name}.")), None)
    owner = owner or ("sweep" if plain.startswith(("hydra.sweeper", "hydra/sweeper")) else None)
    if owner is not None:
        raise ConfigError(f"{word}: an audit sets {plain} itself: {OURS[owner]}.")
    if "," in value and value[:1] not in "[{'\"(" and not value.startswith("http"):
        raise ConfigError(f"{word} is several choices. An audit is of one target, with one value of each setting.")


def parse_ladder(text: str | None) -> tuple[int, ...] | None:
    """The budgets that ``--ladder`` names, ascending; None if it is not given.

    Raises:
        ConfigError: one is no number of queries.
    """
    if text is None:
        return None
    rungs = [rung.strip().replace("_", "") for rung in text.split(",")]
    if not all(rung.isdigit() and int(rung) for rung in rungs):
        raise ConfigError(f"--ladder takes numbers of queries, as --ladder 100,300,1000, not {text!r}.")
    return tuple(sorted({int(rung) for rung in rungs}))
