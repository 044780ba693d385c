"""Objects of web servers, by httpx: one request for each object, and one more after each lost connection.

fsspec's own http:// is not used. It asks with HEAD first, which a signed address refuses, calls every fault "not
found", and would join the bytes of two versions.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import httpx

from es_latechunk.documents.remote.address import Address, ObjectError, redacted
from es_latechunk.documents.remote.stream import AGAIN, CHANGED, GONE, GoneError, LostError
from es_latechunk.documents.streams import GZIP

BLOCK = 1024 * 1024
TIMEOUT = 30.0  # seconds without a byte
NOT_FOUND, REFUSED, TRANSIENT = (404, 410), (401, 403), (408, 425, 429, 500, 502, 503, 504)
OK, PARTIAL = 200, 206
UNKNOWN_END = (
    "cannot be read, as its server does not say where it ends, and a lost connection would look the same; download it, "
    "and give the file"
)


@dataclass(frozen=True, slots=True)
class _Version:
    """What tells one version of an object from another, as its server gives it."""

    tag: str
    modified: str
    size: int | None

    def is_of(self, other: _Version) -> bool:
        """Return whether two answers have the same version; a size may be missing in one of them."""
        sizes = {size for size in (self.size, other.size) if size is not None}
        return (self.tag, self.modified) == (other.tag, other.modified) and len(sizes) < 2

    @property
    def known(self) -> str:
        """What a server can be asked to compare: a strong tag, or otherwise a time; "" if there is neither."""
        return self.tag if self.tag and not self.tag.startswith("W/") else self.modified


class WebObject:
    """An object of a web server, always in the version that the first request met."""

    def __init__(self, address: Address) -> None:
        self._url = address.url
        self._name = address.name
        self._version: _Version | None = None

    def check(self) -> None:
        """Raise ObjectError or LostError if the object cannot be read; its bytes are not read."""
        with self._response({}):
            pass

    def blocks(self, start: int) -> Iterator[bytes]:
        """Yield the bytes from `start` on; see `open_object`."""
        with self._response(self._range(start)) as response:
            skip = self._skip(response, start)
            fetched = start - skip
            for block in response.iter_raw(BLOCK):
                fetched += len(block)
                if len(block) > skip:
                    yield block[skip:]
                skip = max(0, skip - len(block))
        size = self._version.size if self._version else None
        if size is not None and fetched != size:
            raise LostError(f"{fetched:,} bytes came instead of {size:,}")

    def _range(self, start: int) -> dict[str, str]:
        if not start:
            return {}
        if self._version is None or not self._version.known:
            raise ObjectError(
                f"lost its connection after {start:,} bytes, and its server does not say which version the rest would "
                f"be of (ETag or Last-Modified); {AGAIN}"
            )
        return {"Range": f"bytes={start}-", "If-Range": self._version.known}

    def _skip(self, response: httpx.Response, start: int) -> int:
        """Return how many bytes of the answer are read already; remember the version, or compare it."""
        version = _version(response)
        if not start:
            self._check_end(response)
            self._version = version
        elif self._version is None or not version.is_of(self._version):
            raise ObjectError(CHANGED)
        if response.status_code != PARTIAL:
            return start
        if not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ObjectError(
                "cannot be read, as its server sends another part than was asked for; download it"
            )
        return 0

    def _check_end(self, response: httpx.Response) -> None:
        packed = response.headers.get("Content-Encoding", "identity") != "identity"
        if packed and not self._name.lower().endswith(
            GZIP
        ):  # some servers say so of a file that is packed itself
            raise ObjectError(
                "cannot be read, as its server packs it though asked not to; download it, and give the file"
            )
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
        if "Content-Length" not in response.headers and not chunked:
            raise ObjectError(UNKNOWN_END)

    @contextmanager
    def _response(self, headers: dict[str, str]) -> Iterator[httpx.Response]:
        headers = {"Accept-Encoding": "identity", **headers}
        try:
            with httpx.stream(
                "GET",
                self._url,
                headers=headers,
                follow_redirects=True,
                timeout=TIMEOUT,
                verify=_certificates(),
            ) as response:
                _check_status(response.status_code)
                yield response
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise LostError(redacted(f"{type(error).__name__}: {error}")) from error


@cache
def _certificates() -> ssl.SSLContext:
    """Return the certificates that servers are checked with, which take a while to load."""
    return httpx.create_ssl_context()


def _check_status(status: int) -> None:
    if status in NOT_FOUND:
        raise GoneError(GONE)
    if status in REFUSED:
        raise ObjectError(
            f"cannot be read (HTTP {status}: access is refused); sign its address anew, or download it"
        )
    if status in TRANSIENT:
        raise LostError(f"HTTP {status}")
    if status not in (OK, PARTIAL):
        raise ObjectError(f"cannot be read (HTTP {status}); check its address")


def _version(response: httpx.Response) -> _Version:
    headers = response.headers
    size = headers.get("Content-Length")
    if response.status_code == PARTIAL:
        size = headers.get("Content-Range", "").rpartition("/")[2]
    return _Version(
        headers.get("ETag", ""),
        headers.get("Last-Modified", ""),
        int(size) if size and size.isdecimal() else None,
    )
