"""Objects of stores, by fsspec and its libraries: s3fs, gcsfs, adlfs, and that of huggingface_hub."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from es_latechunk.documents.remote.address import EXTRAS, Address, ObjectError, redacted
from es_latechunk.documents.remote.stream import CHANGED, GONE, GoneError, LostError, retried
from es_latechunk.documents.sources import printable
from es_latechunk.errors import UsageError

BLOCK = 8 * 1024 * 1024
PAGE = 1000  # objects that an answer of S3 lists
LONGEST_CAUSE = 200
SIGN_IN = "sign in as the store's own tools do (docs/sources.md)"
# What the stores call the version of an object. The times are compared only if a store gives nothing better: some give
# them with fractions of a second in lists alone.
VERSIONS = ("ETag", "etag", "generation", "blob_id", "xet_hash", "md5Hash", "content_md5")
COMMIT = re.compile("@[0-9a-f]{40}/")
REFUSED = (401, 403)
TIMES = ("LastModified", "last_modified", "updated", "mtime")

T = TypeVar("T")
Version = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """An object or a folder, by its path below the folder that was given."""

    path: str
    is_folder: bool
    size: int
    version: Version


class Store:
    """What a store has at an address and below it. Nothing that it says is cached."""

    def __init__(self, address: Address) -> None:
        import fsspec

        try:
            kind = fsspec.get_filesystem_class(address.scheme)
        except ImportError as error:
            raise UsageError(
                f"{address.shown}: a library is missing ({error}); run pip install "
                f"'es-latechunk[{EXTRAS[address.scheme]}]'"
            ) from error
        settings = kind._get_kwargs_from_urls(address.url)
        self._files: Any = asked(lambda: kind(**settings, use_listings_cache=False))
        self._is_hub = address.scheme == "hf"
        self.root = str(kind._strip_protocol(address.url)).rstrip("/")

    def given(self) -> Entry:
        """Return what there is at the root. On the hub, the root is from then on that of the newest commit."""
        if self._is_hub:
            self.root = asked(lambda: _at_commit(self._files, self.root))
        return self._entry(self.root)

    def _entry(self, path: str) -> Entry:
        return _entry(asked(lambda: self._files.info(path, refresh=True)), "")

    def entries(self, folder: str) -> Iterator[Entry]:
        """Yield what is in a folder below the root ("" or ending in "/"): objects in order, folders among them.

        S3 answers with one page after the other; the libraries of the other stores list a whole folder at once.
        """
        pages = self._pages_of_s3(folder) if hasattr(self._files, "_iterdir") else self._page(folder)
        for page in pages:
            for info in page:
                yield _entry(info, f"{self.root}/")

    def blocks(self, path: str, size: int, version: Version, start: int, end: int) -> Iterator[bytes]:
        """Yield the bytes from `start` to `end`, if the object still has that version; see `open_object`.

        The version is compared after each block, before anything is made of its bytes.
        """
        for begin in range(start, end, BLOCK):
            length = min(BLOCK, end - begin)
            try:
                block = self._range(path, begin, begin + length)
            except LostError:
                self._check_version(path, size, version)  # some stores refuse to read what has changed
                raise
            self._check_version(path, size, version)
            if len(block) != length:
                raise LostError(f"{len(block):,} bytes came instead of {length:,}")
            yield block

    def _range(self, path: str, begin: int, end: int) -> bytes:
        return asked(lambda: bytes(self._files.cat_file(path, start=begin, end=end)))

    def _check_version(self, path: str, size: int, version: Version) -> None:
        if self._is_hub and COMMIT.search(path):
            return  # what is at a commit never changes
        now = self._entry(path)
        known = dict(version)
        if (
            now.is_folder
            or now.size != size
            or any(known.get(key, value) != value for key, value in now.version)
        ):
            raise ObjectError(CHANGED)

    def _page(self, folder: str) -> Iterator[list[dict[str, Any]]]:
        path = f"{self.root}/{folder}".rstrip("/")
        page = retried(lambda: asked(lambda: self._files.ls(path, detail=True, refresh=True)))
        named = [{**info, "name": str(info["name"]).rstrip("/")} for info in page]
        # Some libraries list the object that marks a folder as that folder itself.
        yield sorted((info for info in named if info["name"] != path), key=lambda info: info["name"])

    def _pages_of_s3(self, folder: str) -> Iterator[list[dict[str, Any]]]:
        from fsspec.asyn import sync

        bucket, _, key = f"{self.root}/{folder}".partition("/")
        listed = self._files._iterdir(bucket, prefix=key)  # which repeats the request for a page itself

        async def next_page() -> list[dict[str, Any]]:
            page = []
            async for info in listed:
                page.append(info)
                if len(page) == PAGE:
                    break
            return page

        while page := asked(lambda: sync(self._files.loop, next_page)):
            yield page


def _at_commit(files: Any, path: str) -> str:
    """Return a path of the hub with the commit that its branch names now; buckets have none, and stay as they are."""
    from huggingface_hub import HfApi

    found = files.resolve_path(path)
    if not hasattr(found, "repo_id"):
        return path
    hub = HfApi(endpoint=files.endpoint, token=files.token)
    commit = hub.repo_info(found.repo_id, revision=found.revision, repo_type=found.repo_type).sha
    return f"{found.root.partition('@')[0]}@{commit}/{found.path_in_repo}".rstrip("/")


def asked(question: Callable[[], T]) -> T:
    """Return what a library answers; its exceptions become GoneError, ObjectError or LostError, without secrets."""
    try:
        return question()
    except FileNotFoundError as error:
        raise GoneError(GONE) from error
    except (ObjectError, LostError):
        raise
    except Exception as error:  # the stores' libraries raise their own, without a common base
        if isinstance(error, PermissionError) or _status(error) in REFUSED:
            raise ObjectError(f"cannot be read (access is refused: {_cause(error)}); {SIGN_IN}") from error
        raise LostError(_cause(error)) from error


def _status(error: Exception) -> int | None:
    """Return the HTTP status of an exception of huggingface_hub, adlfs or gcsfs, if it has one."""
    found = getattr(getattr(error, "response", error), "status_code", getattr(error, "code", None))
    return found if isinstance(found, int) else None


def _cause(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return printable(redacted(f"{type(error).__name__}: {text}"))[:LONGEST_CAUSE]


def _entry(info: Mapping[str, Any], above: str) -> Entry:
    name, is_folder = str(info["name"]), info.get("type") == "directory"
    if not name.startswith(above):
        raise ObjectError(f"cannot be listed, as the store lists {printable(name)} there")
    return Entry(name[len(above) :], is_folder, int(info.get("size") or 0), _version(info))


def _version(info: Mapping[str, Any]) -> Version:
    for keys in (VERSIONS, TIMES):
        found = {key: str(info[key]) for key in keys if info.get(key)}
        if found:
            return tuple(found.items())
    return ()
