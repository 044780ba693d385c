"""Find the objects of an address, as `find_files` finds the files of a path."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from es_latechunk.documents.remote.address import Address, ObjectError
from es_latechunk.documents.remote.stores import Entry, Store, Version
from es_latechunk.documents.remote.stream import (
    GONE,
    GoneError,
    LostError,
    open_anywhere,
    open_object,
    retried,
)
from es_latechunk.documents.remote.web import WebObject
from es_latechunk.documents.sources import Selection, name_fault, printable
from es_latechunk.errors import DocumentError, PreconditionError, UsageError
from es_latechunk.threads import Call, Workers

SMALL_BLOCK = 256 * 1024


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """An object to read, in the version that was listed.

    Its id is its path below the given folder, or its name if the object itself was given: a file has the same id.
    """

    address: Address
    path: str  # in the store; "" on a web server, where the address says all
    id: str
    named: bool
    size: int = 0  # bytes; 0 on a web server, as nobody has asked
    version: Version = ()
    fetching: Call[bytes] | None = field(default=None, repr=False)  # all of it, by another thread

    @property
    def name(self) -> str:
        return self.id.rpartition("/")[2]

    def open(self, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream from `start` on; reading it raises ObjectError if it has another version, or none.

        `end` is where the caller will probably stop; what comes after it is fetched in small blocks.
        """
        if self.fetching:
            stream = io.BufferedReader(io.BytesIO(self.fetching.result()))
            stream.seek(start)
            return stream
        if self.address.is_web:
            return open_object(WebObject(self.address).blocks)
        store, stop = Store(self.address), self.size if end is None else min(end, self.size)

        def blocks(position: int) -> Iterator[bytes]:
            begin = start + position
            yield from store.blocks(self.path, self.size, self.version, begin, stop)
            for after in range(max(begin, stop), self.size, SMALL_BLOCK):
                yield from store.blocks(
                    self.path, self.size, self.version, after, min(after + SMALL_BLOCK, self.size)
                )

        return open_object(blocks)

    def open_anywhere(self) -> BinaryIO:
        """Return a stream that can be positioned, and fetches what is read of it; web servers send the whole object."""
        if self.fetching:
            return self.open()
        if self.address.is_web:
            copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it, and it is gone then
            with self.open() as stream:
                shutil.copyfileobj(stream, copy)
            copy.seek(0)
            return copy
        store = Store(self.address)
        return open_anywhere(
            lambda start, end: store.blocks(self.path, self.size, self.version, start, end), self.size
        )

    def fetched_by(self, workers: Workers[bytes]) -> RemoteFile:
        """Return the same object, which one of the threads fetches at once; to open it waits for all of it."""
        try:
            stream = self.open()  # in this thread: the stores' libraries have a client of their own in each
        except ObjectError:
            return self  # it is raised again when the turn of this object has come

        def content() -> bytes:
            with stream:
                return stream.read()

        return replace(self, fetching=workers.submit(content))


def check_address(address: Address) -> None:
    """Raise UsageError if there is nothing at an address, and PreconditionError if nobody there can be asked."""
    try:
        if address.is_web:
            WebObject(address).check()
        else:
            _given(Store(address), address)
    except GoneError as error:
        raise UsageError(f"{address.shown} cannot be found; check the address") from error
    except ObjectError as error:
        raise PreconditionError(f"{address.shown} {error}") from error
    except LostError as error:
        raise PreconditionError(
            f"{address.shown} cannot be reached ({error}); check the address, the network and how you sign in "
            "(docs/sources.md)"
        ) from error


def find_objects(address: Address, selection: Selection) -> Iterator[RemoteFile | DocumentError]:
    """Yield the objects of an address in a fixed order: those of a folder, then those of the folders in it.

    Names that begin with a full stop are left out, as `find_files` leaves out hidden files. What cannot be listed
    becomes a DocumentError.
    """
    if address.is_web:
        yield _checked(RemoteFile(address, "", address.name, named=True))
        return
    try:
        store = Store(address)
        given = retried(lambda: _given(store, address))
    except ObjectError as error:
        yield DocumentError(address.shown, str(error))
        return
    if given.is_folder:
        yield from _walk(store, address, selection)
    else:
        name = given.path.rpartition("/")[2]
        yield _checked(
            RemoteFile(address, given.path, name, named=True, size=given.size, version=given.version)
        )


def _given(store: Store, address: Address) -> Entry:
    """Return what an address is; with a slash at its end, it is a folder, even beside an object of the same name."""
    entry = store.given()
    if entry.is_folder or not address.location.endswith("/"):
        return entry
    if not any(True for _ in store.entries("")):
        raise GoneError(GONE)
    return Entry(store.root, is_folder=True, size=0, version=())


def _walk(store: Store, address: Address, selection: Selection) -> Iterator[RemoteFile | DocumentError]:
    folders = [""]
    while folders:
        folder = folders.pop()
        inner: list[str] = []
        try:
            for entry in store.entries(folder):
                hidden = entry.path[len(folder) :].startswith(".")
                if entry.is_folder:
                    if not hidden and selection.has_folder(entry.path):
                        inner.append(entry.path)
                elif entry.path == folder:
                    if entry.size:
                        yield DocumentError(
                            printable(entry.path), "its name ends in a slash; rename the object"
                        )
                elif not hidden and selection.has_file(entry.path):
                    path = f"{store.root}/{entry.path}"
                    yield _checked(
                        RemoteFile(
                            address, path, entry.path, named=False, size=entry.size, version=entry.version
                        )
                    )
        except (ObjectError, LostError) as error:
            yield DocumentError(printable(folder or address.shown), f"cannot be listed ({error})")
        folders.extend(f"{path}/" for path in sorted(inner, reverse=True))


def _checked(file: RemoteFile) -> RemoteFile | DocumentError:
    fault = name_fault(file.id)
    return DocumentError(printable(file.id), fault) if fault else file
