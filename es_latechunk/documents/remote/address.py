"""Addresses of stores and web servers: which there are, what is shown of them, and what is refused.

It imports nothing that is slow to import, because every path of the command line is looked at here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from es_latechunk.documents.sources import printable
from es_latechunk.errors import UsageError

WEB = ("http", "https")
# The extra with the library of each store; without one, what every installation has suffices.
EXTRAS = {
    "s3": "s3",
    "s3a": "s3",
    "gs": "gcs",
    "gcs": "gcs",
    "abfs": "azure",
    "abfss": "azure",
    "az": "azure",
    "hf": "",
    **dict.fromkeys(WEB, ""),
}
ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)", re.DOTALL)
QUERY = re.compile(r"(://[^\s'\"?]*)\?[^\s'\"]*")
USER = re.compile(r"://[^\s'\"/@]*@")


class ObjectError(OSError):
    """What is at an address cannot be read; the message is the cause, with the next step."""


class UnreachableError(ObjectError):
    """The store or web server did not answer in any attempt."""


@dataclass(frozen=True, slots=True)
class Address:
    """An address of a store or a web server. Only `shown` may be printed: a query can be a signature."""

    scheme: str
    location: str = field(repr=False)  # what comes after "://"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.location}"

    @property
    def is_web(self) -> bool:
        return self.scheme in WEB

    @property
    def shown(self) -> str:
        """The address as one printable line, without a query."""
        return printable(
            f"{self.scheme}://{self.location.partition('?')[0] if self.is_web else self.location}"
        )

    @property
    def name(self) -> str:
        """The last part of a web address, decoded and without a query; "" if there is none."""
        return unquote(urlsplit(self.url).path.rpartition("/")[2])


def parse_address(path: str | Path) -> Address | None:
    """Return the address that a path is, or None for a path of this machine.

    Raises UsageError for an address of an unknown kind, and for one with a part that may be secret where none belongs.
    """
    found = ADDRESS.match(path) if isinstance(path, str) else None
    if not found:
        return None
    scheme, location = found[1].lower(), found[2]
    if scheme not in EXTRAS:
        if Path(path).exists():
            return None
        raise UsageError(
            f"{scheme}:// cannot be read; give a path, or an address that begins with s3://, gs://, abfs://, hf://, "
            "http:// or https://"
        )
    if scheme in WEB:
        location = location.partition("#")[0]
    address = Address(scheme, location)
    _check(address)
    return address


def shown_source(path: str) -> str:
    """Return a path or address as it may be printed, without a query that can be a signature."""
    address = parse_address(path)
    return address.shown if address else path


def _check(address: Address) -> None:
    host = re.split("[/?]" if address.is_web else "/", address.location, maxsplit=1)[0]
    user = host.rpartition("@")[0]
    if user and (address.is_web or ":" in user):
        raise UsageError(
            f"an address of {address.scheme}:// holds a user name or a password, which others can see; leave it out, "
            "and sign in as the store's own tools do (docs/sources.md)"
        )
    if not address.is_web and "?" in address.location:
        raise UsageError(
            f"an address of {address.scheme}:// holds a query (?), which stores do not have; leave it out, or name the "
            "folder if a name in it holds the question mark"
        )
    if not host:
        raise UsageError(f"{address.scheme}:// names nothing; give the whole address")
    if address.is_web and not address.name:
        raise UsageError(
            f"{address.shown} names no file, and folders of web servers cannot be listed; give the addresses of files"
        )


def redacted(text: str) -> str:
    """Return a message of a library without the queries and user names of the addresses in it."""
    return USER.sub("://", QUERY.sub(r"\1", text))
