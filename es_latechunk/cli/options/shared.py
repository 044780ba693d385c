"""Options that several commands share; a command gets each group as one value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.chunking import CHUNKERS, DEFAULT_CHUNKER, DEFAULT_MAX_TOKENS
from es_latechunk.cli.output.messages import note
from es_latechunk.errors import UsageError, setting
from es_latechunk.hidden_imports import hidden_imports
from es_latechunk.models import DTYPES, ENGINES, LoadKeywords, load_encoder, load_recorded, measured_pooling
from es_latechunk.types import POOLINGS, TOKEN_WEIGHTS, PoolingOptions

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch

    from es_latechunk.types import Encoder, EncoderIdentity, Reranker

CONNECTION = (
    click.option(
        "--url",
        metavar="URL",
        help="URL of Elasticsearch. Default: ELASTICSEARCH_URL, else the running local node.",
    ),
    click.option(
        "--api-key",
        metavar="KEY",
        help="API key. Prefer ELASTICSEARCH_API_KEY: other users can see a command line.",
    ),
    click.option(
        "--username", metavar="NAME", help="User name, used with --password (or ELASTICSEARCH_USERNAME)."
    ),
    click.option(
        "--password",
        metavar="WORD",
        help="Password. Prefer ELASTICSEARCH_PASSWORD: other users can see a command line.",
    ),
    click.option(
        "--ca-certs", metavar="FILE", help="CA certificate of the cluster (or ELASTICSEARCH_CA_CERTS)."
    ),
    click.option(
        "--fingerprint",
        metavar="SHA256",
        help="Fingerprint of the cluster's certificate (or ELASTICSEARCH_FINGERPRINT).",
    ),
    click.option("--insecure", is_flag=True, help="Skip certificate verification (insecure)."),
)
CONNECTION_NAMES = ("url", "api_key", "username", "password", "ca_certs", "fingerprint", "insecure")
MODEL_NAME = click.option(
    "--model",
    metavar="NAME",
    help="Model: a folder, a Hugging Face id, or jina-api:NAME. Default: all-MiniLM-L6-v2 or the index's model.",
)
WINDOW = click.option(
    "--window",
    type=int,
    metavar="TOKENS",
    help="Tokens per window. Default: the length the model was trained at.",
)
MODEL = (
    MODEL_NAME,
    click.option(
        "--revision", metavar="REV", help="Revision of the model on the hub: a branch, tag or commit."
    ),
    WINDOW,
    click.option(
        "--dimensions",
        type=int,
        metavar="N",
        help="Length of the vectors, if the model can shorten them (Matryoshka).",
    ),
    click.option(
        "--document-prefix",
        metavar="TEXT",
        help="Text put before each document, instead of the model's own prefix.",
    ),
    click.option(
        "--query-prefix",
        metavar="TEXT",
        help="Text put before each query, instead of the model's own prefix.",
    ),
    click.option(
        "--document-task",
        metavar="TASK",
        help="Task for documents (Jina v3 and hosted models). Default: retrieval.passage.",
    ),
    click.option(
        "--query-task",
        metavar="TASK",
        help="Task for queries (Jina v3 and hosted models). Default: retrieval.query.",
    ),
    click.option(
        "--assume-mean-pooling",
        is_flag=True,
        help="Use mean pooling for a model whose files do not say how it pools.",
    ),
    click.option(
        "--matryoshka",
        is_flag=True,
        help="Allow --dimensions for a model that is not known to support shorter vectors.",
    ),
    click.option(
        "--device",
        default="auto",
        show_default=True,
        metavar="DEVICE",
        help="Device that runs the model: auto, cpu, cuda or mps.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="auto",
        show_default=True,
        help="Precision of the model; auto: bfloat16 if the hardware multiplies it natively.",
    ),
    click.option(
        "--engine",
        type=click.Choice(ENGINES),
        default="auto",
        show_default=True,
        help="Library that runs the model; auto: OpenVINO on a CPU if it supports the model, else torch.",
    ),
    click.option(
        "--offline", is_flag=True, help="Use only files on this machine; do not contact the model hub."
    ),
)
# What MODEL gives to `load_encoder`, besides the name. `ingest` has a --retry-for of its own, which is for its requests
# to the cluster too.
MODEL_SETTINGS = tuple(name for name in LoadKeywords.__annotations__ if name != "retry_for")
chunker_option = click.option(
    "--chunker",
    type=click.Choice(CHUNKERS),
    default=DEFAULT_CHUNKER,
    show_default=True,
    help="Units that are merged into chunks, up to --max-tokens.",
)
max_tokens_option = click.option(
    "--max-tokens",
    type=click.IntRange(1),
    default=DEFAULT_MAX_TOKENS,
    show_default=True,
    metavar="TOKENS",
    help="Maximum number of tokens per chunk.",
)
POOLING = (
    click.option(
        "--pooling",
        type=click.Choice(POOLINGS),
        help="late: encode whole documents, then pool each chunk; naive: encode each chunk alone; blend: the sum of "
        "both. Default: what measured best for the model, or else late.",
    ),
    click.option(
        "--token-weights",
        type=click.Choice(TOKEN_WEIGHTS),
        help="sif: frequent tokens count less; none: all count the same.",
    ),
    click.option(
        "--neighbour-share",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Part of a vector that comes from the two chunks before and after it, such as 0.2.",
    ),
    click.option(
        "--late-window",
        type=click.IntRange(1),
        metavar="TOKENS",
        help="Tokens per window for late and blend, if it is to be shorter than --window.",
    ),
    click.option(
        "--pieces",
        type=click.IntRange(1),
        metavar="TOKENS",
        help="Give each chunk more vectors, one per piece of so many tokens; the best piece counts in a search.",
    ),
    click.option(
        "--embed-title",
        type=click.FloatRange(0, 1),
        metavar="SHARE",
        help="Part of a vector that comes from the document's title and the headings above the chunk, such as 0.1.",
    ),
)
overlap_option = click.option(
    "--overlap",
    type=click.IntRange(0),
    metavar="TOKENS",
    help="Tokens that the windows of a long document share, up to half of a window.  [default: 0]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The model that the command line names, and the keywords of `load_encoder` that its options give."""

    name: str | None
    keywords: LoadKeywords

    def load(self) -> Encoder:
        """Load the named model, or the default one."""
        return load_encoder(self.name, **self.keywords)

    def load_reranker(self, name: str) -> Reranker:
        """Load a reranker on the same device as the model."""
        from es_latechunk.models.rerank import load_reranker

        return load_reranker(name, device=self.keywords["device"], offline=self.keywords["offline"])

    def load_for(self, recorded: EncoderIdentity | None) -> Encoder:
        """Load the model that an index records, unless the command line names one; for a new index, the default one."""
        return load_recorded(recorded, name=self.name, **self.keywords) if recorded else self.load()


