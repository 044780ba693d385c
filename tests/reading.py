"""What the tests of sources share: reading files, with the documents and the errors apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from es_latechunk.documents import read_documents
from es_latechunk.errors import DocumentError
from es_latechunk.types import Document

T = TypeVar("T")


def apart(items: Iterable[T | DocumentError]) -> tuple[list[T], list[DocumentError]]:
    """What did not fail, and the errors, each in their order."""
    found = list(items)
    errors = [item for item in found if isinstance(item, DocumentError)]
    return [item for item in found if not isinstance(item, DocumentError)], errors


def read(*paths: Path | str, **options: Any) -> tuple[list[Document], list[str]]:
    """The documents and the messages of what could not be read."""
    documents, errors = apart(read_documents(paths, **options))
    return documents, [str(error) for error in errors]


def read_file(tmp_path: Path, name: str, content: bytes, **options: Any) -> tuple[list[Document], list[str]]:
    """The same of one file, which is written first."""
    (tmp_path / name).write_bytes(content)
    return read(tmp_path / name, **options)
