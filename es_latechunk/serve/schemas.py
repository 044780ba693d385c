"""Requests and responses (OpenAI's, Hugging Face's and our own), and their description as OpenAPI."""

from __future__ import annotations

import base64
from importlib.metadata import version
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
)
from pydantic.json_schema import models_json_schema

from es_latechunk.chunking import DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS
from es_latechunk.serve.batcher import Job
from es_latechunk.types import FloatArray

InputType = Literal["document", "query"]
ChunkerName = Literal["sentences", "paragraphs", "tokens"]  # the keys of `CHUNKERS`, for the OpenAPI schema
JSON = orjson.OPT_SERIALIZE_NUMPY


def _as_list(value: object) -> object:
    if isinstance(value, str):
        return [value]
    numbers = isinstance(value, list) and value and isinstance(value[0], int | list)
    if numbers:
        raise ValueError("token ids belong to the vocabulary of another model; send the text itself")
    return value


Texts = Annotated[
    list[str],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]


MaxTokens = Annotated[int, Field(ge=1, le=1_000_000, description="Maximum number of tokens per chunk.")]
NumberOfHits = Annotated[int, Field(ge=1, le=100, description="Number of hits per list.")]
Neighbours = Annotated[int, Field(ge=0, le=10, description="Chunks on each side of a hit in its passage.")]


class RequestBody(BaseModel):
    """The body of a request. Values are not converted: the string "5" is not accepted as a number."""

    model_config = ConfigDict(strict=True)


class EmbeddingsRequest(RequestBody):
    """OpenAI's request for embeddings, extended by `input_type`."""

    input: Texts
    model: str | None = Field(None, description="Name of the served model, or omitted.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="Dimensions of the served model, or omitted.")
    input_type: InputType | None = Field(
        None, description="Default: document. Also as ?input_type= in the URL."
    )


class FeatureExtractionRequest(RequestBody):
    """Hugging Face's request for feature extraction. Texts are never truncated, whatever `truncate` says."""

    inputs: Texts
    normalize: Literal[True] | None = Field(None, description="Vectors always have length 1.")
    truncate: bool | None = None
    prompt_name: InputType | None = Field(
        None, description="Default: document. Also as ?input_type= in the URL."
    )
    dimensions: int | None = Field(None, description="Dimensions of the served model, or omitted.")


class LateChunkRequest(RequestBody):
    """A document to be late-chunked: by a chunker, or into given `chunks`, [start, end) in characters."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str = "document"
    text: str
    title: str = Field("", description="Accepted, so that a document can be sent as it is; not embedded.")
    chunker: ChunkerName = DEFAULT_CHUNKER
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS
    chunks: list[tuple[int, int]] | None = Field(None, min_length=1)
    pooling: Literal["late", "naive"] = "late"


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; write a few words")
    return value


Words = Annotated[str, AfterValidator(_not_blank)]


class SearchRequest(RequestBody):
    """A query to the served index: its chunks by the index's vectors, by naive ones, and as a hybrid search ranks."""

    model_config = ConfigDict(strict=True, extra="forbid")

    query: Words
    k: NumberOfHits = 10
    neighbours: Neighbours = 1
    candidates: int = Field(
        50,
        ge=1,
        le=500,  # a search for ten hits looks at no more
        description="Number of chunks from each list (kNN, BM25, hybrid) that naive pooling ranks; at least k.",
    )


class CompareRequest(RequestBody):
    """A query and a text, whose chunks are embedded late and naive."""

    model_config = ConfigDict(strict=True, extra="forbid")

    query: Words
    text: Words
    chunker: ChunkerName = DEFAULT_CHUNKER
    max_tokens: MaxTokens = DEFAULT_MAX_TOKENS
    k: NumberOfHits = 10
    neighbours: Neighbours = 1


def openai_answer(request: EmbeddingsRequest, job: Job, vectors: FloatArray, model: str) -> bytes:
    """Return OpenAI's list of embeddings; base64 encodes little-endian float32."""
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": base64.b64encode(row.astype("<f4").tobytes()).decode()
            if request.encoding_format == "base64"
            else row,
        }
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": job.tokens, "total_tokens": job.tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage}, option=JSON)


