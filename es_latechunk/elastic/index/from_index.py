"""An Elasticsearch index as a source of documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.elastic.index.admin import check_name
from es_latechunk.elastic.point_in_time import PointInTime
from es_latechunk.errors import DocumentError, PreconditionError, setting
from es_latechunk.types import DEFAULT_RETRY_FOR, Document

PAGE = 100


def read_index(
    client: Elasticsearch,
    index: str,
    *,
    text_field: str,
    title_field: str = "title",
    retry_for: float = DEFAULT_RETRY_FOR,
) -> Iterator[Document | DocumentError]:
    """Yield the documents of an index as it is when reading begins (a point in time).

    A document has the hit's `_id`, its text and title, and all other fields as metadata. `text_field` may be dotted. A
    hit in which it is missing or not a string becomes a DocumentError; an index that keeps no `_source` is refused
    (PreconditionError).
    """
    check_name(index)
    with PointInTime(client, index, retry_for=retry_for) as source:
        for rows in source.pages({"size": PAGE, "sort": [{"_shard_doc": "asc"}]}):
            for row in rows:
                try:
                    yield _document(row, text_field, title_field)
                except DocumentError as error:
                    yield error


def _document(row: Mapping[str, Any], text_field: str, title_field: str) -> Document:
    if "_source" not in row:
        raise PreconditionError(
            f"index {row['_index']}: keeps no _source, so its texts cannot be read; ingest the original files"
        )
    source = dict(row["_source"])
    text = _value(source, text_field)
    if not isinstance(text, str):
        found = "no such field" if text is None else f"a {type(text).__name__}"
        raise DocumentError(
            row["_id"], f"its field {text_field} is not a string ({found}); see {setting('text_field')}"
        )
    title = _value(source, title_field)
    metadata = {key: value for key, value in source.items() if key not in (text_field, title_field)}
    return Document(row["_id"], text, title if isinstance(title, str) else "", metadata)


def _value(source: Mapping[str, Any], field: str) -> Any:
    if field in source:
        return source[field]
    value: Any = source
    for name in field.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value
