"""Inference endpoints: Elasticsearch itself asks a service for vectors, of `semantic_text` fields and of queries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from elasticsearch import ApiError, AuthorizationException, BadRequestError

from es_latechunk.elastic.connection import reason, server_address, server_errors
from es_latechunk.elastic.retry import TransientError, retry_transient
from es_latechunk.errors import PreconditionError, ServerError, UsageError, setting

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

Service = Literal["hugging_face", "openai", "jinaai", "elasticsearch"]
DEFAULT_MODELS = {"jinaai": "jina-embeddings-v3", "elasticsearch": ".multilingual-e5-small"}
TASK: Literal["text_embedding"] = "text_embedding"
NO_KEY = "none"  # Elasticsearch requires a key for these services, even if `serve` needs none
DEPLOYING = 408  # the status while Elasticsearch still loads the model


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The settings of an inference endpoint.

    `url` is the address of `es-latechunk serve` as Elasticsearch reaches it. `key` is the token of `serve`, or Jina's
    API key. `queries` makes an endpoint for queries, for a served model that has another prefix for them.
    """

    service: Service
    url: str | None = None
    model_id: str | None = None
    key: str | None = field(default=None, repr=False)
    queries: bool = False


def endpoint_body(endpoint: Endpoint) -> dict[str, Any]:
    """Return the body of `PUT _inference/text_embedding/ID`; a UsageError names what is missing or not allowed."""
    build = {
        "hugging_face": _hugging_face,
        "openai": _openai,
        "jinaai": _jinaai,
        "elasticsearch": _elasticsearch,
    }
    return {"service": endpoint.service, **build[endpoint.service](endpoint)}


def _hugging_face(endpoint: Endpoint) -> dict[str, Any]:
    if endpoint.model_id:
        raise UsageError(
            f"{setting('model_id')} {endpoint.model_id}: hugging_face takes none, because serve "
            "has one model; leave it out"
        )
    return {"service_settings": {"url": _served(endpoint, "/"), "api_key": endpoint.key or NO_KEY}}


def _openai(endpoint: Endpoint) -> dict[str, Any]:
    if not endpoint.model_id:
        raise UsageError(f"{setting('model_id')} is missing; give the name that serve prints when it starts")
    url = _served(endpoint, "/v1/embeddings")
    settings = {"url": url, "model_id": endpoint.model_id, "api_key": endpoint.key or NO_KEY}
    return {"service_settings": {**settings, "similarity": "cosine"}}


def _jinaai(endpoint: Endpoint) -> dict[str, Any]:
    if not endpoint.key:
        raise UsageError(
            f"{setting('service_key')} (JINA_API_KEY) is missing; the jinaai service needs a Jina API key"
        )
    _no_url(endpoint)
    settings = {"model_id": endpoint.model_id or DEFAULT_MODELS["jinaai"], "api_key": endpoint.key}
    return {
        "service_settings": {**settings, "similarity": "cosine"},
        "task_settings": {"late_chunking": True},
    }


def _elasticsearch(endpoint: Endpoint) -> dict[str, Any]:
    _no_url(endpoint)
    model_id = endpoint.model_id or DEFAULT_MODELS["elasticsearch"]
    return {"service_settings": {"model_id": model_id, "num_allocations": 1, "num_threads": 1}}


def _served(endpoint: Endpoint, path: str) -> str:
    if not re.fullmatch(r"https?://[^/\s?#@]+/?", endpoint.url or ""):
        raise UsageError(
            f"{setting('serve_url')}: give the address of es-latechunk serve as Elasticsearch reaches it, without a "
            "path, such as http://serve:8000"
        )
    query = "?input_type=query" if endpoint.queries else ""
    return f"{str(endpoint.url).rstrip('/')}{path}{query}"


def _no_url(endpoint: Endpoint) -> None:
    if endpoint.url or endpoint.queries:
        raise UsageError(
            f"{setting('serve_url')} and {setting('queries')} are not for {endpoint.service}; leave them out"
        )


def put_endpoint(client: Elasticsearch, name: str, endpoint: Endpoint, *, wait: float) -> int:
    """Create an endpoint, wait until it gives a vector, and return the number of dimensions.

    Raises WriteError if it gives none within `wait` seconds, PreconditionError if the server has no inference API, and
    ServerError for other errors; the key does not appear in them.
    """
    body = endpoint_body(endpoint)
    try:
        with _inference_errors(client):
            client.inference.put(task_type=TASK, inference_id=name, inference_config=body)
            return retry_transient(
                lambda: _embed(client, name), retry_for=wait, what=f"inference endpoint {name}: no vector"
            )
    except ServerError as error:
        if endpoint.key and endpoint.key in str(error):
            raise ServerError(error.message.marked.replace(endpoint.key, "***")) from None
        raise


def _embed(client: Elasticsearch, name: str) -> int:
    try:
        answer = client.inference.inference(task_type=TASK, inference_id=name, input=["Is it there?"])
    except ApiError as error:
        if error.meta.status == DEPLOYING:
            raise TransientError(reason(error)) from error
        raise
    return len(answer[TASK][0]["embedding"])


def show_endpoint(client: Elasticsearch, name: str) -> dict[str, Any]:
    """Return Elasticsearch's description of an endpoint, which never contains the key."""
    with _inference_errors(client):
        found: list[dict[str, Any]] = client.inference.get(inference_id=name)["endpoints"]
    return found[0]


def delete_endpoint(client: Elasticsearch, name: str, *, force: bool) -> None:
    """Delete an endpoint; if an index or a pipeline uses it, only with `force`."""
    with _inference_errors(client):
        client.inference.delete(inference_id=name, force=force)


@contextmanager
def _inference_errors(client: Elasticsearch) -> Iterator[None]:
    address = server_address(client)
    with server_errors(client):
        try:
            yield
        except BadRequestError as error:
            if "no handler found" not in reason(error):
                raise
            raise PreconditionError(
                f"{address}: has no inference API, like the small build that `node start` runs; "
                "use a full Elasticsearch distribution (make up), with a trial or an Enterprise licence"
            ) from error
        except AuthorizationException as error:
            if "non-compliant" not in reason(error):
                raise
            raise PreconditionError(
                f"{address}: its licence does not cover inference ({reason(error)}); it needs Enterprise, or a trial: "
                "POST /_license/start_trial?acknowledge=true"
            ) from error


def semantic_text_mapping(name: str) -> dict[str, Any]:
    """Return the body that creates an index whose field `content` Elasticsearch embeds itself."""
    return {"mappings": {"properties": {"content": {"type": "semantic_text", "inference_id": name}}}}


def semantic_query(text: str) -> Mapping[str, Any]:
    """Return a search of that field."""
    return {"query": {"semantic": {"field": "content", "query": text}}}


def words_to_vector_query(name: str, text: str) -> Mapping[str, Any]:
    """Return a kNN search of an index that `ingest` wrote, in which Elasticsearch embeds the query itself."""
    builder = {"text_embedding": {"model_id": name, "model_text": text}}
    knn = {"field": "content_embedding", "k": 10, "num_candidates": 100, "query_vector_builder": builder}
    return {"knn": knn, "_source": ["doc_id", "ordinal", "content"]}