def hugging_face_answer(vectors: FloatArray) -> bytes:
    """Return an array of vectors, even for a single text."""
    return orjson.dumps(list(vectors), option=JSON)


def late_chunk_answer(job: Job, vectors: FloatArray) -> bytes:
    """Return the chunks of the document, with the fields that `es-latechunk embed` prints."""
    [chunked] = job.documents
    text = chunked.document.text
    chunks = [
        {
            "ordinal": ordinal,
            "start": span.start,
            "end": span.end,
            "content": text[span.start : span.end],
            "vector": vectors[ordinal],
        }
        for ordinal, span in enumerate(chunked.spans)
    ]
    return orjson.dumps({"id": chunked.document.id, "chunks": chunks, "tokens": job.tokens}, option=JSON)


def error_answer(path: str, status: int, message: str) -> dict[str, Any]:
    """Return an error in the format that clients of this path expect."""
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return {"error": message, "error_type": "validation" if status < 500 else "backend"}


def validation_message(error: ValidationError) -> str:
    """Return the first error in a body, without quoting the body."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


POSTS: dict[str, tuple[type[RequestBody], str]] = {
    "/v1/embeddings": (EmbeddingsRequest, "One vector per text, in OpenAI's format."),
    "/": (
        FeatureExtractionRequest,
        "One vector per text, in the format of Hugging Face's feature extraction: an array of vectors.",
    ),
    "/embed": (FeatureExtractionRequest, "The same, at the path that Text Embeddings Inference uses."),
    "/late_chunk": (LateChunkRequest, "Late-chunk a document: its chunks with their vectors."),
    "/compare": (CompareRequest, "Compare late with naive pooling on the chunks of a text, for a query."),
    "/search": (
        SearchRequest,
        "For a query, compare the index's vectors with naive ones and with a hybrid search.",
    ),
}
GETS = {
    "/": "The page that compares late with naive pooling; needs no token.",
    "/about": "The served model and index, for the page.",
    "/examples": "Example queries for the index, for the page.",
    "/v1/models": "The served model, as OpenAI's list of models.",
    "/health": "200 once the model is loaded; needs no token.",
    "/metrics": "Prometheus metrics.",
    "/openapi.json": "This description.",
}
OPEN = ("/", "/health")  # these need no token
OF_INDEX = ("/search", "/examples")
ERRORS = {
    "401": "The bearer token is missing or wrong.",
    "413": "The body is too large.",
    "422": "The body is malformed, or asks for too many texts, chunks or tokens.",
    "503": "The queue is full; see Retry-After.",
}


def describe(*, secured: bool, searching: bool) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description; what needs an index is listed only if one is served."""
    posts = {path: post for path, post in POSTS.items() if searching or path not in OF_INDEX}
    bodies = {body for body, _ in posts.values()}
    models = [(body, "validation") for body in sorted(bodies, key=lambda body: body.__name__)]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    paths: dict[str, Any] = {path: {"post": _post(path, *post)} for path, post in posts.items()}
    for path, summary in GETS.items():
        if searching or path not in OF_INDEX:
            paths.setdefault(path, {})["get"] = _operation(path, summary, at_root="page")
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


def _post(path: str, body: type[RequestBody], summary: str) -> dict[str, Any]:
    operation = _operation(path, summary, at_root="feature_extraction")
    schema = {"$ref": f"#/components/schemas/{body.__name__}"}
    operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    operation["responses"].update({status: {"description": meant} for status, meant in ERRORS.items()})
    return operation


def _operation(path: str, summary: str, *, at_root: str) -> dict[str, Any]:
    name = path.strip("/").replace("/", "_").replace(".", "_") or at_root
    return {"operationId": name, "summary": summary, "responses": {"200": {"description": summary}}}
