"""The addresses of a service, and their documentation (``/openapi.json``)."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import orjson
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from fmsteal import __version__
from fmsteal.serve.clients import ServiceClient
from fmsteal.serve.desk import Answered
from fmsteal.serve.faults import Fault
from fmsteal.serve.gate import NOTE
from fmsteal.serve.service import RunningService
from fmsteal.serve.wire import Classified, Embedded, Health, KeyUsage, ModelFacts, describe_queries, list_responses

PATHS = {"classify": "/v1/classify", "embed": "/v1/embed"}
FIELDS = {"classify": "probabilities", "embed": "embedding"}
LONGEST_KEY = 255
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


def make_app(service: RunningService) -> FastAPI:
    """The application; its lifespan is the service's."""

    @asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        async with service.running():
            yield

    app = FastAPI(
        title="fmsteal", version=__version__, lifespan=live, docs_url=None, redoc_url=None, redirect_slashes=False
    )
    app.add_exception_handler(HTTPException, _answer_http_error)
    served = service.served
    facts = {
        "task": served.task, "width": served.width, "classes": served.classes, "input_size": served.input_size,
        "answers": FIELDS[served.task],
    }  # fmt: skip
    keyed: dict[str, Any] = {
        "openapi_extra": {"security": [{"bearer": []}]},
        "responses": list_responses(queries=False),
    }

    @app.get("/health", response_model=Health, summary="Is it up?")
    @answer_faults
    async def health(request: Request) -> Response:
        return _json({"status": "ok"})

    @app.get("/v1/model", response_model=ModelFacts, summary="What the model does", **keyed)
    @answer_faults
    async def model(request: Request) -> Response:
        price = _find_client(service, request).price_per_1000
        return _json({**facts, "price_per_1000": price or None})

    @app.get("/usage", response_model=KeyUsage, summary="What this key has had", **keyed)
    @answer_faults
    async def usage(request: Request) -> Response:
        client = _find_client(service, request)
        used = service.usage(client)
        return _json({"queries": used.queries, "budget": client.budget, "usd": used.usd})

    for task, path in PATHS.items():
        app.post(
            path,
            name=task,
            summary="Probabilities of images" if task == "classify" else "Embeddings of images",
            response_model=Classified if task == "classify" else Embedded,
            openapi_extra=describe_queries(),
            responses=list_responses(queries=True),
        )(answer_faults(_make_query(service, task, path)))
    _document_security(app)
    return app


def answer_faults(handler: Handler) -> Handler:
    """Turn the faults of a handler into answers."""

    @wraps(handler)
    async def safe(request: Request) -> Response:
        try:
            return await handler(request)
        except Fault as fault:
            request.scope[NOTE]["code"] = fault.code
            headers = {} if fault.retry_after is None else {"Retry-After": str(math.ceil(fault.retry_after))}
            if fault.code == "unauthorized":
                headers["WWW-Authenticate"] = "Bearer"
            return _json(fault.body, fault.status, headers)

    return safe


def _make_query(service: RunningService, task: str, path: str) -> Handler:
    own = service.served.task

    async def query(request: Request) -> Response:
        client = _find_client(service, request)
        if task != own:
            raise Fault("wrong_task", f"This model does not {task}: POST {PATHS[own]}.")
        headers = request.headers
        key = _find_key(headers.get("idempotency-key"))
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        with service.memory.share() as share:
            body = await service.read_body(request.receive, headers.get("content-length"), share)
            request.scope[NOTE]["bytes_in"] = len(body)
            answered = await service.ask(client, key, path, kind, body, share)
        return _answer(request, answered, FIELDS[own])

    return query


def _find_client(service: RunningService, request: Request) -> ServiceClient:
    client = service.find_client(request.headers.get("authorization"))
    request.scope[NOTE]["client"] = client.name
    return client


def _find_key(key: str | None) -> str | None:
    if key is not None and (not 0 < len(key) <= LONGEST_KEY or not key.isascii() or not key.isprintable()):
        raise Fault("bad_request", f"An Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters.")
    return key


def _answer(request: Request, answered: Answered, field: str) -> Response:
    entries = answered.entries
    queries = sum(entry.answer is not None for entry in entries)
    note = request.scope[NOTE]
    note["images"], note["queries"] = len(entries), queries
    if not queries:
        raise Fault("refused", "The defense of this API refused every image of the request. Nothing was charged.")
    outputs = [{field: entry.answer} if entry.answer is not None else {"refused": True} for entry in entries]
    usd = sum(entry.usd for entry in entries)
    headers = {"Idempotent-Replayed": "true"} if answered.replayed else {}
    return _json({"outputs": outputs, "usage": {"queries": queries, "usd": usd}}, headers=headers)


def _json(body: dict[str, Any], status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A JSON answer; float32 arrays are written with the digits that give them back exactly."""
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), status, headers, "application/json")


async def _answer_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    code = "method_not_allowed" if error.status_code == 405 else "not_found"
    there = "/health, /usage, /v1/model, /v1/classify, /v1/embed, /openapi.json"
    words = f"{request.method} {request.url.path[:100]} is not served. There are: {there}."
    request.scope[NOTE]["code"] = code
    return _json(Fault(code, words).body, 405 if code == "method_not_allowed" else 404, dict(error.headers or {}))


def _document_security(app: FastAPI) -> None:
    plain = app.openapi

    def document() -> dict[str, Any]:
        if not app.openapi_schema:
            schema = plain()
            schemes = schema.setdefault("components", {}).setdefault("securitySchemes", {})
            schemes["bearer"] = {"type": "http", "scheme": "bearer", "description": "a client's key"}
        return plain()

    app.openapi = document  # type: ignore[method-assign]
