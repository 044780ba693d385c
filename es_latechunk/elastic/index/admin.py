"""Creates, describes and deletes an index, and reads what its mapping records."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any

from elasticsearch import AuthorizationException, BadRequestError, Elasticsearch

from es_latechunk.elastic.connection import reason, server_errors
from es_latechunk.elastic.index.identity import META_KEY, IndexIdentity, check_identity, check_overlap
from es_latechunk.elastic.index.metadata import TYPED, types_of
from es_latechunk.elastic.index.ownership import OWNER_ALIAS
from es_latechunk.elastic.index.template import (
    CHUNKS,
    CONTEXT_FIELDS,
    PIECE_VECTOR,
    PIECES_FIELD,
    VECTOR_FIELD,
    has_pieces,
    text_fields,
)
from es_latechunk.errors import IndexMismatchError, IndexNotFoundError, UsageError, setting

# What an older version called the fields of the neighbours' words.
RENAMED_FIELDS = dict(zip(("near", "far"), CONTEXT_FIELDS, strict=True))
log = logging.getLogger(__name__)


def check_name(name: str) -> None:
    """Refuse an empty name (UsageError): Elasticsearch takes it for all indices."""
    if not name.strip():
        raise UsageError(f"{setting('index')} is empty; name an index or an alias")


def create_index(
    client: Elasticsearch,
    name: str,
    body: dict[str, Any],
    identity: IndexIdentity,
    *,
    keep_pooling: bool = False,
) -> bool:
    """Create the index; return True if it is new, False if it exists with the same identity and fields.

    An existing index with another identity or other fields is refused (IndexMismatchError); the error has both values.
    With an overlap of None in `identity`, the index keeps the one that it records, and with `keep_pooling` its pooling.
    """
    check_name(name)
    with server_errors(client, name):
        try:
            client.indices.create(index=name, **body)
        except BadRequestError as error:
            if "analyzer [" in reason(error):
                raise UsageError(
                    f"index {name}: the cluster does not have this analyzer ({reason(error)}); check "
                    f"{setting('language')} and {setting('template')}, or use a full Elasticsearch"
                ) from error
            if error.error != "resource_already_exists_exception":
                raise
        else:
            return True
    record = read_record(client, name)
    if keep_pooling:
        identity = replace(identity, pooling=record.identity.pooling)
    check_identity(name, record.identity, identity)
    check_overlap(name, record.identity, identity.overlap)
    _check_fields(name, record.properties, body["mappings"]["properties"])
    return False


def _check_fields(name: str, existing: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Refuse an existing index with another quantization, language, context fields or types of metadata."""
    old_types, new_types = types_of(existing), types_of(wanted)
    if old_types != new_types:
        raise IndexMismatchError(
            f"index {name}: was made with {setting('metadata')} {_describe_types(old_types)}, not "
            f"{_describe_types(new_types)}; use another name, or delete it first: es-latechunk index delete {name}"
        )
    for field in sorted((existing.keys() | wanted.keys()) & {"content", VECTOR_FIELD, *CONTEXT_FIELDS}):
        old, new = (_describe_field(properties.get(field)) for properties in (existing, wanted))
        if old != new:
            raise IndexMismatchError(
                f"index {name}: was made with the field {field} {old}, not {new}; use another name, or delete it "
                f"first: es-latechunk index delete {name}"
            )


def _describe_types(types: Mapping[str, str]) -> str:
    return " ".join(f"{name}={kind}" for name, kind in types.items()) or "without types"


def _describe_field(field: Mapping[str, Any] | None) -> str:
    if field is None:
        return "left out"
    kind = field.get("type", "object")
    if kind == "dense_vector":
        return f"as {field.get('index_options', {}).get('type', 'the default')}"
    return f"as {kind} ({field.get('analyzer', 'standard')})" if kind == "text" else f"as {kind}"


# The settings that another index made like this one should have too.
LASTING = ("number_of_shards", "number_of_replicas", "auto_expand_replicas", "analysis", "similarity")


