"""What a request says: an image as it is, or JSON made from a template with places for images."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from fmsteal.base.errors import ConfigError
from fmsteal.victims.encoding import ImageFormat, Pixels

RAW = "raw"
OURS: Mapping[str, Any] = {"images": ["{base64}"]}
_EACH = ("{base64}", "{data_uri}")  # of one image
_WHOLE = ("{pixels}", "{floats}", "{shape}", "{count}")  # of all images of a request
_ALL = ("{pixels}", "{floats}")
PLACES = ", ".join((*_EACH, *_WHOLE))


class Template:
    """Makes the body of a request.

    In a JSON template, ``{base64}`` and ``{data_uri}`` stand for one image as text. The outermost list that holds one
    of them has a single element, which is repeated for each image of the request. ``{pixels}`` (0 to 255) and
    ``{floats}`` (0 to 1) stand for the numbers of all images, in the order of ``{shape}``, which is
    ``[n, 3, height, width]``; ``{count}`` is n.
    """

    def __init__(self, body: str | Mapping[str, Any] | None, options: Mapping[str, Any], per_request: int) -> None:
        """Take the body's template, further ``options`` beside it, and the most images in a request.

        Raises:
            ConfigError: the template has no place for an image, or for only one where a request has several.
        """
        body = OURS if body is None else body
        self._body, self._options = body, dict(options)
        if isinstance(body, str):
            if body != RAW:
                raise ConfigError(f"victim.body is {RAW}, or a mapping with a place for images: not {body!r}.")
            several, reason = False, f"victim.body={RAW} sends one image as it is"
            if options:
                raise ConfigError(f"victim.body={RAW} sends the image alone: leave out victim.options.")
        else:
            text = json.dumps(body)
            if not any(place in text for place in (*_EACH, *_ALL)):
                raise ConfigError(f"victim.body has no place for an image. Places are {PLACES}.")
            several = any(place in text for place in _ALL) or _has_list(body)
            reason = "victim.body has no list around the place of the image"
        if per_request > 1 and not several:
            raise ConfigError(f"{reason}: victim.images_per_request=1, not {per_request}.")

    def fill(self, pixels: Pixels, form: ImageFormat) -> tuple[bytes, str]:
        """The body for images, uint8 ``(n, 3, h, w)``, and its content type."""
        if isinstance(self._body, str):
            return form.encode(pixels[0]), form.mime
        texts = [_Lazy(partial(_spell, form, image)) for image in pixels]
        whole: dict[str, Callable[[], Any]] = {
            "{pixels}": lambda: pixels.reshape(-1).tolist(),
            "{floats}": lambda: (pixels.reshape(-1) / 255).tolist(),
            "{shape}": lambda: list(pixels.shape),
            "{count}": lambda: len(pixels),
        }

        def one(node: Any, text: _Lazy) -> Any:
            if isinstance(node, Mapping):
                return {key: one(value, text) for key, value in node.items()}
            if isinstance(node, list):
                return [one(value, text) for value in node]
            if not isinstance(node, str):
                return node
            if node in whole:
                return whole[node]()
            if not any(place in node for place in _EACH):
                return node
            return node.replace("{data_uri}", f"data:{form.mime};base64,{text()}").replace("{base64}", text())

        def every(node: Any) -> Any:
            if isinstance(node, list) and _holds_image(node):
                return [one(value, text) for text in texts for value in node]
            if isinstance(node, Mapping):
                return {key: every(value) for key, value in node.items()}
            return one(node, texts[0])

        filled = {**self._options, **every(self._body)}
        return json.dumps(filled, separators=(",", ":")).encode(), "application/json"


class _Lazy:
    """An image's text, made once, when it is needed."""

    def __init__(self, make: Callable[[], str]) -> None:
        self._make, self._text = make, ""

    def __call__(self) -> str:
        self._text = self._text or self._make()
        return self._text


def _spell(form: ImageFormat, image: Pixels) -> str:
    return base64.b64encode(form.encode(image)).decode()


def _holds_image(node: Sequence[Any]) -> bool:
    return any(place in json.dumps(node) for place in _EACH)


def _has_list(node: Any) -> bool:
    """Whether a list is around the place of an image."""
    if isinstance(node, list):
        return _holds_image(node)
    return isinstance(node, Mapping) and any(_has_list(value) for value in node.values())
