"""A long load on a local Ray cluster, of which processes are killed: is the index right, and does anything grow?

    python benchmarks/soak/run.py                     100,000 documents
    python benchmarks/soak/run.py --documents 2000    a quick look

It makes short documents from the texts of ../shared/data and loads them by `ingest --cluster ray`, two encoders, into
an Elasticsearch of its own. At seeded points of the first half it kills (kill -9) encoders, other workers of Ray, and
Elasticsearch itself, which is started again. Then every chunk of the index is compared with what one process makes of
the documents, the vectors of a sample with those of one process. The memory of every process goes into
benchmarks/results/soak.json; `picture.py` draws it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import short_texts
from elasticsearch import ApiError, Elasticsearch, TransportError
from elasticsearch.helpers import scan
from process_memory import WORKER, MemoryWatch, growth

from es_latechunk import connect, create_index, ingest, load_encoder
from es_latechunk.chunking import chunk_document
from es_latechunk.documents import document_hash
from es_latechunk.elastic.write.actions import chunk_id
from es_latechunk.elastic.write.session import resolve
from es_latechunk.node import node_status, start_node, stop_node
from es_latechunk.target import open_target

RESULTS = Path(__file__).parents[1] / "results" / "soak.json"
NODE = "soak"
SEED = 20_261_130
# What is killed, how often, and at which shares of the written chunks; the second half is left to the memory. Ray has
# another worker only if something else than the encoders runs there just then.
KILLS = (("encoder", 3), (WORKER, 2), ("Elasticsearch", 1))
EARLIEST, LATEST = 0.05, 0.45


def check(holds: bool, told: str) -> None:
    if not holds:
        raise SystemExit(told)


@dataclass(frozen=True, slots=True)
class Kill:
    """A kill -9: what, when it was due and when it came (shares of the chunks), and the seconds into the load."""

    kind: str
    due: float
    share: float
    seconds: float
    pid: int


class Killer:
    """Kills processes of a load when seeded shares of its chunks are written; nearly all documents are one chunk."""

    def __init__(self, client: Elasticsearch, index: str, documents: int, watch: MemoryWatch) -> None:
        self._drawn = random.Random(SEED)  # noqa: S311 - it must come again
        self._client, self._index, self._documents, self._watch = client, index, documents, watch
        self.due = sorted(
            (self._drawn.uniform(EARLIEST, LATEST), kind) for kind, count in KILLS for _ in range(count)
        )
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.done: list[Kill] = []

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def written(self) -> float:
        """The share of the chunks that is written; 0 while Elasticsearch does not say."""
        try:
            stats = self._client.indices.stats(index=self._index, level="shards")
            shards = stats["indices"][self._index]["shards"].values()
            return sum(copy["seq_no"]["max_seq_no"] + 1 for [copy] in shards) / self._documents
        except (ApiError, TransportError, KeyError, ValueError):
            return 0.0

    def _run(self) -> None:
        due = self.due
        while due and not self._ended.wait(0.5):
            share = self.written()
            for at, kind in [one for one in due if one[0] <= share]:
                if not (pid := self._kill(kind)):
                    continue
                due.remove((at, kind))
                self.done.append(Kill(kind, round(at, 3), round(share, 3), round(self._watch.now, 1), pid))
                print(json.dumps(asdict(self.done[-1])), flush=True)
                if kind == "Elasticsearch":
                    start_node(NODE)

    def _kill(self, kind: str) -> int:
        """Kill one of that kind, and return its id; 0 if there is none now."""
        if not (pids := self._watch.living(kind)):
            return 0
        pid = self._drawn.choice(pids)
        os.kill(pid, signal.SIGKILL)
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)
        return pid


@contextmanager
def node() -> Iterator[str]:
    started = start_node(NODE)
    try:
        yield started.url
    finally:
        stop_node(NODE)


def servers() -> dict[int, str]:
    now = node_status(NODE)
    return {now.pid: "Elasticsearch"} if now and now.pid else {}


def expected(client: Elasticsearch, index: str, path: Path) -> dict[str, str]:
    """What the index has to hold: a digest of each chunk's fields but the vector, by its id."""
    target = open_target(client, resolve(client, index), None, retry_for=60)
    found = {}
    for document in short_texts.read(path):
        doc_hash = document_hash(document, vectors=target.vectors)
        spans = chunk_document(document, chunker=target.chunker, tokenizer=target.encoder.tokenizer).spans
        for ordinal, span in enumerate(spans):
            found[chunk_id(document.id, ordinal)] = digest(
                {
                    "content": document.text[span.start : span.end],
                    "doc_id": document.id,
                    "ordinal": ordinal,
                    "chunk_count": len(spans),
                    "start": span.start,
                    "end": span.end,
                    "title": document.title,
                    "metadata": dict(document.metadata),
                    "doc_hash": doc_hash,
                }
            )
    return found


