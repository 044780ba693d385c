"""Every error that es-latechunk raises on purpose.

LateChunkError
├── UsageError              a setting or an argument is wrong; nothing was done        (exit 2)
│   └── ModelError          a model cannot be loaded, or late chunking does not fit it (exit 2)
├── PreconditionError       something that must stand beforehand does not: a server,
│   │                       an index, a node                                           (exit 2)
│   ├── ServerError         Elasticsearch cannot be reached, or refuses the credentials
│   ├── IndexMismatchError  the index is missing, or holds another model's vectors
│   ├── IndexBusyError      another load writes the index
│   └── NodeError           the embedded Elasticsearch cannot be started or stopped
├── DocumentError           one document cannot be used; the others go on              (exit 1)
└── WriteError              Elasticsearch did not take what was sent                   (exit 1)

A message is one line: what it is about (document id or setting), the cause with both values that
disagree, and the next thing to do. No message carries a credential.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from es_latechunk.types import Document


class LateChunkError(Exception):
    """Base of all errors here. `exit_code` is what the command line exits with."""

    exit_code = 1


class UsageError(LateChunkError):
    """A setting or an argument is wrong; nothing was done."""

    exit_code = 2


class ModelError(UsageError):
    """A model cannot be loaded, or late chunking does not fit it."""


class PreconditionError(LateChunkError):
    """Something that must stand beforehand does not."""

    exit_code = 2


class ServerError(PreconditionError):
    """Elasticsearch cannot be reached, or refuses the credentials."""


class IndexMismatchError(PreconditionError):
    """The index is missing, or was made with another model or other settings."""


class IndexBusyError(PreconditionError):
    """Another load writes the index; the message says who, and since when."""


class NodeError(PreconditionError):
    """The embedded Elasticsearch cannot be started or stopped."""


class DocumentError(LateChunkError):
    """One document cannot be used. The message starts with the document's id or place.

    `source` is the document itself, if it could be read.
    """

    def __init__(self, document: str, cause: str, *, source: Document | None = None) -> None:
        super().__init__(f"{document}: {cause}")
        self.document = document
        self.cause = cause
        self.source = source


class WriteError(LateChunkError):
    """Elasticsearch did not take what was sent, after the retries that the settings allow."""
