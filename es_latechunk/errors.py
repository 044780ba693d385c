"""Every error that es-latechunk raises on purpose.

LateChunkError
├── UsageError              a setting or an argument is wrong; nothing was done        (exit 2)
│   └── ModelError          a model cannot be loaded, or late chunking does not fit it (exit 2)
├── PreconditionError       something that must exist beforehand does not: a server,
│   │                       an index, a node                                           (exit 2)
│   ├── ServerError         Elasticsearch cannot be reached, or refuses the credentials
│   │   └── TooMuchError    an answer is too large for the server's memory
│   ├── IndexNotFoundError  there is no index or alias of that name
│   ├── IndexMismatchError  the index was created with another model or other settings
│   ├── IndexBusyError      another load writes the index
│   └── NodeError           the embedded Elasticsearch cannot be started or stopped
├── DocumentError           one document cannot be used; the others go on              (exit 1)
├── WriteError              Elasticsearch did not accept a request                     (exit 1)
│   └── IndexRefusedError   the index accepts nothing: it is blocked, closed or gone
└── JinaApiError            a request to the Jina API failed for good                  (exit 1)

A message is one line: the document or setting that it is about, the cause with both values that
disagree, and the next thing to do. No message contains a credential.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from es_latechunk.types import Document

T = TypeVar("T")
# Two of Unicode's noncharacters, which no text contains: a message can quote a user's text without changing it.
SETTING = re.compile("\ufdd0([a-z0-9_]+)\ufdd1")


def setting(name: str) -> str:
    """Mark the name of a setting in a message, so that the command line can write it as its own option."""
    return f"\ufdd0{name}\ufdd1"


class Message(str):
    """A text with marked settings; as a string it has their names in Python."""

    marked: str

    def __new__(cls, marked: str) -> Message:
        message = super().__new__(cls, SETTING.sub(r"\1", marked))
        message.marked = marked
        return message

    def render(self, name: Callable[[str], str]) -> str:
        """Return the text with each setting written by the function `name`."""
        return SETTING.sub(lambda found: name(found[1]), self.marked)


class LateChunkError(Exception):
    """Base of all errors of this package. `exit_code` is the exit code of the command line.

    `str(error)` has the names of settings in Python; `error.message.render(name)` writes them by the function `name`.
    """

    exit_code = 1

    def __init__(self, message: str) -> None:
        self.message = Message(message)
        super().__init__(str(self.message))

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors also travel between processes; by default pickle would keep the text alone, without marked settings.
        return type(self), (self.message.marked,), self.__dict__


class UsageError(LateChunkError):
    """A setting or an argument is wrong; nothing was done."""

    exit_code = 2


class ModelError(UsageError):
    """A model cannot be loaded, or late chunking does not fit it."""


class PreconditionError(LateChunkError):
    """Something that must exist beforehand does not."""

    exit_code = 2


class ServerError(PreconditionError):
    """Elasticsearch cannot be reached, or refuses the credentials."""


class TooMuchError(ServerError):
    """The server cannot hold so large an answer (a circuit breaker)."""


class IndexNotFoundError(PreconditionError):
    """There is no index or alias of that name."""


class IndexMismatchError(PreconditionError):
    """The index was created with another model or other settings."""


class IndexBusyError(PreconditionError):
    """Another load writes the index; the message says who, and since when."""


class NodeError(PreconditionError):
    """The embedded Elasticsearch cannot be started or stopped."""


class DocumentError(LateChunkError):
    """One document cannot be used. The message starts with the document's id, or with its path and line.

    `source` is the document itself, if it could be read.
    """

    def __init__(self, document: str, cause: str, *, source: Document | None = None) -> None:
        super().__init__(f"{document}: {cause}")
        self.document = document
        self.cause = Message(cause)
        self.source = source

    def __reduce__(self) -> tuple[Any, ...]:
        return _document_error, (self.document, self.cause, self.source)


def _document_error(document: str, cause: Message, source: Document | None) -> DocumentError:
    return DocumentError(document, cause.marked, source=source)


class WriteError(LateChunkError):
    """Elasticsearch did not accept a request, after the retries that the settings allow."""


class IndexRefusedError(WriteError):
    """The index accepts nothing at all: it is blocked, closed or gone, or its mapping requires what no chunk has."""


class JinaApiError(LateChunkError):
    """A request to the Jina API failed for good. With `too_long`, the same text may succeed in smaller requests."""

    def __init__(self, message: str, *, too_long: bool = False) -> None:
        super().__init__(message)
        self.too_long = too_long


def raise_errors(items: Iterable[T | DocumentError]) -> Iterator[T]:
    """Yield the items, and raise the first DocumentError among them: for a source that must be read completely."""
    for item in items:
        if isinstance(item, DocumentError):
            raise item
        yield item
