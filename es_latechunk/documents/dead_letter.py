"""The dead-letter file: documents that could not be indexed, as NDJSON that can be read again."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from types import TracebackType

from es_latechunk.documents.formats.jsonl import CAUSE_KEY, PAGES_KEY, PLAIN_TEXT_KEY
from es_latechunk.errors import DocumentError, UsageError, setting
from es_latechunk.types import Document


class DeadLetters:
    """Writes each failed document on one line: id, text, title, metadata, its own chunks, its pages and the cause.

    The file is written anew by each run. Only its owner can read it, because it contains the users' texts. The cause
    (key "_cause") is ignored when the file is read as a source.
    """

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            if stat.S_ISREG(os.fstat(descriptor).st_mode):  # not /dev/null
                os.fchmod(descriptor, 0o600)  # a file that existed keeps its old mode otherwise
        except OSError as error:
            raise UsageError(
                f"{setting('dead_letter')} {path}: cannot be written ({error.strerror})"
            ) from error
        self._file = open(descriptor, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - closed by __exit__

    def __enter__(self) -> DeadLetters:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, document: Document, error: DocumentError) -> None:
        """Write a document and flush, so that a later kill loses nothing."""
        row: dict[str, object] = {"id": document.id, "text": document.text}
        if document.title:
            row["title"] = document.title
        if document.metadata:
            row["metadata"] = dict(document.metadata)
        if document.spans is not None:
            row["chunks"] = [[span.start, span.end] for span in document.spans]
        if document.pages:
            row[PAGES_KEY] = list(document.pages)
        if document.plain_text:
            row[PLAIN_TEXT_KEY] = True
        row[CAUSE_KEY] = error.cause
        self._file.write(json.dumps(row, ensure_ascii=True) + "\n")
        self._file.flush()
