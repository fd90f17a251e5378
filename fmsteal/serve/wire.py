"""The bodies of requests and answers, for the documentation of the service (OpenAPI)."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field

from fmsteal.serve.faults import REASONS


class Health(BaseModel):
    """The service is up."""

    status: Literal["ok"]


class ModelFacts(BaseModel):
    """What the model does."""

    task: Literal["classify", "embed"] = Field(description="which of /v1/classify and /v1/embed it answers")
    width: int = Field(description="length of an answer")
    classes: list[str] | None = Field(description="the classes, in the order of the probabilities; null for embeddings")
    input_size: int = Field(description="side in pixels of the square images that the model is made for")
    price_per_1000: float | None = Field(description="US dollars for a thousand answers; null: free")
    answers: Literal["probabilities", "embedding"] = Field(description="the field of an output")


class KeyUsage(BaseModel):
    """What this key has had."""

    queries: int = Field(description="answers so far")
    budget: int | None = Field(description="answers it may have in all; null: any number")
    usd: float = Field(description="US dollars so far")


class ImageBatch(BaseModel):
    """Several images."""

    model_config = {"extra": "forbid"}
    images: list[str] = Field(min_length=1, description="PNG or JPEG files, in base64")


class Probabilities(BaseModel):
    """The answer of a classifier to one image."""

    probabilities: list[float]


class Embedding(BaseModel):
    """The answer of an encoder to one image."""

    embedding: list[float]


class RefusedOutput(BaseModel):
    """An image that the defense refused, in a request of which others are answered; it is not charged."""

    refused: Literal[True]


class Charge(BaseModel):
    """What the request costs."""

    queries: int
    usd: float


class Classified(BaseModel):
    """One output for each image, in order; numbers have the precision of float32."""

    outputs: list[Probabilities | RefusedOutput]
    usage: Charge


class Embedded(BaseModel):
    """One output for each image, in order; numbers have the precision of float32."""

    outputs: list[Embedding | RefusedOutput]
    usage: Charge


class WireError(BaseModel):
    """What went wrong."""

    code: str = Field(description="one of: " + ", ".join(REASONS), json_schema_extra={"enum": list(REASONS)})
    message: str = Field(description="what is wrong, and what to do")
    retry_after: float | None = Field(description="seconds after which the same request may succeed; null: it will not")


class WireErrorBody(BaseModel):
    """The body of every answer that is not 200."""

    error: WireError


_COMMON = ("not_found", "method_not_allowed")
_OF_KEYS = ("unauthorized", "overloaded")
_OF_QUERIES = tuple(code for code in REASONS if code not in (*_COMMON, *_OF_KEYS))


def list_responses(*, queries: bool) -> dict[int | str, dict[str, Any]]:
    """The documented errors of an address that needs a key; ``queries``: of one that answers images."""
    found: dict[int | str, dict[str, Any]] = {}
    for code in (*_OF_KEYS, *(_OF_QUERIES if queries else ())):
        status, text = REASONS[code]
        entry = found.setdefault(status, {"model": WireErrorBody, "description": ""})
        entry["description"] = f"{entry['description']} `{code}`: {text}".strip()
        if status in (429, 503):
            entry["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer"}}}
    return found


def describe_queries() -> dict[str, Any]:
    """The request of /v1/classify and /v1/embed, as OpenAPI has it."""
    image = {"schema": {"type": "string", "format": "binary"}}
    return {
        "security": [{"bearer": []}],
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "description": "The same key with the same body is answered from the records and charged once.",
                "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
            }
        ],
        "requestBody": {
            "required": True,
            "content": {
                "image/png": image,
                "image/jpeg": image,
                "application/json": {"schema": ImageBatch.model_json_schema()},
            },
        },
    }
