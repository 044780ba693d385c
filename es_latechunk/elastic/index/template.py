"""The index template: the settings and the mapping of an index for a model's vectors, as plain values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from es_latechunk.elastic.index.identity import META_KEY, IndexIdentity
from es_latechunk.elastic.index.metadata import TYPED, mapping_of
from es_latechunk.errors import UsageError, setting

VECTOR_FIELD = "content_embedding"
# The pieces of a chunk, if the pooling asks for them: a nested field, whose documents have start, end and vector.
PIECES_FIELD, PIECE_VECTOR = "pieces", "vector"
PIECES_PATH = f"{PIECES_FIELD}.{PIECE_VECTOR}"
CHUNKS = {"exists": {"field": "doc_id"}}  # the chunks, without documents that other programs may have written
# The words of the chunks at distance 1 and at distance 2 from a chunk.
CONTEXT_FIELDS = ("neighbours_1", "neighbours_2")
HEADINGS = "headings"  # not in every index: a template of the user's own may leave it out
TEMPLATE = "late_chunks.json"
QUANTIZATIONS = {
    "int8": "int8_hnsw",
    "int4": "int4_hnsw",
    "bbq": "bbq_hnsw",
    "none": "hnsw",
    "int8_flat": "int8_flat",
    "int4_flat": "int4_flat",
    "bbq_flat": "bbq_flat",
    "flat": "flat",
}
LIMITS = {"bbq": (64, 1), "int4": (1, 2)}  # Elasticsearch's: (minimum, the number must be a multiple of)
FIELDS = {
    "content": "text",
    VECTOR_FIELD: "dense_vector",
    "doc_id": "keyword",
    "ordinal": "integer",
    "chunk_count": "integer",
    "start": "integer",
    "end": "integer",
    "title": "text",
    "metadata": "flattened",
    "doc_hash": "keyword",
}


def template_folder() -> Path:
    """Return the folder of the templates: in an installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[2]
    installed = package / "mappings"
    return installed if installed.is_dir() else package.parent / "mappings"


def load_template(file: Path | None = None) -> dict[str, Any]:
    """Read the index template (settings, mappings) of `file`, or our own; a UsageError says what is wrong in it."""
    path = file or template_folder() / TEMPLATE
    try:
        template: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{setting('template')} {path}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise UsageError(f"{setting('template')} {path}: is not JSON ({error})") from error
    if fault := _shape_fault(template):
        raise UsageError(f"{setting('template')} {path}: {fault}; start from {TEMPLATE}")
    properties = template.get("mappings", {}).get("properties", {})
    lacking = [
        f"{name} ({kind})"
        for name, kind in FIELDS.items()
        if not isinstance(properties.get(name), dict) or properties[name].get("type") != kind
    ]
    if lacking:
        raise UsageError(
            f"{setting('template')} {path}: lacks the fields {', '.join(lacking)}; start from {TEMPLATE}"
        )
    if fault := _storage_fault(template.get("mappings", {})):
        raise UsageError(f"{setting('template')} {path}: {fault}; start from {TEMPLATE}")
    return template


def _shape_fault(template: Any) -> str:
    """Return how the template differs from the body of a create-index request, or ""."""
    if not isinstance(template, dict):
        return "is not an object"
    if unknown := sorted(template.keys() - {"settings", "mappings", "aliases"}):
        return f"has {', '.join(unknown)} besides settings, mappings and aliases"
    for path in ("mappings", "mappings.properties", "mappings._meta", "settings", "settings.index"):
        value: Any = template
        for key in path.split("."):
            value = value.get(key, {})
        if not isinstance(value, dict):
            return f'its "{path}" is not an object'
    return ""


def _storage_fault(mappings: dict[str, Any]) -> str:
    """Return what would keep chunks from being written or shown, or ""."""
    source = mappings.get("_source", {})
    if source.get("enabled") is False:
        return "keeps no _source, so that chunks could not be shown"
    if hidden := sorted(set(source.get("excludes", [])) & set(FIELDS) - {VECTOR_FIELD}):
        return f"leaves {', '.join(hidden)} out of _source, so that chunks could not be shown"
    if mappings.get("_routing", {}).get("required"):
        return "requires a routing, and chunks have none"
    return ""