@dataclass(frozen=True, slots=True)
class IndexRecord:
    """The indices that a name stands for now, what they record about their vectors, and their fields.

    `text_fields` are those that BM25 can search together in each of the indices.
    """

    names: tuple[str, ...]
    identity: IndexIdentity
    properties: Mapping[str, Any]
    text_fields: frozenset[str]

    @property
    def metadata_types(self) -> Mapping[str, str]:
        """The types of the keys of the metadata that have one."""
        return types_of(self.properties)


def read_record(client: Elasticsearch, name: str) -> IndexRecord:
    """Read the mapping of an index, or of every index behind an alias, which must all record the same."""
    check_name(name)
    with server_errors(client, name):
        answer = client.indices.get_mapping(index=name)
    if not answer:
        raise IndexNotFoundError(
            f"index {name} does not exist; create it with: es-latechunk index create {name}"
        )
    mappings = {index: row["mappings"] for index, row in sorted(answer.items())}
    found = [IndexIdentity.from_meta(row.get("_meta", {}), index) for index, row in mappings.items()]
    for other in found[1:]:
        check_identity(name, found[0], other)
    fields = [row.get("properties", {}) for row in mappings.values()]
    _check_storage(mappings)
    for index, properties in zip(mappings, fields, strict=True):
        if _has_renamed_fields(properties):
            _warn_about_renamed_fields(index)
    shared = {field: kind for field, kind in fields[0].items() if all(field in other for other in fields)}
    if any(types_of(other) != types_of(shared) for other in fields):
        shared.pop(TYPED, None)  # a filter over it would leave out the chunks of the indices without it
    texts = frozenset.intersection(*map(text_fields, fields))
    return IndexRecord(tuple(mappings), found[0], shared, texts)


def _has_renamed_fields(properties: Mapping[str, Any]) -> bool:
    """Return whether the neighbours' words are in fields that an older version made, and not in those of today."""
    old = [properties.get(field, {}).get("type") for field in RENAMED_FIELDS]
    return old == ["text", "text"] and not properties.keys() & set(CONTEXT_FIELDS)


# Once per index and process: a program that searches in a loop needs no second warning.
@lru_cache(maxsize=128)
def _warn_about_renamed_fields(index: str) -> None:
    log.warning(
        "index %s: its fields %s have names of an older version and are not searched, so BM25 does not see the words "
        "of a chunk's neighbours; make a new index (es-latechunk index create NAME) and ingest the documents again, or "
        "behind an alias: es-latechunk ingest --alias NAME",
        index,
        " and ".join(RENAMED_FIELDS),
    )


