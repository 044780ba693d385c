"""`make bench`: speed, memory and start, of es-latechunk and of named peers, in one run.

    python benchmarks/performance/run.py [--quick] [--documents FOLDER]

It starts an Elasticsearch of its own. The figures of every round go into benchmarks/results/performance.json, or on a
processor without bfloat16 units into performance-float32.json, so that one kind of machine never stands for the
other. `tables.py` makes the tables of docs/performance.md from both, and `picture.py` the picture.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

from documents import MAX_TOKENS, MIDDLE, made, prose, read_texts, sizes, write_documents
from machine import describe_machine
from processes import ROOT, local_node
from single import cold_searches, growth
from speed import CONTENDERS, measure
from tables import bfloat16_units

from es_latechunk import Document, connect, create_index, ingest, load_encoder

RESULTS = ROOT / "benchmarks" / "results"
# Without the units the first is "openvino" once more, and the second an emulation.
NEEDS_BFLOAT16 = ("openvino-float32", "st-bfloat16")
KINDS = ("short", "mix", "long")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="fewer tokens and rounds, growth to 10,000 chunks"
    )
    parser.add_argument(
        "--documents", type=Path, help="a folder to read; default: made of this repository's pages"
    )
    parser.add_argument("--rounds", type=int, help="default: 5, quick 3")
    parser.add_argument("--tokens", type=int, help="in each set of documents; default: 60,000, quick 24,000")
    parser.add_argument("--growth", type=int, metavar="CHUNKS", help="default: 100,000, quick 10,000")
    parser.add_argument(
        "--contenders", nargs="+", choices=list(CONTENDERS), help="default: all that make sense here"
    )
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    machine = describe_machine()  # before anything runs: it includes the load
    native = bool(bfloat16_units(machine))
    contenders = given.contenders or [name for name in CONTENDERS if native or name not in NEEDS_BFLOAT16]
    output = given.output or RESULTS / ("performance.json" if native else "performance-float32.json")
    quick = given.quick
    rounds = given.rounds or (3 if quick else 5)
    tokens = given.tokens or (24_000 if quick else 60_000)
    chunks = given.growth or (10_000 if quick else 100_000)
    results: dict[str, Any] = {
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": machine,
        "settings": {"rounds": rounds, "tokens": tokens, "max_tokens": MAX_TOKENS, "quick": quick},
    }
    with tempfile.TemporaryDirectory(prefix="benchmark-") as name:
        folder = Path(name)
        results["documents"], paths = write_sets(given.documents, tokens, folder)
        with local_node("benchmark") as node, connect(url=node.url) as client:
            results["elasticsearch"] = node.version
            warm_up = paths.pop("warm-up")
            results["speed"] = measure(
                {name: CONTENDERS[name] for name in contenders},
                paths,
                warm_up,
                rounds=rounds,
                precisions=("float32", "bfloat16") if native else ("float32",),
                client=client,
                url=node.url,
                folder=folder,
            )
            index = "benchmark-search"
            client.indices.delete(index=index, ignore_unavailable=True)
            encoder = load_encoder()
            create_index(index, encoder=encoder, client=client)
            ingest(read_texts(given.documents), index=index, encoder=encoder, client=client)
            results["cold_search"] = cold_searches(index, node.url, calls=2 * rounds)
            client.indices.delete(index=index)
            results["growth"] = growth(
                given.documents, chunks, client=client, url=node.url, log=folder / "growth.log"
            )
    results["ended"] = datetime.now(timezone.utc).isoformat(timespec="seconds")
    output.parent.mkdir(exist_ok=True)
    output.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def write_sets(source: Path | None, tokens: int, folder: Path) -> tuple[dict[str, Any], dict[str, Path]]:
    """Write the sets of documents, and one to warm up with; give their counts and files."""
    tokenizer = load_encoder().tokenizer
    texts = read_texts(source)
    pieces = prose(texts, tokenizer)
    first = [*islice(sizes("short", seed=2), 20), MIDDLE]
    sets: dict[str, Iterator[Document]] = {"warm-up": made(pieces, iter(first), "warm-up", seed=2)}
    if source:
        sets["given"] = iter(texts)
    else:
        for kind in KINDS:  # a small run has small documents
            sets[kind] = made(pieces, (min(size, tokens) for size in sizes(kind)), kind, seed=0)
    counts, paths = {}, {}
    for kind, documents in sets.items():
        paths[kind] = folder / f"{kind}.jsonl"
        counts[kind] = write_documents(documents, tokenizer, paths[kind], tokens if kind in KINDS else 0)
    return counts, paths


if __name__ == "__main__":
    main()
