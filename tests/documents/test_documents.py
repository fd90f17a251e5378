"""What the documents say can be typed, and what they link to is there."""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from fmsteal.base.quoting import quote_override
from fmsteal.cli import COMMANDS, EVALUATE, SERVE
from fmsteal.config import build
from tests.support.composing import choices_of, composed

ROOT = Path(__file__).parents[2]
DOCUMENTS = [path for path in sorted(ROOT.rglob("*.md")) if not {".git", "outputs", ".pytest_cache"} & set(path.parts)]
OF_ANOTHER = ("searchpath", "launcher")  # a package of the reader's, or of an extra: executed elsewhere


def commands(document: Path) -> Iterator[list[str]]:
    """The words of each `fmsteal` command in a document's bash blocks, without comments; ``...`` left out."""
    for block in re.findall(r"```bash\n(.*?)```", document.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for _, part in itertools.groupby(words, lambda word: word == "&&"):
                found = [word for word in part if word != "..."]
                if found[0] == "fmsteal":
                    yield found[1:]


TYPED = [
    pytest.param(words, id=f"{d.relative_to(ROOT)}: {' '.join(words)}") for d in DOCUMENTS for words in commands(d)
]


@pytest.mark.parametrize("words", TYPED)
def test_a_command_of_a_document_is_one(words: list[str]) -> None:
    if words[:1] in ([EVALUATE], [SERVE]):
        words = [word for word in words[1:] if "=" in word]
    elif words[:1] and words[0] in COMMANDS:
        return
    if any(name in word for word in words for name in OF_ANOTHER):
        return
    overrides = [word for word in words if not word.startswith("-")]
    for one in (0, -1):  # of a sweep's choices the first and the last
        cfg = composed(*(_choice(override, one) for override in overrides))
        for group in ("data", "query"):
            if OmegaConf.is_missing(cfg[group], "root"):
                cfg[group].root = "/some/images"
        build.check(cfg)


def _choice(override: str, one: int) -> str:
    key, equals, value = override.partition("=")
    if "interval(" in value:
        return quote_override(f"{key}={choices_of(key, value)[one]}")
    return quote_override(
        override if any(c in value for c in "[{'\"") or not equals else f"{key}={value.split(',')[one]}"
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_of_a_document_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", document.read_text()):
        name, _, anchor = target.partition("#")
        led = document.parent / name if name else document
        assert led.exists(), f"{document}: {target}"
        if anchor:
            assert anchor in {_anchor(line) for line in led.read_text().splitlines() if line.startswith("#")}, target


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")
