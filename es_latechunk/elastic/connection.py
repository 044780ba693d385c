"""The client for the user's cluster or the local node, and Elasticsearch's errors in plain words."""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import (
    ConnectionTimeout,
    SerializationError,
    TlsError,
    Transport,
    TransportApiResponse,
    TransportError,
)
from elasticsearch import (
    ApiError,
    AuthenticationException,
    AuthorizationException,
    Elasticsearch,
    NotFoundError,
    UnsupportedProductError,
)

from es_latechunk.errors import IndexNotFoundError, PreconditionError, ServerError, UsageError, setting

if TYPE_CHECKING:
    from es_latechunk.node import Node

ENVIRONMENT = "ELASTICSEARCH_"
LONGEST_REASON = 200
UNAVAILABLE = 503
# What a web server answers that is asked for an index; a proxy before Elasticsearch has other ones for its own faults.
NO_SUCH_PATH = (400, 404, 405)


@dataclass(frozen=True, slots=True)
class Connection:
    """The address of the cluster and the user's credentials, which `repr` leaves out, also those in a URL.

    `fingerprint` is the SHA-256 of the server's certificate, or of one above it that the server sends, in
    hexadecimal; it can replace `ca_certs`. `insecure` skips certificate verification.
    """

    url: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_certs: str | None = None
    fingerprint: str | None = None
    insecure: bool = False


class WholeAnswers(Transport):
    """A transport that refuses empty answers: Elasticsearch sends none, but a broken proxy in between may."""

    def perform_request(self, method: str, target: str, **options: Any) -> TransportApiResponse:
        """Do what `Transport` does; a 2xx answer without a body is a SerializationError, like one that is cut off."""
        answer = super().perform_request(method, target, **options)
        if method != "HEAD" and 200 <= answer.meta.status < 300 and answer.body in (None, "", b""):
            raise SerializationError(f"an empty answer ({answer.meta.status})")
        return answer


class ConnectedClient(Elasticsearch):
    """A client made by `connect`, which other processes can make again: pickled, it is its address and its options.

    The pickle contains the credentials.
    """

    _opening: tuple[str, dict[str, object]]

    def __reduce__(self) -> tuple[Any, ...]:
        url, access = self._opening
        if ca_certs := access.get("ca_certs"):
            # The other process may be on a machine without this file.
            access = {**access, "ca_certs": Path(str(ca_certs)).read_text(encoding="utf-8")}
        return _connect_again, (url, access)


def _connect_again(url: str, access: dict[str, object]) -> Elasticsearch:
    if authority := access.pop("ca_certs", None):
        access["ssl_context"] = ssl.create_default_context(cadata=str(authority))
    return _elasticsearch(url, access)


def connect(
    *,
    url: str | None = None,
    api_key: str | None = None,
    username: str | None = None,
    password: str | None = None,
    ca_certs: str | None = None,
    fingerprint: str | None = None,
    insecure: bool = False,
) -> Elasticsearch:
    """Return a client for the cluster at `url`; values left out come from the ELASTICSEARCH_* variables.

    Without a URL from either, the client is for the running local node, and uses its certificate and user if the node
    is secure and no others are given.

    - `api_key`, or `username` and `password`: the credentials.
    - `ca_certs`: the PEM file of the cluster's CA.
    - `fingerprint`: can replace it; the SHA-256 of the server's certificate, or of one above it that the server sends,
      in hexadecimal.
    - `insecure`: skip the verification of the certificate.

    Raises ServerError if no node runs, and UsageError for a URL or a combination of credentials that cannot work. No
    request is sent yet.
    """
    given = Connection(url, api_key, username, password, ca_certs, fingerprint, insecure)
    url = url or os.environ.get(f"{ENVIRONMENT}URL")
    if not url:
        return _connect_local(given)
    if not re.match(r"https?://[^/]+", url):
        raise UsageError(
            f"{setting('url')} {_without_password(url)} is not a URL; write it as http://localhost:9200"
        )
    return _client(url, given)


def connect_to_node(node: Node) -> Elasticsearch:
    """Return a client for a local node, with the node's certificate and user if it is secure; ignore the variables."""
    if not node.secure:
        return _elasticsearch(node.url, {})
    account = (node.username, node.password())
    return _elasticsearch(node.url, {"basic_auth": account, "ca_certs": str(node.ca_certs)})


