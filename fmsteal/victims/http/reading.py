"""What an answer says: its vectors and its errors, found by JMESPath."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fmsteal.base.errors import ConfigError

Vectors = npt.NDArray[np.float32]


class Unreadable(Exception):
    """An answer that was given, and cannot be understood as the config says; the message says what to change.

    Attributes:
        cut: whether it is no whole JSON, so that asking again may help.
        elsewhere: whether its vectors may be where another expression finds them.
    """

    def __init__(self, message: str, *, cut: bool = False, elsewhere: bool = False) -> None:
        super().__init__(message)
        self.cut, self.elsewhere = cut, elsewhere


class Reader:
    """Reads answers; ``vectors`` and ``errors`` are the JMESPath expressions of a config.

    What a service says goes through ``hide`` before it is shortened: half a key is a key to whoever finds the rest.
    """

    def __init__(self, vectors: str, errors: str | None, hide: Callable[[str], str]) -> None:
        """Compile the expressions.

        Raises:
            ConfigError: one of them is none, or the package that reads them is not installed.
        """
        try:
            import jmespath
        except ImportError:
            raise ConfigError("A victim behind HTTP needs jmespath: pip install 'fmsteal[http]'.") from None
        self._path, self._compiled, self._hide = vectors, {}, hide
        for name, text in (("vectors", vectors), ("errors", errors)):
            if text is None:
                continue
            try:
                self._compiled[name] = jmespath.compile(text)
            except jmespath.exceptions.JMESPathError as error:
                said = str(error).partition("\n")[0]
                raise ConfigError(f"victim.{name}={text} is no JMESPath expression ({said}).") from None

    def read(self, body: bytes, images: int, width: int | None) -> Vectors:
        """The vectors, float32 ``(images, width)``; any width will do if it is None.

        Raises:
            Unreadable: there are none, or another number of them, or they have another width.
        """
        answer = self._parse(body)
        found = self._search("vectors", answer)
        if found is None and (said := self.read_error(body)):
            raise Unreadable(f"The service answered with an error inside a successful reply: {said}")
        rows = self._to_rows(found, images, answer)
        if len(rows) < images and (said := self.read_error(body)):
            raise Unreadable(
                f"The service gave {len(rows)} vectors for {images} images and says: {said}. A theft over HTTP cannot "
                "go on without the others: steal in this process (victim and defense of your own), or let the "
                "service's owner leave out that defense."
            )
        if len(rows) != images:
            raise Unreadable(
                f"The service gave {len(rows)} vectors for {images} images: look at victim.vectors={self._path}, and "
                "at how many images it takes at once (victim.images_per_request)."
            )
        if width is not None and rows.shape[1] != width:
            raise Unreadable(
                f"The service's answers changed width from {width} to {rows.shape[1]}: it is another model now. Give "
                "that one a name of its own (victim.name=...), or fix its version (victim.options)."
            )
        return rows

    def read_error(self, body: bytes) -> str | None:
        """What the service says went wrong; None if it does not say."""
        try:
            said = self._search("errors", self._parse(body))
        except Unreadable:
            return None
        return None if not said else self._hide(said if isinstance(said, str) else json.dumps(said))[:300]

    def _search(self, name: str, answer: Any) -> Any:
        return self._compiled[name].search(answer) if name in self._compiled else None

    def _parse(self, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            shown = self._hide(body.decode("utf-8", "replace"))[:40]
            raise Unreadable(
                f"The service's answer is no JSON (it begins {shown!r}): look at victim.url.", cut=True
            ) from None

    def _to_rows(self, found: Any, images: int, answer: Any) -> Vectors:
        try:
            rows = np.asarray(found, dtype=np.float32)
        except (TypeError, ValueError):
            rows = np.zeros(0, np.float32)
        if rows.ndim == 1 and len(rows) and len(rows) % images == 0:  # the numbers of all images, one after the other
            rows = rows.reshape(images, -1)
        if found is None or rows.ndim != 2 or not rows.size:
            raise Unreadable(
                f"victim.vectors={self._path} finds no vectors in the service's answer, which is {_outline(answer)}. "
                "Give the expression (JMESPath) that finds a list of numbers for each image.",
                elsewhere=True,
            )
        return rows


def _outline(node: Any, depth: int = 4) -> str:
    """The shape of an answer, without its numbers."""
    if isinstance(node, dict):
        inner = ", ".join(f"{k}: {_outline(v, depth - 1)}" for k, v in list(node.items())[:6]) if depth else "..."
        return f"{{{inner}}}"
    if isinstance(node, list):
        return f"[{_outline(node[0], depth - 1) if node and depth else ''} x {len(node)}]"
    return "null" if node is None else type(node).__name__
