"""`es-latechunk search`: find chunks for one query or many."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from es_latechunk.cli.options.completion import index_option
from es_latechunk.cli.options.help import Command
from es_latechunk.cli.options.shared import ModelChoice, connection_options, json_option, model_options
from es_latechunk.cli.output.hits import (
    on_terminal,
    print_hit_lines,
    print_hit_rows,
    screen_of,
    show_in_pager,
)
from es_latechunk.cli.output.messages import logged_notes, note, on_screen
from es_latechunk.elastic.console import console_msearch, console_request
from es_latechunk.elastic.search.query import DEFAULT_BM25_WEIGHT, FUSIONS, MODES, SearchOptions
from es_latechunk.errors import UsageError
from es_latechunk.search import MAX_NEIGHBOURS

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch


@click.command(
    cls=Command,
    examples=(
        'es-latechunk search "Which city is old?" --index notes',
        'es-latechunk search "a lamp" --index notes -k 3 --filter "lang: en and not doc_id: draft*" --json',
        'es-latechunk search "Which city is old?" --index notes --neighbours 1 --full',
    ),
)
@click.argument("words", nargs=-1, metavar="[QUERY]")
@index_option(required=True, help="Index or alias to search.")
@click.option("-k", type=int, default=10, show_default=True, metavar="N", help="Number of hits.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="Kind of search. Default: hybrid if the index holds the chunks' text, else knn.",
)
@click.option(
    "--num-candidates", type=int, metavar="N", help="Candidates per list. Default: 10 x k, and at least 500."
)
@click.option("--similarity", type=float, metavar="COSINE", help="Minimum cosine similarity of kNN hits.")
@click.option(
    "--oversample",
    type=float,
    metavar="FACTOR",
    help="Rescore FACTOR x k quantized candidates with the full vectors.",
)
@click.option(
    "--fusion",
    type=click.Choice(FUSIONS),
    default="convex",
    show_default=True,
    help="How a hybrid search combines its two lists.",
)
@click.option(
    "--bm25-weight",
    type=float,
    default=DEFAULT_BM25_WEIGHT,
    show_default=True,
    metavar="WEIGHT",
    help="Weight of BM25 in a hybrid search, from 0 to 1; the vectors have the rest.",
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    metavar="FILTER",
    help='Condition on a field: field=value, field=[a,b], or KQL such as "lang: en and not price >= 50". Repeat it '
    "to combine.",
)
@click.option("--highlight", is_flag=True, help="Mark the query's words with <em> in JSON and in a pipe.")
@click.option("--collapse", is_flag=True, help="Show only the best chunk of each document.")
@click.option(
    "--neighbours",
    type=click.IntRange(0, MAX_NEIGHBOURS),
    default=0,
    metavar="N",
    help="Add the N chunks before and after each hit.",
)
@click.option(
    "--rerank",
    metavar="MODEL",
    help="Reorder the first hits by a cross-encoder: a folder, a Hugging Face id, or jina-api:NAME.",
)
@click.option(
    "--rank-window-size",
    type=int,
    metavar="N",
    help="Number of hits that --rerank reads. Default: 50, and at least k.",
)
@click.option(
    "--from-file",
    type=click.Path(path_type=Path),
    help="Read the queries from a file, one per line (- is standard input).",
)
@click.option(
    "--full", is_flag=True, help="Show the whole text of each hit on a terminal, not only two lines of it."
)
@click.option(
    "--console", is_flag=True, help="Print the request for Kibana's Dev Tools instead of sending it."
)
@model_options
@connection_options
@json_option
def search(
    words: tuple[str, ...],
    index: str,
    neighbours: int,
    rerank: str | None,
    rank_window_size: int | None,
    from_file: Path | None,
    full: bool,
    console: bool,
    model: ModelChoice,
    client: Elasticsearch,
    as_json: bool,
    **wanted: Any,
) -> None:
    """Find the chunks that answer QUERY.

    --mode knn finds the nearest vectors; the score is (1 + cosine) / 2. bm25 finds the words of a chunk and, if they
    are indexed, of its neighbours. hybrid does both: the scores of each list are scaled to 0..1 and summed, weighted
    by --bm25-weight. With --rerank, a reranker puts the first hits in its own order.
    """
    from es_latechunk.elastic.search.searcher import check_query
    from es_latechunk.search import search_many

    if len(words) > 1:
        text = " ".join(words).strip("“”„‘’")  # a word processor's quotation marks are none to a shell
        raise UsageError(f'the query is {len(words)} words without quotation marks: write "{text}"')
    query = words[0] if words else None
    if (query is None) == (from_file is None):
        raise UsageError("search needs either a QUERY or --from-file FILE")
    if query is not None:
        check_query(query)
    queries = [query] if query is not None else read_queries(from_file)
    with logged_notes():
        if console:
            afterwards = {"neighbours": neighbours, "rerank": rerank, "rank_window_size": rank_window_size}
            _print_requests(client, index, queries, model, SearchOptions(**wanted), **afterwards)
            return
        at_terminal = on_terminal() and not as_json
        wanted["highlight"] |= at_terminal  # a terminal shows the words of the query in colour
        results = search_many(
            queries,
            index=index,
            client=client,
            encoder=model.load_for,
            neighbours=neighbours,
            reranker=model.load_reranker(rerank) if rerank else None,
            rank_window_size=rank_window_size,
            **wanted,
        )
        for result in results:
            if as_json:
                extra = {"query": result.query} if from_file else {}
                print_hit_rows(result.hits, {**extra, "latency_ms": result.milliseconds})
            elif not at_terminal:
                print_hit_lines(result.hits, query=result.query if from_file else None)
            elif from_file:
                click.echo(click.style(on_screen(result.query), bold=True))
                click.echo(screen_of(result.hits, full=full), nl=False)
            else:
                show_in_pager(screen_of(result.hits, full=full))


def read_queries(from_file: Path | None) -> Iterator[str]:
    """Yield the lines of --from-file that are not empty."""
    try:
        with click.open_file(str(from_file), encoding="utf-8-sig") as stream:
            yield from (line.strip() for line in stream if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--from-file {from_file}: cannot be read ({error})") from error


def _print_requests(
    client: Elasticsearch,
    index: str,
    queries: Iterable[str],
    model: ModelChoice,
    options: SearchOptions,
    *,
    neighbours: Any,
    rerank: Any,
    rank_window_size: Any,
) -> None:
    """Print the requests of each query in the syntax of Dev Tools, and on stderr what is done after a request."""
    from es_latechunk.elastic.index.template import has_pieces
    from es_latechunk.search import open_searcher

    searcher = open_searcher(
        client, index, options, reranked=rerank is not None, rank_window_size=rank_window_size
    )
    encoder = None if searcher.mode == "bm25" else model.load_for(searcher.identity.encoder)
    fused = False
    for query in queries:
        vector = searcher.encode([query], encoder)[0] if encoder else None
        requests = searcher.requests(query, vector)
        fused = len(requests) > 1
        request = (
            console_msearch(index, requests)
            if fused
            else console_request("POST", f"{index}/_search", requests[0])
        )
        click.echo(on_screen(request, keep="\n"))
    if fused:
        one = "; --fusion server prints one request that does both, with an Enterprise licence"
        note(
            f"the request gets two lists of hits, and es-latechunk fuses them afterwards ({options.fusion}, "
            f"--bm25-weight {options.bm25_weight:g}){'' if has_pieces(searcher.record.properties) else one}"
        )
    afterwards = {"--collapse": fused and options.collapse, "--rerank": rerank, "--neighbours": neighbours}
    if left_out := [flag for flag, is_given in afterwards.items() if is_given]:
        note(f"not in the request, because es-latechunk does it afterwards: {', '.join(left_out)}")
