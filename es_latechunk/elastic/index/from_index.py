"""An Elasticsearch index as a source of documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from elasticsearch import Elasticsearch

from es_latechunk.elastic.connection import connect
from es_latechunk.elastic.index.admin import check_name
from es_latechunk.elastic.point_in_time import PointInTime
from es_latechunk.errors import DocumentError, PreconditionError, setting
from es_latechunk.types import DEFAULT_RETRY_FOR, Document

PAGE = 100  # hits per request: whole documents, which may be large, are held in memory


def read_index(
    index: str,
    *,
    client: Elasticsearch | None = None,
    text_field: str = "content",
    title_field: str = "title",
    retry_for: float = DEFAULT_RETRY_FOR,
) -> Iterator[Document | DocumentError]:
    """Yield the documents of any index, as it is when reading begins (a point in time), as a source for `ingest`.

    A document has the `_id` of the hit, the text of `text_field`, the title of `title_field` if that is a string, and
    all other fields as metadata. Both names may be dotted. A hit whose text is missing or not a string becomes a
    DocumentError; an index that keeps no `_source` is refused (PreconditionError). Without a `client`, the cluster is
    that of ELASTICSEARCH_URL, or the local node; a request that fails is tried again for `retry_for` seconds.
    """
    check_name(index)
    with PointInTime(client or connect(), index, retry_for=retry_for) as source:
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
