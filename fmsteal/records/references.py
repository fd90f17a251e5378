"""What refers to what in a cache, and what of it is still needed. Imports no torch."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmsteal.base.artifacts import Artifact
from fmsteal.base.lease import is_held
from fmsteal.base.store import digest, read_json
from fmsteal.base.users import list_users
from fmsteal.identity.keys import KEY_VERSION, OF_VICTIM_PARTS
from fmsteal.records.folders import RUNS, SWEEPS, THEFTS, VICTIMS, JobFolder, SweepFolder, TheftFolder
from fmsteal.records.prepared import list_notes

NO_DEFENSE = "no_defense"  # stable name of the defense that is none


@dataclass
class References:
    """Who refers to the artifacts of a cache.

    Attributes:
        thefts: names of the thefts, open and sealed, by the name of the victim's folder that they were made from.
        noted: names of the victims' folders that a note gives a key to.
        defended: how many thefts have a defense.
        gone: output folders that have used the cache and cannot be read now.
        running: jobs and sweeps under way, each with the time since which it may have opened artifacts.
        unknown: thefts whose records cannot be read, so that their victims are not known.
        artifacts: what else refers to an artifact, by its folder's name: kind and number.
        images: names of the images' folders by digest.
    """

    thefts: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    noted: set[str] = field(default_factory=set)
    defended: int = 0
    gone: list[Path] = field(default_factory=list)
    running: dict[Path, float] = field(default_factory=dict)
    unknown: list[Path] = field(default_factory=list)
    artifacts: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    images: dict[str, str] = field(default_factory=dict)

    def describe(self, artifact: Artifact) -> str:
        """What refers to an artifact, and what it is of: ``2 thefts, 1 answers``, ``of vit_b16 on cifar10-...``."""
        counted = {"thefts": len(self.thefts.get(artifact.name, ())), **self.artifacts.get(artifact.name, {})}
        said = [f"{number} {kind}" for kind, number in counted.items() if number]
        of = _say_origin(artifact, self.images)
        return "; ".join(part for part in (", ".join(said), of) if part)

    def require(self, artifact: Artifact) -> str:
        """Why an artifact is kept, however long it was not used; "" if nothing requires it."""
        if artifact.is_being_made:
            return "a running process holds its lease"
        if since := [job for job, began in self.running.items() if artifact.used >= began]:
            return f"a job under way may use it: {since[0].name}"
        if artifact.kind == "probes":
            return "it tells black boxes apart"
        if not artifact.published:
            return ""
        return self._require_victim(artifact) or self._require_defense(artifact)

    def _require_victim(self, artifact: Artifact) -> str:
        if artifact.kind != "victims":
            return ""
        if thefts := self.thefts.get(artifact.name):
            return f"a theft names it: {thefts[0]}"
        if artifact.name not in self.noted:
            return "no note says whose victim it is, so that a theft may name it"
        return self._doubt()

    def _require_defense(self, artifact: Artifact) -> str:
        if artifact.kind != "defenses":
            return ""
        return f"{self.defended} thefts have a defense, which may be this one" if self.defended else self._doubt()

    def _doubt(self) -> str:
        if self.unknown:
            return f"{self.unknown[0]}, whose records cannot be read, may name it"
        return f"a theft in {self.gone[0]}, which cannot be read now, may name it" if self.gone else ""


def find_references(cache: Path, artifacts: Sequence[Artifact], outputs: Sequence[Path] = ()) -> References:
    """Read thefts and jobs below all outputs that use a cache, and what its artifacts say of each other."""
    found = References()
    places = dict(_list_victims(cache))
    found.noted = set(places.values())
    for output in sorted({*list_users(cache), *(folder.absolute() for folder in outputs)}):
        if not os.access(output, os.R_OK | os.X_OK) or not _is_readable(output / THEFTS):
            found.gone.append(output)
            continue
        for theft, record in _list_thefts(output):
            identity = record.get("identity")
            if not isinstance(identity, dict):
                found.unknown.append(theft.path)
                continue
            found.defended += (identity.get("defense") or {}).get("name", NO_DEFENSE) != NO_DEFENSE
            place = places.get(_victim_hash(identity, record.get("key_version", KEY_VERSION)))
            if place is not None:
                found.thefts[place].append(theft.path.name)
        found.running |= dict(_list_running(output))
    _relate(found, artifacts)
    return found


def _relate(found: References, artifacts: Sequence[Artifact]) -> None:
    """Add what artifacts say of each other: answers and features of images, what is kept of a victim."""
    images = ((read_json(a.path / "images.json"), a.name) for a in artifacts if a.kind == "images" and a.published)
    found.images = {meta["digest"]: name for meta, name in images if isinstance(meta, dict) and "digest" in meta}
    victims = [a.name for a in artifacts if a.kind == "victims" and a.published]
    for artifact in artifacts:
        if not artifact.published:
            continue
        of = found.images.get(str(artifact.spec.get("images")))
        if of is not None:
            found.artifacts[of][artifact.kind] += 1
        whose = str(artifact.spec.get("victim", ""))
        for name in victims:
            if whose == name or whose.startswith(f"{name}-"):
                found.artifacts[name][artifact.kind] += 1


def _say_origin(artifact: Artifact, images: Mapping[str, str]) -> str:
    spec, parts = artifact.spec, []
    backbone = spec.get("backbone")
    if artifact.kind == "features" and isinstance(backbone, dict):
        parts.append(f"of {backbone.get('model')}{' views' if 'view' in spec else ''}")
    if isinstance(spec.get("victim"), str):
        parts.append(f"of {spec['victim']}")
    if isinstance(spec.get("images"), str) and artifact.kind != "images":
        parts.append(f"on {images.get(spec['images'], 'images that are not in the cache')}")
    return " ".join(parts)


def _list_victims(cache: Path) -> Iterator[tuple[str, str]]:
    """The hash of each victim's key that is noted, with the name of the victim's folder."""
    for key, note in list_notes(cache):
        if isinstance(note.get("place"), str):
            yield key, Path(note["place"]).name


def _list_thefts(output: Path) -> Iterator[tuple[TheftFolder, dict[str, Any]]]:
    for place in sorted((output / THEFTS).iterdir()) if (output / THEFTS).is_dir() else ():
        theft = TheftFolder(place)
        if not place.is_dir() or place.name.startswith("."):
            continue
        try:
            records = [r for r in (read_json(theft.begun), read_json(theft.seal)) if isinstance(r, dict)]
            is_theft = bool(records) or theft.ledger.exists()
        except OSError:  # another user's
            records, is_theft = [], True
        if is_theft:
            yield theft, next((r for r in records if isinstance(r.get("identity"), dict)), {})


def _list_running(output: Path) -> Iterator[tuple[Path, float]]:
    """The jobs and sweeps under way, each with the time when it began; 0 if that cannot be seen."""
    for pattern in (f"{RUNS}/*", f"{SWEEPS}/*/*", f"{SWEEPS}/*/{VICTIMS}/*"):
        for job in map(JobFolder, output.glob(pattern)):
            if is_held(job.lease):
                yield job.path, _last_written(job.overrides)
    for sweep in map(SweepFolder, output.glob(f"{SWEEPS}/*")):
        if any(is_held(command) for command in sweep.commands()):
            yield sweep.path, _last_written(sweep.record)


def _victim_hash(identity: Mapping[str, Any], version: Any) -> str:
    """The hash of the key of a theft's victim, as of the version that made the theft's key."""
    return digest([version, {name: identity[name] for name in OF_VICTIM_PARTS if name in identity}])[:16]


def _last_written(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _is_readable(folder: Path) -> bool:
    return not folder.exists() or os.access(folder, os.R_OK | os.X_OK)
