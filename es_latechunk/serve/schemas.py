"""What clients ask and get (OpenAI's embeddings, Hugging Face's feature extraction, late chunking), and its OpenAPI."""

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
        raise ValueError("token ids are of another model's vocabulary; send the text itself")
    return value


Texts = Annotated[
    list[str],
    BeforeValidator(_as_list),
    Field(min_length=1),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
    ),
]


class RequestBody(BaseModel):
    """A request's body, types taken as they are: "5" is no number."""

    model_config = ConfigDict(strict=True)


class EmbeddingsRequest(RequestBody):
    """OpenAI's request for embeddings, with `input_type` beside it."""

    input: Texts
    model: str | None = Field(None, description="The served model's name, or left out.")
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, description="The served model's own, or left out.")
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
    dimensions: int | None = Field(None, description="The served model's own, or left out.")


class LateChunkRequest(RequestBody):
    """A document to be chunked late: by a chunker, or into `chunks` given as [start, end) in characters."""

    model_config = ConfigDict(strict=True, extra="forbid")

    id: str = "document"
    text: str
    title: str = Field(
        "", description="Taken as ingest takes it, so that a document can be sent whole; not embedded."
    )
    chunker: ChunkerName = DEFAULT_CHUNKER
    max_tokens: int = Field(DEFAULT_MAX_TOKENS, ge=1, le=1_000_000, description="Tokens a chunk, at most.")
    chunks: list[tuple[int, int]] | None = Field(None, min_length=1)
    pooling: Literal["late", "naive"] = "late"


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; write a few words")
    return value


Words = Annotated[str, AfterValidator(_not_blank)]


class SearchRequest(RequestBody):
    """A query to the served index, for the chunks that are nearest by late vectors and by naive ones."""

    model_config = ConfigDict(strict=True, extra="forbid")

    query: Words
    k: int = Field(10, ge=1, le=100, description="Hits in each list.")
    neighbours: int = Field(1, ge=0, le=10, description="Chunks on each side of a hit, in its passage.")
    candidates: int = Field(
        50, ge=1, le=1000, description="Chunks by late kNN, and as many by BM25, that naive pooling ranks."
    )


class CompareRequest(RequestBody):
    """A query to a text that comes along, whose chunks are embedded late and naive."""

    model_config = ConfigDict(strict=True, extra="forbid")

    query: Words
    text: Words
    chunker: ChunkerName = DEFAULT_CHUNKER
    max_tokens: int = Field(DEFAULT_MAX_TOKENS, ge=1, le=1_000_000, description="Tokens a chunk, at most.")
    k: int = Field(10, ge=1, le=100, description="Hits in each list.")
    neighbours: int = Field(1, ge=0, le=10, description="Chunks on each side of a hit, in its passage.")


def openai_answer(request: EmbeddingsRequest, job: Job, vectors: FloatArray, model: str) -> bytes:
    """OpenAI's list of embeddings; base64 holds little-endian float32."""
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(row, request.encoding_format)}
        for index, row in enumerate(vectors)
    ]
    usage = {"prompt_tokens": job.tokens, "total_tokens": job.tokens}
    return orjson.dumps({"object": "list", "data": data, "model": model, "usage": usage}, option=JSON)


def _encoded(row: FloatArray, encoding_format: str) -> FloatArray | str:
    return row if encoding_format == "float" else base64.b64encode(row.astype("<f4").tobytes()).decode()


def hugging_face_answer(vectors: FloatArray) -> bytes:
    """An array of vectors, for one text too."""
    return orjson.dumps(list(vectors), option=JSON)


def late_chunk_answer(job: Job, vectors: FloatArray) -> bytes:
    """The document's chunks, with the fields that `es-latechunk embed` prints."""
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
    """An error in the shape that clients of this path read."""
    if path.startswith("/v1/"):
        kind = "invalid_request_error" if status < 500 else "server_error"
        return {"error": {"message": message, "type": kind, "param": None, "code": None}}
    return {"error": message, "error_type": "validation" if status < 500 else "backend"}


def validation_message(error: ValidationError) -> str:
    """The first thing that is wrong with a body, without quoting it."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    field = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message


POSTS: dict[str, tuple[type[RequestBody], str]] = {
    "/v1/embeddings": (EmbeddingsRequest, "One vector a text, as OpenAI's embeddings."),
    "/": (
        FeatureExtractionRequest,
        "One vector a text, as Hugging Face's feature extraction: an array of vectors.",
    ),
    "/embed": (FeatureExtractionRequest, "The same, at the address that Text Embeddings Inference has."),
    "/late_chunk": (LateChunkRequest, "A document in, its chunks out, with vectors that know the document."),
    "/compare": (CompareRequest, "A text and a query in, its chunks by late similarity and by naive."),
    "/search": (SearchRequest, "A query in, the index's chunks by late similarity and by naive."),
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
    bodies = {body for body, _ in posts.values()}
    models = [(body, "validation") for body in sorted(bodies, key=lambda body: body.__name__)]
    _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
    components: dict[str, Any] = {"schemas": schemas["$defs"]}
    paths: dict[str, Any] = {path: {"post": _post(path, *post)} for path, post in posts.items()}
    for path, summary in GETS.items():
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
