"""Reads Clarifai's answers: which images were answered, and what became of the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fmsteal.victims.clarifai.codes import FAILURE, MIXED, SUCCESS, Hide, explain_status
from fmsteal.victims.failure import Failure


class UnreadableReply(Exception):
    """An answer that was given, and cannot be understood; the message says what to change."""


@dataclass(frozen=True)
class Outcome:
    """What an answer holds.

    Attributes:
        at: places of the images that were answered.
        rows: their embeddings, float32 ``(n, width)``.
        failures: what became of the others, by place.
    """

    at: Sequence[int]
    rows: npt.NDArray[np.float32]
    failures: dict[int, Failure]


def read(reply: Any, images: int, width: int | None, hide: Hide) -> Outcome:
    """What a ``MultiOutputResponse`` for ``images`` images holds.

    Raises:
        Failure: it holds an error for the call as a whole.
        UnreadableReply: its outputs are not those of the images, are no embeddings, or have another width.
    """
    if reply.status.code not in (SUCCESS, MIXED, FAILURE):
        raise explain_status(reply.status, f"a call for {images} images", hide)
    if len(reply.outputs) != images:
        if reply.status.code != SUCCESS and not reply.outputs:
            raise explain_status(reply.status, f"a call for {images} images", hide)
        raise UnreadableReply(
            f"Clarifai gave {len(reply.outputs)} outputs for {images} images: look at victim.images_per_request."
        )
    at = [place for place, output in enumerate(reply.outputs) if output.status.code == SUCCESS]
    failures = {
        place: explain_status(output.status, f"{images - len(at)} of {images} images", hide)
        for place, output in enumerate(reply.outputs)
        if output.status.code != SUCCESS
    }
    rows = [_vector(reply.outputs[place]) for place in at]
    due = width if width is not None else (len(rows[0]) if rows else 0)
    if other := [len(row) for row in rows if len(row) != due]:
        raise UnreadableReply(
            f"Clarifai's answers changed width from {due} to {other[0]}: it is another model now. Fix its version "
            "(victim.version_id=...)."
        )
    return Outcome(at, np.array(rows, np.float32).reshape(len(at), due), failures)


def _vector(output: Any) -> Sequence[float]:
    if len(output.data.embeddings) != 1 or not len(output.data.embeddings[0].vector):
        given = ", ".join(field.name for field, _ in output.data.ListFields()) or "nothing"
        raise UnreadableReply(
            f"Clarifai's model answers with {given}, not with one embedding for an image: choose an embedding model "
            "(victim.model_id)."
        )
    vector: Sequence[float] = output.data.embeddings[0].vector
    return vector


def keep_vectors(reply: Any) -> bytes:
    """A copy of a reply with its codes and vectors alone: a text in it may say a key back."""
    kept = type(reply)()
    kept.status.code = reply.status.code
    for output in reply.outputs:
        one = kept.outputs.add()
        one.status.code = output.status.code
        one.data.embeddings.extend(output.data.embeddings)
    data: bytes = kept.SerializeToString()
    return data
