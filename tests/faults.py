"""What the fault tests share: a source in two versions, a proxy that tells each request, the index's whole state.

As a program it is the ingester that gets killed: `python faults.py URL INDEX`, or `python faults.py WORD...` for
a command of the command line, with the encoder of words in the place of every model.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch
from indices import WordEncoder, load, make_index, stored_chunks
from proxy import Fault, FaultProxy, Request

from es_latechunk import Document, IngestReport, connect
from es_latechunk.elastic import retry
from es_latechunk.elastic.index import contents as state
from es_latechunk.elastic.write import bulk

SEED = 20_240_607
KEPT, CHANGED, REMOVED, ADDED = range(0, 12), range(12, 28), range(28, 34), range(34, 42)


def _document(number: int, version: int) -> Document:
    sentences = (number * 31 + version * 17) % 6 + 1
    text = " ".join(f"Number {number} says {version} for the {n}th time here." for n in range(sentences))
    return Document(f"d{number:02d}", text, f"Title {number}", {"version": version, "even": number % 2 == 0})


OLD = [_document(number, 1) for number in (*KEPT, *CHANGED, *REMOVED)]
NEW = [
    *(_document(number, 1) for number in KEPT),
    *(_document(number, 2) for number in CHANGED),
    *(_document(number, 1) for number in ADDED),
]


def use_small_requests(setattr: Callable[[Any, str, Any], object]) -> None:
    """So that a small source makes many requests, and waits are short."""
    setattr(bulk, "BATCH_ACTIONS", 3)
    setattr(state, "LOOK_UP_DOCUMENTS", 8)
    setattr(retry, "LONGEST_WAIT", 0.05)


def encoder() -> WordEncoder:
    """Small batches: what is looked ahead does not hold the whole source."""
    words = WordEncoder(query_prefix="")
    words.batch_tokens = 16
    return words


def make_old(client: Elasticsearch, name: str) -> None:
    """An index that holds the old version."""
    make_index(client, name, encoder(), max_tokens=12)
    load(client, name, OLD, encoder())


def make_new(client: Elasticsearch, name: str) -> None:
    """An index that holds the new version, and never held anything else."""
    make_index(client, name, encoder(), max_tokens=12)
    load_new(client, name)


def load_new(client: Elasticsearch, name: str, **options: Any) -> IngestReport:
    """The new version over what is there, without what the source has lost."""
    report, errors = load(client, name, NEW, encoder(), prune=True, **options)
    assert errors == []
    return report


def whole_state(client: Elasticsearch, name: str) -> dict[str, Any]:
    """All that an index holds: each chunk, `_meta`, mapping, settings; not what is each index's own."""
    index = client.indices.get(index=name)[name]
    settings = index["settings"]["index"]
    own = {
        key: value for key, value in settings.items() if key not in ("uuid", "provided_name", "creation_date")
    }
    return {"chunks": stored_chunks(client, name), "mappings": index["mappings"], "settings": own}


def assert_same(found: dict[str, Any], clean: dict[str, Any]) -> None:
    """Ids, fields, vectors (float32), mapping, `_meta` and settings are those of the clean run."""
    assert (found["mappings"], found["settings"]) == (clean["mappings"], clean["settings"])
    assert set(found["chunks"]) == set(clean["chunks"])
    for key, row in clean["chunks"].items():
        other = dict(found["chunks"][key])
        np.testing.assert_allclose(
            other.pop("content_embedding"), row["content_embedding"], atol=1e-5, rtol=0, err_msg=key
        )
        assert other == {name: value for name, value in row.items() if name != "content_embedding"}


class WatchedProxy(FaultProxy):
    """Asks `watch(number, request)` for the fault of each request, counted from 0; None is no fault."""

    def __init__(self, target: str, watch: Callable[[int, Request], Fault | None]) -> None:
        super().__init__(target)
        self._watch = watch

    def _fault_for(self, request: Request) -> Fault | None:
        with self._lock:
            self.requests.append(request)
            return self._watch(len(self.requests) - 1, request)


def ingester(*words: str) -> None:
    """What the killed process runs."""
    use_small_requests(setattr)
    if len(words) == 2:
        with connect(url=words[0]) as client:
            load_new(client, words[1])
        return
    from es_latechunk.cli import main, options

    options.load_recorded = lambda *_, **__: encoder()
    main(words)


if __name__ == "__main__":
    ingester(*sys.argv[1:])
