"""How services speak, as their documentation says: where images are in a request, where vectors are in an answer."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

Rows = list[list[float]]
Open = Callable[[bytes], np.ndarray]


@dataclass(frozen=True)
class Dialect:
    """One way of speaking.

    Attributes:
        read: the images of a request, from its body, its content type, and a decoder.
        write: the body of an answer.
        refuse: the body of a refusal.
    """

    read: Callable[[bytes, str, Open], list[np.ndarray]]
    write: Callable[[Rows, random.Random], bytes]
    refuse: Callable[[int, str], Any]


def decode(text: str) -> bytes:
    head, comma, rest = text.partition(",")
    assert not comma or head == "data:image/png;base64", head
    return base64.b64decode(rest if comma else text, validate=True)


def read_raw(body: bytes, mime: str, opened: Open) -> list[np.ndarray]:
    assert mime in ("image/png", "image/jpeg"), mime
    return [opened(body)]


def read_fmsteal(body: bytes, mime: str, opened: Open) -> list[np.ndarray]:
    if mime != "application/json":
        return read_raw(body, mime, opened)
    return [opened(decode(text)) for text in json.loads(body)["images"]]


def read_json(find: Callable[[Any], list[str]], **due: Any) -> Callable[[bytes, str, Open], list[np.ndarray]]:
    def read(body: bytes, mime: str, opened: Open) -> list[np.ndarray]:
        said = json.loads(body)
        assert mime == "application/json" and due.items() <= said.items(), said.keys()
        return [opened(decode(text)) for text in find(said)]

    return read


def read_numbers(body: bytes, mime: str, opened: Open) -> list[np.ndarray]:
    (told,) = json.loads(body)["inputs"]
    array = np.array(told["data"]).reshape(told["shape"])
    assert told["datatype"] == "FP32" and array.max() <= 1
    return list((array * 255).round().astype(np.uint8))


def write_shuffled(rows: Rows, draw: random.Random) -> bytes:
    data = [{"index": i, "embedding": row, "object": "embedding"} for i, row in enumerate(rows)]
    draw.shuffle(data)
    return json.dumps({"object": "list", "data": data, "usage": {"total_tokens": 9}}).encode()


def plain(make: Callable[[Rows], Any]) -> Callable[[Rows, random.Random], bytes]:
    return lambda rows, draw: json.dumps(make(rows)).encode()


def error(status: int, said: str) -> Any:
    return {"error": {"code": str(status), "message": said, "retry_after": None}}


def infer(rows: Rows) -> Any:
    shape, flat = [len(rows), len(rows[0])], [x for row in rows for x in row]
    return {"model_name": "m", "outputs": [{"name": "y", "shape": shape, "datatype": "FP32", "data": flat}]}


DIALECTS = {
    "fmsteal": Dialect(
        read_fmsteal,
        plain(lambda rows: {"outputs": [{"probabilities": row} for row in rows], "usage": {"queries": len(rows)}}),
        error,
    ),
    "fmsteal_encoder": Dialect(
        read_fmsteal, plain(lambda rows: {"outputs": [{"embedding": row} for row in rows], "usage": {}}), error
    ),
    "cohere": Dialect(
        read_json(lambda said: said["images"], model="embed-v4.0", input_type="image", embedding_types=["float"]),
        plain(lambda rows: {"id": "1", "embeddings": {"float": rows}, "meta": {}}),
        lambda status, said: {"message": said},
    ),
    "voyage": Dialect(
        read_json(
            lambda said: [part["content"][0]["image_base64"] for part in said["inputs"]], model="voyage-multimodal-3.5"
        ),
        write_shuffled,
        lambda status, said: {"detail": said},
    ),
    "jina": Dialect(
        read_json(lambda said: [part["image"] for part in said["input"]], model="jina-clip-v2"),
        write_shuffled,
        lambda status, said: {"detail": said},
    ),
    "vertex": Dialect(
        read_json(lambda said: [part["image"]["bytesBase64Encoded"] for part in said["instances"]]),
        plain(lambda rows: {"predictions": [{"imageEmbedding": row} for row in rows], "deployedModelId": "1"}),
        error,
    ),
    "azure": Dialect(read_raw, plain(lambda rows: {"modelVersion": "2023-04-15", "vector": rows[0]}), error),
    "torchserve": Dialect(
        read_raw, plain(lambda rows: rows[0]), lambda status, said: {"code": status, "type": "E", "message": said}
    ),
    "kserve": Dialect(read_numbers, plain(infer), lambda status, said: {"error": said}),
}