def index_body(
    identity: IndexIdentity,
    *,
    template: dict[str, Any],
    quantization: str = "int8",
    shards: int | None = None,
    replicas: int | None = None,
    context_fields: bool = True,
    language: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the body of the create-index request: the template with dims, index_options and `_meta` filled in.

    The field of the pieces stays only if the pooling asks for pieces. Without `context_fields` the fields for the
    neighbours' words are left out, and BM25 has Elasticsearch's own parameters. `language` is one of Elasticsearch's
    language analyzers, for all text fields of the chunk. `metadata` gives keys of the metadata a type (see
    `metadata.py`).
    """
    body: dict[str, Any] = json.loads(json.dumps(template))
    mappings = body["mappings"]
    dimensions = identity.encoder.dimensions
    with_pieces = identity.pooling.pieces is not None
    for name, vector in _vector_fields(mappings["properties"], with_pieces=with_pieces):
        if vector.setdefault("dims", dimensions) != dimensions:
            raise UsageError(
                f"{setting('template')}: {name} has {vector['dims']} dims, model {identity.encoder.model} gives "
                f"{dimensions}; leave dims out, it is filled in"
            )
        vector.setdefault("index_options", {"type": _index_type(quantization, dimensions)})
    mappings["_meta"] = {**mappings.get("_meta", {}), META_KEY: identity.to_meta()}
    settings = body.setdefault("settings", {})
    if not context_fields:
        _leave_out_context(body)
    if language is not None:
        for field in ("content", "title"):
            mappings["properties"][field]["analyzer"] = language
    _share_analyzer(mappings["properties"])
    if metadata:
        mappings["properties"][TYPED] = mapping_of(metadata)
    if TYPED in mappings["properties"]:
        _leave_out_of_source(mappings, TYPED)
    if shards is not None:
        _override(settings, "number_of_shards", shards)
    if replicas is not None:
        _override(settings, "auto_expand_replicas", False)
        _override(settings, "number_of_replicas", replicas)
    return body


def _vector_fields(properties: dict[str, Any], *, with_pieces: bool) -> list[tuple[str, dict[str, Any]]]:
    """Return the name and the mapping of the chunks' vectors and of their pieces', whose field is removed without."""
    fields = [(VECTOR_FIELD, properties[VECTOR_FIELD])]
    if not with_pieces:
        if has_pieces(properties):
            del properties[PIECES_FIELD]
        return fields
    if not has_pieces(properties):
        raise UsageError(
            f"{setting('template')}: has no nested field {PIECES_FIELD} with the dense_vector {PIECE_VECTOR}, which "
            f"{setting('pieces')} needs; copy it from {TEMPLATE}"
        )
    return [*fields, (PIECES_PATH, properties[PIECES_FIELD]["properties"][PIECE_VECTOR])]


def has_pieces(properties: Mapping[str, Any]) -> bool:
    """Return whether the chunks of an index with these fields have pieces with vectors of their own."""
    field = properties.get(PIECES_FIELD, {})
    kind: str = field.get("properties", {}).get(PIECE_VECTOR, {}).get("type", "")
    return (field.get("type"), kind) == ("nested", "dense_vector")


def _leave_out_context(body: dict[str, Any]) -> None:
    mappings = body["mappings"]
    for field in CONTEXT_FIELDS:
        mappings["properties"].pop(field, None)
    kept = [field for field in mappings.get("_source", {}).get("excludes", []) if field not in CONTEXT_FIELDS]
    if "_source" in mappings:
        mappings["_source"]["excludes"] = kept
    body["settings"].get("index", {}).get("similarity", {}).pop("default", None)


def _leave_out_of_source(mappings: dict[str, Any], field: str) -> None:
    source = mappings.setdefault("_source", {})
    source["excludes"] = [*(name for name in source.get("excludes", []) if name != field), field]


def _share_analyzer(properties: dict[str, Any]) -> None:
    """Give the context fields the analyzer of the content: BM25F searches them together, so their words must match.

    Title and headings get it too, unless the template names another analyzer for them.
    """
    analyzer = properties["content"].get("analyzer", "standard")
    for field in CONTEXT_FIELDS:
        if field in properties:
            properties[field]["analyzer"] = analyzer
    for field in ("title", HEADINGS):
        if properties.get(field, {}).get("type") == "text":
            properties[field].setdefault("analyzer", analyzer)


def text_fields(properties: Mapping[str, Any]) -> frozenset[str]:
    """Return the fields that BM25F can search together: the content, and what is analyzed in the same way."""
    found = {name: properties.get(name, {}) for name in ("content", *CONTEXT_FIELDS, "title", HEADINGS)}
    analyzers = {
        name: (field.get("analyzer", "standard"), field.get("search_analyzer"))
        for name, field in found.items()
        if field.get("type") == "text" and field.get("index", True)
    }
    return frozenset(name for name in analyzers if analyzers[name] == analyzers.get("content"))


def _override(settings: dict[str, Any], name: str, value: Any) -> None:
    """Set an index setting, and remove the other spellings of it that a template may have."""
    for spelling in (name, f"index.{name}"):
        settings.pop(spelling, None)
    settings.setdefault("index", {})[name] = value


def _index_type(quantization: str, dimensions: int) -> str:
    if quantization not in QUANTIZATIONS:
        raise UsageError(
            f"{setting('quantization')} {quantization} is not known; choose one of {', '.join(QUANTIZATIONS)}"
        )
    minimum, multiple = LIMITS.get(quantization.removesuffix("_flat"), (1, 1))
    if dimensions < minimum or dimensions % multiple:
        what = f"at least {minimum} dimensions" if dimensions < minimum else "an even number of dimensions"
        raise UsageError(
            f"{setting('quantization')} {quantization} needs {what}, the model gives {dimensions}; choose int8"
        )
    return QUANTIZATIONS[quantization]
