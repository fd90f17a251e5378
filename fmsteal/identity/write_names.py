"""``python -m fmsteal.identity.write_names``: write the table of stable names from the classes in the code.

It keeps existing names. If a class has disappeared from one module and one of the same name has appeared in another, it
has moved, and only its path changes. A renamed class looks like a new one: edit its path in ``names.json`` first. A new
class gets a stable name made from its own, which may be edited before its first release.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from omegaconf import OmegaConf

from fmsteal.base import paths
from fmsteal.base.errors import ConfigError
from fmsteal.config import by_adaptation
from fmsteal.config.build import RUNTIME, locate
from fmsteal.identity.keys import MACHINE
from fmsteal.identity.table import FILE, Entry, entries, write

OTHERS = {  # classes that are not ours, but that every config names
    "lightning.Trainer": Entry("trainer", defaults={"precision": "32-true"}, machine=tuple(sorted(MACHINE))),
}
_TARGET = re.compile(r"fmsteal(?:\.\w+)+")
_NO_PART = ("fmsteal.tracking.", "fmsteal.plugins.", "fmsteal.sweep.")  # they do not affect any result


def main() -> None:
    """Write the table, or report why it cannot be written."""
    try:
        found = merge(entries() if FILE.exists() else {}, collect())
    except ConfigError as error:
        sys.exit(f"write_names: {error}")
    write(FILE, found)
    print(f"{FILE}: {len(found)} names")


def collect() -> dict[str, Entry]:
    """Entries, without names, of everything that the configs name by ``_target_``, read from the code."""
    texts = [file.read_text() for name in ("conf", "sweeps") for file in paths.folder(name).rglob("*.yaml")]
    texts.append(OmegaConf.to_yaml(by_adaptation.make(paths.folder("conf") / by_adaptation.GROUP)))  # has no file
    code = (line.split("#")[0] for text in texts for line in text.splitlines())
    targets = {match for line in code for match in _TARGET.findall(line) if not match.startswith(_NO_PART)}
    return {target: describe(locate(target)) for target in sorted(targets)} | OTHERS


def describe(target: Any) -> Entry:
    """Version, defaults and rules of a class or function; its name is empty."""
    takes = inspect.signature(target).parameters.values()
    made = {f.name: f.default_factory for f in dataclasses.fields(target)} if dataclasses.is_dataclass(target) else {}
    defaults, required = {}, []
    for option in takes:
        if option.kind in (option.VAR_KEYWORD, option.VAR_POSITIONAL) or option.name in RUNTIME:
            continue
        factory = made.get(option.name, dataclasses.MISSING)
        value = option.default if factory is dataclasses.MISSING else factory()
        try:
            defaults[option.name] = json.loads(json.dumps(value))
        except TypeError:  # no default, or one that is an object
            required.append(option.name)
    version = getattr(target, "version", 1)
    return Entry(
        name="",
        version=version if type(version) is int else 1,
        defaults=defaults,
        required=tuple(required),
        machine=tuple(sorted(getattr(target, "machine", ()))),
        ignores=json.loads(json.dumps(dict(getattr(target, "ignores", {})))),
    )


def merge(table: Mapping[str, Entry], found: Mapping[str, Entry]) -> dict[str, Entry]:
    """The new table: the entries ``found``, with the names that they have in ``table``.

    Raises:
        ConfigError: the key of an earlier job would change its meaning; the message names the class.
    """
    appeared, gone = found.keys() - table.keys(), table.keys() - found.keys()
    before = {path: table[path] for path in found.keys() & table.keys()}
    for path in gone:
        places = [other for other in appeared if _last(other) == _last(path)]
        if len(places) == 1:
            before[places[0]] = table[path]
    if wrong := [said for path in sorted(before) if (said := _changed(path, before[path], found[path]))]:
        raise ConfigError("\n".join(wrong))
    taken = {entry.name for entry in before.values()}
    names = {path: entry.name for path, entry in before.items()}
    for path in sorted(found.keys() - before.keys()):
        names[path] = found[path].name or _fresh(path, taken)
        taken.add(names[path])
    return {path: replace(entry, name=names[path]) for path, entry in found.items()}


def find_problems(table: Mapping[str, Entry], found: Mapping[str, Entry]) -> list[str]:
    """What is wrong with a table, compared with the code: a list of messages."""
    twice = [name for name, times in Counter(entry.name for entry in table.values()).items() if times > 1]
    said = [f"{sum(e.name == n for e in table.values())} classes have the stable name '{n}'" for n in sorted(twice)]
    try:
        wanted = merge(table, found)
    except ConfigError as error:
        return [*said, *str(error).splitlines()]
    other = sorted(path for path in wanted.keys() | table.keys() if wanted.get(path) != table.get(path))
    return [*said, *(f"{path} is not in the table as it is: python -m fmsteal.identity.write_names" for path in other)]


def _changed(path: str, before: Entry, now: Entry) -> str | None:
    """Why an entry cannot replace an earlier one under its version; None if it can."""
    if now.version < before.version:
        return f"{path}: version {now.version} is below {before.version}, which is in the table."
    if now.version > before.version:
        return None
    for option in before.defaults.keys() | before.required:
        was, has = before.defaults.get(option, ...), now.defaults.get(option, ...)
        gone = option not in now.defaults and option not in now.required
        if not gone and was != has:
            spelt = ["no default" if value is ... else f"default {json.dumps(value)}" for value in (was, has)]
            return (
                f"{path}: option '{option}' had {spelt[0]}, and has {spelt[1]}: jobs that leave it out would keep "
                f"their key and mean something else. Raise the version: version: ClassVar[int] = {before.version + 1}."
            )
    return None


def _fresh(path: str, taken: set[str]) -> str:
    """A name made from a class's own: ``TopK`` becomes ``top_k``, prefixed with the module's name if that is taken."""
    module, _, last = path.rpartition(".")
    short = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", last).lower()
    return short if short not in taken else f"{module.rpartition('.')[2]}_{short}"


def _last(path: str) -> str:
    return path.rpartition(".")[2]


if __name__ == "__main__":
    main()
