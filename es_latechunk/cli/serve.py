"""`es-latechunk serve`: serve a local model over HTTP."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import (
    ModelChoice,
    add_options,
    json_option,
    model_options,
    optional_connection,
)
from es_latechunk.cli.output.messages import note, print_json
from es_latechunk.errors import PreconditionError, UsageError
from es_latechunk.serve.limits import Limits
from es_latechunk.types import TokenEncoder

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.serve.index import Index
    from es_latechunk.types import Encoder, EncoderIdentity

DEFAULTS = Limits()
TOKEN = "ES_LATECHUNK_TOKEN"  # noqa: S105
COUNT = click.IntRange(1)


LIMITS = (
    click.option(
        "--max-body-bytes",
        type=COUNT,
        default=DEFAULTS.body_bytes,
        show_default=True,
        help="Maximum size of a request's body.",
    ),
    click.option(
        "--max-inputs",
        type=COUNT,
        default=DEFAULTS.inputs,
        show_default=True,
        help="Maximum number of texts or chunks per request.",
    ),
    click.option(
        "--max-connections",
        type=COUNT,
        default=DEFAULTS.connections,
        show_default=True,
        help="Maximum number of open connections; lower if the process may open few files.",
    ),
    click.option(
        "--max-request-tokens",
        type=COUNT,
        default=DEFAULTS.request_tokens,
        show_default=True,
        help="Maximum number of tokens per request.",
    ),
    click.option(
        "--max-queue-tokens",
        type=COUNT,
        default=DEFAULTS.queue_tokens,
        show_default=True,
        help="Maximum number of tokens in the queue; a request beyond it is answered with 503.",
    ),
)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the limits; the command gets `limits`."""

    @wraps(command)
    def with_limits(*args: Any, **values: Any) -> Any:
        names = ("body_bytes", "inputs", "request_tokens", "queue_tokens", "connections")
        return command(*args, limits=Limits(**{name: values.pop(f"max_{name}") for name in names}), **values)

    return add_options(with_limits, LIMITS)


@click.command(
    cls=Command,
    examples=(
        "es-latechunk serve",
        "es-latechunk serve --index notes --port 8080",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen on; 0 means any free port.",
)
@click.option(
    "--token",
    envvar=TOKEN,
    metavar="WORD",
    help=f"Bearer token that clients must send. Prefer {TOKEN}: other users can see a command line.",
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="Without a token: a DNS name that requests may use for this server. IP addresses, and names without a "
    "dot, are always allowed.",
)
@limit_options
@model_options
@click.option("--index", metavar="NAME", help="Index or alias that the page searches.")
@optional_connection
@json_option
def serve(
    host: str,
    port: int,
    token: str | None,
    allow_host: tuple[str, ...],
    limits: Limits,
    model: ModelChoice,
    index: str | None,
    client: Elasticsearch | None,
    as_json: bool,
) -> None:
    """Serve a local model over HTTP until Ctrl-C or SIGTERM.

    It answers OpenAI's embedding requests (/v1/embeddings) and Hugging Face's feature extraction (/ and /embed), and
    chunks whole documents at /late_chunk. In a browser, / is a page that compares late with naive pooling: on the
    chunks of --index, beside a hybrid search, or on a text that you paste. Requests that are under way when it is
    stopped are still answered.
    With --json, one line on stdout says which address it listens on.
    """
    _check_token(token)
    _check_installed()
    from es_latechunk.serve.app import create_app
    from es_latechunk.serve.server import make_server

    recorded = _recorded(client, index) if client and index else None
    with _listen(host, port) as listening:
        encoder = _local(model.load_for(recorded))
        behind = _index(client, index, encoder) if client and index else None
        # The first pass compiles and allocates; it happens before the first client has to wait for it.
        encoder.encode_documents(["warm up"])
        url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
        if token is None and not _is_loopback(host):
            note(f"{url} needs no token, so anyone who can reach it can use it; set {TOKEN}", "warning")
        if as_json:
            print_json({"url": url, "model": encoder.identity.model, "dimensions": encoder.dim})
        note(f"{encoder.identity.model}, {encoder.dim} dimensions, on {url}; stop it with Ctrl-C")
        application = create_app(encoder, token=token, limits=limits, index=behind, hosts=[*allow_host, host])
        with suppress(KeyboardInterrupt):  # uvicorn ends cleanly, and then raises the signal again
            make_server(application, limits).run(sockets=[listening])
    note("stopped")


def _recorded(client: Elasticsearch, name: str) -> EncoderIdentity:
    from es_latechunk.elastic.index.admin import read_identity

    return read_identity(client, name).encoder


def _index(client: Elasticsearch, name: str, encoder: TokenEncoder) -> Index:
    from es_latechunk.serve.index import Index

    index = Index(client, name, encoder.identity)
    index.check()
    return index


def _check_token(token: str | None) -> None:
    if token is not None and not re.fullmatch(r"[!-~]+", token):
        raise UsageError(
            f"--token ({TOKEN}) is empty or holds a space or another character that no token has"
        )


def _check_installed() -> None:
    from importlib.util import find_spec

    missing = [
        name for name in ("uvicorn", "starlette", "prometheus_client", "orjson") if find_spec(name) is None
    ]
    if missing:
        raise UsageError(f"serve needs {', '.join(missing)}; install it: pip install 'es-latechunk[serve]'")


def _local(encoder: Encoder) -> TokenEncoder:
    if not isinstance(encoder, TokenEncoder):
        raise UsageError(
            f"model {encoder.identity.model}: is hosted by a service; serve a model that runs on this machine"
        )
    return encoder


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        cause = error.strerror or error
        raise PreconditionError(f"--host {host} --port {port}: {cause}; choose another one") from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
