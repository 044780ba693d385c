"""The OpenAPI description, made from the very classes that check the requests."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from pydantic.json_schema import models_json_schema

from es_latechunk.serve.protocols import (
    Ask,
    CompareAsk,
    EmbeddingsAsk,
    FeatureExtractionAsk,
    LateChunkAsk,
    SearchAsk,
)

POSTS: dict[str, tuple[type[Ask], str]] = {
    "/v1/embeddings": (EmbeddingsAsk, "One vector a text, as OpenAI's embeddings."),
    "/": (
        FeatureExtractionAsk,
        "One vector a text, as Hugging Face's feature extraction: an array of vectors.",
    ),
    "/embed": (FeatureExtractionAsk, "The same, at the address that Text Embeddings Inference has."),
    "/late_chunk": (LateChunkAsk, "A document in, its chunks out, with vectors that know the document."),
    "/compare": (CompareAsk, "A text and a query in, its chunks by late similarity and by naive."),
    "/search": (SearchAsk, "A query in, the index's chunks by late similarity and by naive."),
}
GETS = {
    "/": "The page: late next to naive, for a query; needs no token.",
    "/about": "The served model and index, for the page.",
    "/v1/models": "The served model, as OpenAI's list of models.",
    "/health": "200 once the model is loaded; needs no token.",
    "/metrics": "Prometheus metrics.",
    "/openapi.json": "This description.",
}
OPEN = ("/", "/health")  # without a token
ERRORS = {
    "401": "The bearer token is missing or wrong.",
    "413": "The body is too large.",
    "422": "The body is malformed, or asks for too many texts, chunks or tokens.",
    "503": "Too much waits already; see Retry-After.",
}


def describe(*, secured: bool, searching: bool) -> dict[str, Any]:
    """OpenAPI 3.1; /search is served where an index is."""
    posts = {path: post for path, post in POSTS.items() if searching or path != "/search"}
    asks = {ask for ask, _ in posts.values()}
    models = [(ask, "validation") for ask in sorted(asks, key=lambda ask: ask.__name__)]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    paths: dict[str, Any] = {path: {"post": _post(path, ask, told)} for path, (ask, told) in posts.items()}
    for path, told in GETS.items():
        paths.setdefault(path, {})["get"] = _operation(path, told, at_root="page")
    described: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {"title": "es-latechunk serve", "version": version("es-latechunk")},
        "paths": paths,
        "components": components,
    }
    if secured:
        components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        for path in OPEN:
            paths[path]["get"]["security"] = []
    return described


def _post(path: str, ask: type[Ask], told: str) -> dict[str, Any]:
    operation = _operation(path, told, at_root="feature_extraction")
    schema = {"$ref": f"#/components/schemas/{ask.__name__}"}
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation["responses"].update({status: {"description": meant} for status, meant in ERRORS.items()})
    return operation


def _operation(path: str, told: str, *, at_root: str) -> dict[str, Any]:
    name = path.strip("/").replace("/", "_").replace(".", "_") or at_root
    return {"operationId": name, "summary": told, "responses": {"200": {"description": told}}}