def pooling_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the pooling; the command gets `pooling`, a PoolingChoice."""

    @wraps(command)
    def with_pooling(*args: Any, **values: Any) -> Any:
        chosen = {name: values.pop(name) for name in PoolingOptions.__dataclass_fields__}
        return command(*args, pooling=PoolingChoice(chosen), **values)

    return add_options(with_pooling, POOLING)


@dataclass(frozen=True, slots=True)
class PoolingChoice:
    """The pooling settings that the command line gives, None for each that it leaves out."""

    settings: Mapping[str, Any]

    def options(self, encoder: Encoder) -> PoolingOptions | None:
        """Return the settings for an encoder: None without any; without --pooling they change the model's default."""
        given = {name: value for name, value in self.settings.items() if value is not None}
        if not given:
            return None
        measured = None if "pooling" in given else measured_pooling(encoder.identity)
        return replace(measured.options if measured else PoolingOptions(), **given)


def connection_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the connection; the command gets `client`."""

    @wraps(command)
    def with_client(*args: Any, **values: Any) -> Any:
        # The client imports each of these that is installed, and uses urllib3 and JSON. httpx and requests bring rich
        # and pygments along: together a third of the import's time, before the first hit.
        with hidden_imports("elastic_transport", "aiohttp", "httpx", "requests", "pyarrow"):
            from es_latechunk.elastic.connection import Connection, connect

        connection = {name: values.pop(name) for name in Connection.__dataclass_fields__}
        if connection["insecure"]:
            note("--insecure: the server's certificate is not verified, so it may be an impostor", "warning")
        client: Elasticsearch = connect(**connection)
        with client:
            return command(*args, client=client, **values)

    return add_options(with_client, CONNECTION)


def optional_connection(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the connection to a command with --index; it gets `client`, or None without an index."""
    connected = connection_options(command)

    @wraps(connected)
    def with_index(*args: Any, index: str | None, **values: Any) -> Any:
        if index is not None:
            return connected(*args, index=index, **values)
        for name in CONNECTION_NAMES:
            if values.pop(name):
                raise UsageError(
                    f"{setting(name)} is of no use without an index; add {setting('index')} NAME"
                )
        return command(*args, index=None, client=None, **values)

    return with_index


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of the model; the command gets `model`, a ModelChoice."""

    @wraps(command)
    def with_model(*args: Any, **values: Any) -> Any:
        keywords: Any = {name: values.pop(name) for name in MODEL_SETTINGS}
        return command(*args, model=ModelChoice(values.pop("model"), keywords), **values)

    return add_options(with_model, MODEL)


def add_options(command: Callable[..., Any], options: tuple[Callable[[Any], Any], ...]) -> Callable[..., Any]:
    """Add options to a command, in the order in which its help lists them."""
    # A decorator that is applied later comes earlier in click's help.
    for option in reversed(options):
        command = option(command)
    return command
