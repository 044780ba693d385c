"""The OpenAPI description, made from the very classes that check the requests."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from es_latechunk.serve.protocols import Ask, EmbeddingsAsk, FeatureExtractionAsk, LateChunkAsk

POSTS: dict[str, tuple[type[Ask], str]] = {
    "/v1/embeddings": (EmbeddingsAsk, "One vector a text, as OpenAI's embeddings."),
    "/": (
        FeatureExtractionAsk,
        "One vector a text, as Hugging Face's feature extraction: an array of vectors.",
    ),
    "/embed": (FeatureExtractionAsk, "The same, at the address that Text Embeddings Inference has."),
    "/late_chunk": (LateChunkAsk, "A document in, its chunks out, with vectors that know the document."),
}
GETS = {
    "/v1/models": "The served model, as OpenAI's list of models.",
    "/health": "200 once the model is loaded; needs no token.",
    "/metrics": "Prometheus metrics.",
    "/openapi.json": "This description.",
}
ERRORS = {
    "401": "The bearer token is missing or wrong.",
    "413": "The body is too large.",
    "422": "The body is malformed, or asks for too many texts, chunks or tokens.",
    "503": "Too much waits already; see Retry-After.",
}


def describe(*, secured: bool) -> dict[str, Any]:
    """OpenAPI 3.1."""
    asks = {ask for ask, _ in POSTS.values()}
    models = [(ask, "validation") for ask in sorted(asks, key=lambda ask: ask.__name__)]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    paths: dict[str, Any] = {path: {"post": _post(path, ask, told)} for path, (ask, told) in POSTS.items()}
    paths.update({path: {"get": _operation(path, told)} for path, told in GETS.items()})
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "es-latechunk serve", "version": version("es-latechunk")},
        "paths": paths,
        "components": components,
    }
    if secured:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        paths["/health"]["get"]["security"] = []
    return described


def _post(path: str, ask: type[Ask], told: str) -> dict[str, Any]:
    operation = _operation(path, told)
    schema = {"$ref": f"#/components/schemas/{ask.__name__}"}
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation["responses"].update({status: {"description": meant} for status, meant in ERRORS.items()})
    return operation


def _operation(path: str, told: str) -> dict[str, Any]:
    name = path.strip("/").replace("/", "_").replace(".", "_") or "feature_extraction"
    return {"operationId": name, "summary": told, "responses": {"200": {"description": told}}}