def digest(fields: Mapping[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(fields, sort_keys=True).encode(), digest_size=16).hexdigest()


def check_contents(client: Elasticsearch, index: str, wanted: dict[str, str]) -> None:
    fields = ["content", "doc_id", "ordinal", "chunk_count", "start", "end", "title", "metadata", "doc_hash"]
    left = dict(wanted)
    for row in scan(client, index=index, query={"_source": fields}, size=2_000):
        check(left.pop(row["_id"], "") == digest(row["_source"]), f"{row['_id']}: another content")
    check(not left, f"{len(left)} chunks are missing")


def vectors(client: Elasticsearch, index: str, doc_ids: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for first in range(0, len(doc_ids), 500):
        query = {
            "query": {"terms": {"doc_id": doc_ids[first : first + 500]}},
            "fields": ["content_embedding"],
            "_source": False,
        }
        rows = scan(client, index=index, query=query, size=500)
        found |= {row["_id"]: row["fields"]["content_embedding"] for row in rows}
    return found


def largest_difference(client: Elasticsearch, index: str, path: Path, sample: int) -> tuple[int, float]:
    """Of any number of a vector to one process's, over a seeded sample of documents; and the number of vectors."""
    count = sum(1 for _ in short_texts.read(path))
    chosen = set(random.Random(SEED).sample(range(count), min(sample, count)))  # noqa: S311 - it must come again
    picked = [document for number, document in enumerate(short_texts.read(path)) if number in chosen]
    clean = f"{index}-clean"
    create_index(clean, encoder=load_encoder(), client=client)
    ingest(picked, index=clean, client=client)
    ids = [document.id for document in picked]
    found, wanted = vectors(client, index, ids), vectors(client, clean, ids)
    client.indices.delete(index=clean)
    check(found.keys() == wanted.keys(), "the sample has other ids")
    return len(found), max(
        float(np.abs(np.subtract(found[key], vector)).max()) for key, vector in wanted.items()
    )


def load(words: list[str], url: str, log: Path, **options: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "es_latechunk", "ingest", *words, "--url", url, "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log.open("w"), text=True, **options)


def report_of(running: subprocess.Popen[str], log: Path) -> dict[str, Any]:
    stdout, _ = running.communicate()
    check(running.returncode == 0, f"exit code {running.returncode}: {stdout}{log.read_text('utf-8')}")
    report: dict[str, Any] = json.loads(stdout)
    return report


def soak(path: Path, given: argparse.Namespace, url: str, client: Elasticsearch) -> dict[str, Any]:
    index = f"soak-{os.getpid()}"
    create_index(index, encoder=load_encoder(), client=client)
    log = path.with_suffix(".log")
    words = [str(path), "--index", index, "--cluster", "ray", "--encoders", str(given.encoders)]
    words += ["--retry-for", str(given.retry_for)]
    running = load(words, url, log)
    with (
        MemoryWatch(running.pid, servers, interval=given.interval) as watch,
        Killer(client, index, given.documents, watch) as killer,
    ):
        begun = 0.0
        while running.poll() is None:
            begun = begun or (watch.now if killer.written() else 0.0)
            time.sleep(0.5)
        end = watch.now
    report = report_of(running, log)
    print(json.dumps({"report": report, "log": log.read_text("utf-8").splitlines()}), flush=True)
    results = {
        "seconds": round(end, 1),
        "begun": round(begun, 1),
        "kills": [asdict(kill) for kill in killer.done],
        "report": report,
        "processes": watch.rows(),
        "growth": [asdict(one) for one in growth(watch.rows(), (begun + end) / 2, end)],
    }
    RESULTS.parent.mkdir(exist_ok=True)
    given.output.write_text(json.dumps(results) + "\n", encoding="utf-8")  # whatever comes of the checks
    wanted = expected(client, index, path)
    missed = [kind for _, kind in killer.due if kind != WORKER]
    check(not missed, f"not killed in time: {missed}")
    counts = {
        name: report[name] for name in ("documents", "chunks", "indexed", "unchanged", "failed", "deleted")
    }
    right = {"documents": given.documents, "chunks": len(wanted), "failed": 0, "deleted": 0}
    check(
        counts["indexed"] + counts["unchanged"] == len(wanted)
        and all(counts[name] == number for name, number in right.items()),
        f"another report: {counts}",
    )
    check_contents(client, index, wanted)
    again = report_of(load([str(path), "--index", index], url, log), log)
    check((again["indexed"], again["unchanged"], again["tokens"]) == (0, len(wanted), 0), f"again: {again}")
    compared, difference = largest_difference(client, index, path, given.sample)
    results |= {"vectors_compared": compared, "largest_difference": difference}
    client.indices.delete(index=index)
    return results


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--documents", type=int, default=100_000)
    options.add_argument("--encoders", type=int, default=2)
    options.add_argument("--retry-for", type=float, default=120.0, help="as in `ingest`")
    options.add_argument("--sample", type=int, default=5_000, help="documents whose vectors are compared")
    options.add_argument(
        "--interval", type=float, default=10.0, help="seconds between two looks at the memory"
    )
    options.add_argument("--output", type=Path, default=RESULTS)
    given = options.parse_args()
    started = datetime.now(timezone.utc).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix="soak-") as name, node() as url, connect(url=url) as client:
        path = Path(name) / "documents.jsonl"
        short_texts.write(islice(short_texts.made(given.documents, SEED), given.documents), path)
        results = {"started": started, **soak(path, given, url, client)}
    given.output.write_text(json.dumps(results) + "\n", encoding="utf-8")
    for row in results["growth"]:
        print(json.dumps(row))
    told = ("seconds", "kills", "vectors_compared", "largest_difference")
    print(json.dumps({name: results[name] for name in told}))


if __name__ == "__main__":
    main()