def _check_storage(mappings: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse an index that cannot return its chunks, or accepts none."""
    for index, mapping in mappings.items():
        if mapping.get("_source", {}).get("enabled") is False:
            raise IndexMismatchError(
                f"index {index}: keeps no _source, so its chunks cannot be shown; create it again"
            )
        if mapping.get("_routing", {}).get("required"):
            raise IndexMismatchError(
                f"index {index}: its mapping requires a routing, and chunks have none; create it again without _routing"
            )


def read_identity(client: Elasticsearch, name: str) -> IndexIdentity:
    """Return what the index, or every index behind the alias, records about its vectors."""
    return read_record(client, name).identity


def template_of(client: Elasticsearch, name: str) -> dict[str, Any]:
    """Return a template for another index like this one, for any model: its fields and its lasting settings.

    Fields that an older version named otherwise get the names of today, so that the new index is searched by them.
    """
    with server_errors(client, name):
        index = client.indices.get(index=name)[name]
    mappings = {key: value for key, value in index["mappings"].items() if key != "_meta"}
    properties = mappings["properties"]
    properties[VECTOR_FIELD].pop("dims", None)
    if has_pieces(properties):
        properties[PIECES_FIELD]["properties"][PIECE_VECTOR].pop("dims", None)
    if _has_renamed_fields(properties):
        for old, new in RENAMED_FIELDS.items():
            properties[new] = properties.pop(old)
        source = mappings.setdefault("_source", {})
        source["excludes"] = [RENAMED_FIELDS.get(field, field) for field in source.get("excludes", [])]
    settings = index["settings"]["index"]
    return {
        "settings": {"index": {key: settings[key] for key in LASTING if key in settings}},
        "mappings": mappings,
    }


def single_index(client: Elasticsearch, name: str) -> str:
    """Return the one index that `name` (an index or an alias) stands for; writing needs exactly one."""
    check_name(name)
    with server_errors(client, name):
        names = sorted(client.indices.get_settings(index=name, expand_wildcards="none"))
    if len(names) != 1:
        raise IndexMismatchError(
            f"index {name}: stands for {len(names)} indices ({', '.join(names)}), writing needs exactly one; "
            "give its name"
        )
    return names[0]


def index_type(client: Elasticsearch, name: str) -> str:
    """Return the `index_options` type of the index's vectors, such as int8_hnsw."""
    with server_errors(client, name):
        mappings = client.indices.get_mapping(index=name)[single_index(client, name)]["mappings"]
    return str(mappings["properties"][VECTOR_FIELD]["index_options"]["type"])


def list_indices(client: Elasticsearch) -> list[dict[str, Any]]:
    """Return one row per index that es-latechunk created and the user may see, in the order of the names.

    `documents` is approximate from a few thousand on. Aliases of loads that are under way are left out.
    """
    with server_errors(client):
        mappings = client.indices.get_mapping(index="*", filter_path="*.mappings._meta")
        found = {
            name: str(row["mappings"]["_meta"][META_KEY].get("model", ""))
            for name, row in sorted(mappings.items())
            if isinstance(row["mappings"]["_meta"].get(META_KEY), Mapping)
        }
        if not found:
            return []
        by_index = {
            "terms": {"field": "_index", "size": len(found)},
            "aggs": {"documents": {"cardinality": {"field": "doc_id"}}},
        }
        answer = client.search(index=list(found), size=0, query=CHUNKS, aggs={"indices": by_index})
        aliases = client.indices.get_alias(index=list(found))
    counts = {bucket["key"]: bucket for bucket in answer["aggregations"]["indices"]["buckets"]}
    return [
        {
            "index": name,
            "chunks": counts[name]["doc_count"] if name in counts else 0,
            "documents": counts[name]["documents"]["value"] if name in counts else 0,
            "model": model,
            "aliases": sorted(alias for alias in aliases[name]["aliases"] if not OWNER_ALIAS.search(alias)),
        }
        for name, model in found.items()
    ]


def describe_index(client: Elasticsearch, name: str) -> dict[str, Any]:
    """Return the counts, the size in bytes, the vector index type, and the identity that the mapping records.

    `bytes` is None for a user without the privilege `monitor` on the index, and `overlap` if none is recorded. If the
    chunks have pieces, `vectors` counts the vectors of both.
    """
    identity = read_identity(client, name)
    with server_errors(client, name):
        with suppress(
            AuthorizationException
        ):  # without the right to refresh, the counts are those of the last refresh
            client.indices.refresh(index=name)
        aggs: dict[str, Any] = {"ids": {"cardinality": {"field": "doc_id"}}}
        if identity.pooling.pieces is not None:
            aggs["pieces"] = {"nested": {"path": PIECES_FIELD}}
        found = client.search(
            index=name,
            size=0,
            query=CHUNKS,
            aggs=aggs,
            track_total_hits=True,
            allow_partial_search_results=False,
        )
        chunks, answer = found["hits"]["total"]["value"], found["aggregations"]
        try:
            stats = client.indices.stats(index=name, metric="store")
            size = stats["_all"]["primaries"]["store"]["size_in_bytes"]
        except AuthorizationException:
            size = None
        mappings = next(iter(client.indices.get_mapping(index=name).values()))["mappings"]
    return {
        "index": name,
        "chunks": chunks,
        "documents": answer["ids"]["value"],
        **({"vectors": chunks + answer["pieces"]["doc_count"]} if "pieces" in answer else {}),
        "bytes": size,
        "index_type": mappings["properties"][VECTOR_FIELD]["index_options"]["type"],
        **identity.to_meta(),
        **asdict(identity.pooling),
        "overlap": identity.overlap,
        **({"metadata": types} if (types := types_of(mappings["properties"])) else {}),
    }


def delete_index(client: Elasticsearch, name: str) -> None:
    """Delete the index that `name` stands for, and nothing else: no wildcard, one index."""
    concrete = single_index(client, name)
    with server_errors(client, name):
        client.indices.delete(index=concrete)