def _connect_local(given: Connection) -> Elasticsearch:
    from es_latechunk.node import running_node

    node = running_node()
    if node is None:
        raise ServerError(
            "no Elasticsearch is given and no local node is running; start one with: es-latechunk node start, "
            f"or pass {setting('url')} (or set ELASTICSEARCH_URL)"
        )
    return _client(node.url, _with_own_account(given, node) if node.secure else given)


def _with_own_account(given: Connection, node: Node) -> Connection:
    """Fill in the credentials and the certificate of a secure local node if the user gave none."""
    if not _credentials(given):
        given = replace(given, username=node.username, password=node.password())
    return given if _tls(given) else replace(given, ca_certs=str(node.ca_certs))


def _client(url: str, given: Connection) -> Elasticsearch:
    options = _credentials(given)
    if url.startswith("https://"):
        options |= _tls(given)
    elif given.ca_certs or given.fingerprint:
        raise UsageError(
            f"{setting('url')} {_without_password(url)} does not use TLS, so there is no certificate to check; "
            f"write https://, or leave out {setting('ca_certs')} and {setting('fingerprint')}"
        )
    return _elasticsearch(url, options)


def _elasticsearch(url: str, access: dict[str, object]) -> Elasticsearch:
    options: dict[str, object] = {
        "request_timeout": 60,
        "max_retries": 0,
        "retry_on_timeout": False,
        "transport_class": WholeAnswers,
        **access,
    }
    try:
        client = ConnectedClient(url, **options)  # type: ignore[arg-type]
    except (ValueError, OSError) as error:
        raise UsageError(
            f"{setting('url')} {_without_password(url)} does not work ({_without_password(str(error))}); "
            f"check it, {setting('ca_certs')} and {setting('fingerprint')}"
        ) from None  # the client's message may contain the URL with its password
    client._opening = url, access
    return client


def _credentials(given: Connection) -> dict[str, object]:
    api_key = given.api_key or os.environ.get(f"{ENVIRONMENT}API_KEY")
    username = given.username or os.environ.get(f"{ENVIRONMENT}USERNAME")
    password = given.password or os.environ.get(f"{ENVIRONMENT}PASSWORD")
    if api_key and (given.api_key or not (given.username or given.password)):
        if not re.fullmatch(r"[!-~]+", api_key):
            raise UsageError(
                f"{setting('api_key')} (ELASTICSEARCH_API_KEY) holds a space, a line end or another character that "
                "no key has; copy it again"
            )
        return {"api_key": api_key}
    if bool(username) != bool(password):
        lacking = (
            f"{setting('password')} (ELASTICSEARCH_PASSWORD)"
            if username
            else f"{setting('username')} (ELASTICSEARCH_USERNAME)"
        )
        raise UsageError(f"a user name and a password belong together; {lacking} is missing")
    return {"basic_auth": (username, password)} if username else {}


def _tls(given: Connection) -> dict[str, object]:
    ca_certs = given.ca_certs or os.environ.get(f"{ENVIRONMENT}CA_CERTS")
    fingerprint = given.fingerprint or os.environ.get(f"{ENVIRONMENT}FINGERPRINT")
    if given.insecure:
        return {"verify_certs": False, "ssl_show_warn": False}
    if ca_certs and not os.path.isfile(ca_certs):  # noqa: PTH113
        raise UsageError(
            f"{setting('ca_certs')} {ca_certs} is not a file; pass the PEM file of the cluster's CA"
        )
    options: dict[str, object] = {}
    if ca_certs:
        options["ca_certs"] = ca_certs
    if fingerprint:
        if not re.fullmatch(r"[0-9a-fA-F]{64}", fingerprint.replace(":", "")):
            raise UsageError(
                f"{setting('fingerprint')} {fingerprint} is not a SHA-256 fingerprint; give its 64 hexadecimal digits, "
                "with or without colons"
            )
        options["ssl_assert_fingerprint"] = fingerprint
    return options


def _without_password(url: str) -> str:
    """Hide the user and password of a URL.

    The pattern is greedy, because a password that is not escaped may itself contain "/", "@" and spaces.
    """
    return re.sub(r"(\w+://)?.*@", r"\1***@", url)


def server_address(client: Elasticsearch) -> str:
    """Return the cluster's address as the client knows it, without credentials."""
    node = next(iter(client.transport.node_pool.all()))
    return str(node.base_url)


def server_version(client: Elasticsearch) -> tuple[int, int] | None:
    """Return (major, minor) of the oldest node, or None if the user may not see it.

    The versions come from the nodes API, as the small build that `node start` runs has no `GET /`.
    """
    with server_errors(client):
        try:
            nodes = client.nodes.info(filter_path="nodes.*.version")
        except AuthorizationException:
            return None
    versions = [str(node["version"]) for node in nodes["nodes"].values()]
    return min((int(major), int(minor)) for major, minor, *_ in (version.split(".") for version in versions))


