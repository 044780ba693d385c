"""Identify documents: by their ids within a run, and by a hash of their content between runs."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from types import TracebackType

from es_latechunk.documents.sources import printable
from es_latechunk.errors import DocumentError
from es_latechunk.types import Document

# Any line that may be a heading in Markdown; that some of these are none (`chunking/headings.py`) does not matter here.
HEADING_LINE = re.compile(r"(?:\A|[\r\n\x0b\x0c\x85\u2028\u2029])[ \t\u3000]*#{1,6}[ \t]")
USED_BEFORE = "its id was used before in this run; give it another id"


def document_hash(document: Document, *, vectors: str = "") -> str:
    """Return a hash (hex, 32 characters) of everything that is indexed of a document.

    `vectors` describes what makes the vectors: model, chunker and pooling. Raises DocumentError for a document with a
    part that JSON, and therefore Elasticsearch, cannot represent.
    """
    spans = None if document.spans is None else [[span.start, span.end] for span in document.spans]
    content: list[object] = [document.text, document.title, dict(document.metadata), spans]
    if document.pages:
        content.append(list(document.pages))
    # Only where it can change a heading path: any other plain text keeps its hash, and is not written anew.
    if document.plain_text and HEADING_LINE.search(document.text):
        content.append("plain text")
    if vectors:
        content.append(vectors)
    try:
        document.id.encode()
        encoded = json.dumps(
            content, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
        ).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise DocumentError(
            printable(document.id),
            f"has a value that JSON cannot represent ({error}); use text, numbers, lists and objects",
        ) from error
    return hashlib.blake2b(encoded, digest_size=16).hexdigest()


def unique_documents(documents: Iterable[Document | DocumentError]) -> Iterator[Document | DocumentError]:
    """Yield each document whose id is new; any other becomes a DocumentError.

    Its chunks would have the same ids as those of the first document, and overwrite them.
    """
    with SeenIds() as seen:
        for document in documents:
            if isinstance(document, DocumentError) or seen.add(document.id):
                yield document
            else:
                yield DocumentError(printable(document.id), USED_BEFORE, source=document)


class SeenIds:
    """The ids of a run, each with the hash that the index should end with for it.

    They are kept on disk, so that memory does not grow with the number of documents.
    """

    def __init__(self) -> None:
        # The empty name is SQLite's own temporary file: it is gone when the connection is.
        self._database = sqlite3.connect("", isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("CREATE TABLE seen (id TEXT PRIMARY KEY, hash TEXT) WITHOUT ROWID")

    def __enter__(self) -> SeenIds:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, doc_id: str, doc_hash: str = "") -> bool:
        """Remember an id with its hash; return False, and change nothing, if the id is known already."""
        insert = "INSERT OR IGNORE INTO seen VALUES (?, ?)"
        return bool(self._database.execute(insert, (doc_id, doc_hash)).rowcount)

    def clear_hash(self, doc_id: str) -> None:
        """Keep the id without a hash: its document failed, so nothing is known of what the index holds for it."""
        self._database.execute("UPDATE seen SET hash = '' WHERE id = ?", (doc_id,))

    def hashes(self) -> Iterator[tuple[str, str]]:
        """Yield every id that has a hash, with it, in the order of the ids; the ids must not change meanwhile."""
        yield from self._database.execute("SELECT id, hash FROM seen WHERE hash <> '' ORDER BY id")

    def __contains__(self, doc_id: str) -> bool:
        return self._database.execute("SELECT 1 FROM seen WHERE id = ?", (doc_id,)).fetchone() is not None

    def __len__(self) -> int:
        return int(self._database.execute("SELECT count(*) FROM seen").fetchone()[0])