@contextmanager
def server_errors(client: Elasticsearch, index: str | None = None) -> Iterator[None]:
    """Turn the client's exceptions into ours, with the server's address, the cause and the next step."""
    try:
        yield
    except (TlsError, ConnectionTimeout, TransportConnectionError, SerializationError) as error:
        raise _no_answer(error, server_address(client)) from error
    except ApiError as error:
        raise _refusal(error, server_address(client), index) from error


def _no_answer(error: TransportError, address: str) -> ServerError:
    if isinstance(error, TlsError):
        return ServerError(
            f"{address}: no trusted TLS connection ({_one_line(error.message)}); pass the CA with "
            f"{setting('ca_certs')} or {setting('fingerprint')}, or a URL with http:// if the server does not use TLS"
        )
    if isinstance(error, ConnectionTimeout):
        return ServerError(f"{address}: did not answer in time; check the cluster's health and try again")
    if isinstance(error, TransportConnectionError):
        return ServerError(
            f"{address}: cannot be reached ({_one_line(error.message)}); check {setting('url')}, or start a node with: "
            "es-latechunk node start"
        )
    return ServerError(
        f"{address}: sent an answer that is cut off or not JSON; check {setting('url')} and try again"
    )


def _refusal(error: ApiError, address: str, index: str | None) -> PreconditionError:
    if isinstance(error, UnsupportedProductError):
        return ServerError(f"{address}: is not Elasticsearch ({_one_line(error)}); check {setting('url')}")
    if isinstance(error, AuthenticationException):
        return ServerError(
            f"{address}: refuses the credentials (401); check {setting('api_key')}, or {setting('username')} and "
            f"{setting('password')}"
        )
    if is_blocked(error):
        return PreconditionError(
            f"{index or address}: is blocked ({reason(error)}); free disk space or remove the block, and run the "
            "command again"
        )
    if isinstance(error, AuthorizationException):
        return ServerError(
            f"{address}: the user may not do this (403: {reason(error)}); ask for the privilege; "
            "docs/security.md lists which privileges a command needs"
        )
    if index is not None and isinstance(error, NotFoundError) and "index_not_found" in str(error.body):
        return IndexNotFoundError(
            f"index {index} does not exist on {address}; `es-latechunk index list` shows those that do, and "
            f"`es-latechunk index create {index}` makes it"
        )
    if "index_closed_exception" in str(error.body):
        return closed_index(index or "NAME")
    if error.meta.status in NO_SUCH_PATH and not isinstance(error.body, dict):
        return ServerError(
            f"{address}: is not Elasticsearch (its answer with the status {error.meta.status} is no JSON); check "
            f"{setting('url')}"
        )
    if "no handler found for uri" in str(error.body):
        return ServerError(
            f"{address}: Elasticsearch has no such path; check {setting('url')}, which ends in one"
        )
    return ServerError(f"{address}: {reason(error)} ({error.meta.status})")


def is_blocked(error: ApiError) -> bool:
    """Return True if a block of the index or the cluster refuses the request, set by a user or by a full disk.

    Such an answer has the status 403, or 429 if the disk is full, and does not pass by itself. With 503 it means
    something else: the cluster has no master yet, which does pass.
    """
    return error.meta.status != UNAVAILABLE and "cluster_block_exception" in str(error.body)


def closed_index(name: str) -> PreconditionError:
    """Return the error for an index that is closed."""
    return PreconditionError(
        f"index {name}: is closed; open it with: POST {name}/_open, then run the command again"
    )


def reason(error: ApiError) -> str:
    """Return Elasticsearch's own reason of an error, including the innermost cause, on one line."""
    body = error.body
    cause = body.get("error") if isinstance(body, dict) else None
    if not isinstance(cause, dict):
        return _one_line(cause or error.message or body)
    return cause_text(cause)


def cause_text(cause: dict[str, object]) -> str:
    """Return the reason of an error object, and of each inner cause that adds something; a quoted document is cut."""
    text, inner = "", cast(object, cause)
    while isinstance(inner, dict):
        message = _one_line(inner.get("reason") or inner.get("type"))[:LONGEST_REASON]
        if message not in text:
            text = f"{text}: {message}" if text else message
        inner = inner.get("caused_by")
    return text


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
