"""An ingest on a Ray cluster beside the same ingest in one process: speed, overhead, and equality after kills.

    python benchmarks/scale.py --rounds 3            one process, one encoder, one process, two encoders, in turn
    python benchmarks/scale.py --kills 10            an encoder is killed at a seeded moment, ten times

The documents are those of ../shared/data/squad_dev, or the first part of them (--share); the model is all-MiniLM-L6-v2,
with its default pooling or another one (--pooling late takes less than half of the time).
Each encoder has one processor of its own; one process has as many as the encoders beside it: one, then two. Ray is
started before anything is measured. The start is measured apart: the same ingest of one short document. It writes into
indices of its own, which are deleted at the end, on ELASTICSEARCH_URL or the local node, whose processor seconds are
counted if it runs on this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from elasticsearch import Elasticsearch
from elasticsearch.helpers import scan

from es_latechunk import (
    Document,
    Encoder,
    EncoderIdentity,
    IngestReport,
    PoolingOptions,
    RayCluster,
    connect,
    create_index,
    ingest,
    load_encoder,
    raise_errors,
    read_documents,
)
from es_latechunk.models import load_recorded
from es_latechunk.node import running_node
from es_latechunk.scale.cluster import joined
from es_latechunk.types import POOLINGS

SOURCE = Path(__file__).parents[2] / "shared" / "data" / "squad_dev" / "documents.jsonl"
SEED = 20_261_125


def check(holds: bool, told: str) -> None:
    if not holds:
        raise SystemExit(told)


def load_pinned(claims: Path, reader: int, recorded: EncoderIdentity) -> Encoder:
    """The index's encoder, on the first processor that no other encoder of the run has claimed.

    The process `reader` encodes nothing, and stays on all of them.
    """
    if os.getpid() == reader:
        return load_recorded(recorded)
    for processor in sorted(os.sched_getaffinity(0)):
        try:
            (claims / str(processor)).open("x").write(str(os.getpid()))
        except FileExistsError:
            if psutil.pid_exists(int((claims / str(processor)).read_text() or 0)):
                continue
            (claims / str(processor)).write_text(str(os.getpid()))
        os.sched_setaffinity(0, {processor})  # this thread, and those that it will start
        break
    return load_recorded(recorded)


class ProcessorTime:
    """The processor seconds of this process and of all that it has started, looked at every 50 ms.

    Those of the local node are counted apart.
    """

    def __init__(self) -> None:
        node = running_node()
        self._server = psutil.Process(node.pid) if node and node.pid else None
        self._seen: dict[int, float] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> ProcessorTime:
        self._note()
        self._before = dict(self._seen)
        self._server_before = self._server_now()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        self._note()
        self.server_seconds = self._server_now() - self._server_before

    def _server_now(self) -> float:
        times = self._server.cpu_times() if self._server else None
        return times.user + times.system if times else 0.0

    def _look(self) -> None:
        while not self._ended.wait(0.05):
            self._note()

    def _note(self) -> None:
        me = psutil.Process()
        for process in (me, *me.children(recursive=True)):
            try:
                times = process.cpu_times()
            except psutil.Error:
                continue
            self._seen[process.pid] = times.user + times.system

    @property
    def seconds(self) -> float:
        return sum(seconds - self._before.get(pid, 0.0) for pid, seconds in self._seen.items())


@dataclass(frozen=True, slots=True)
class Setting:
    """What all loads of a run have in common; without a pooling, it is the model's default."""

    client: Elasticsearch
    encoder: Encoder
    pooling: PoolingOptions | None

    @contextmanager
    def new_index(self, what: str) -> Iterator[str]:
        """Create an index, and delete it at the end."""
        name = f"scale-{os.getpid()}-{what}"
        create_index(name, encoder=self.encoder, pooling=self.pooling, client=self.client)
        try:
            yield name
        finally:
            self.client.indices.delete(index=name)


def timed(setting: Setting, documents: list[Document], encoders: int, processors: int) -> dict[str, float]:
    """Seconds, and processor seconds, of one ingest; 0 encoders are this process alone, on so many processors."""
    claims = Path(tempfile.mkdtemp(prefix="es-latechunk-scale-"))
    whole = os.sched_getaffinity(0)
    client = setting.client
    with setting.new_index(f"{encoders}") as name:
        options: dict[str, Any] = {"encoder": load_recorded}
        if encoders:
            options = {
                "encoder": partial(load_pinned, claims, os.getpid()),
                "cluster": RayCluster(encoders=encoders),
            }
        elif processors == 1:
            options = {"encoder": partial(load_pinned, claims, 0)}
        started = time.monotonic()
        with ProcessorTime() as used:
            report = ingest(documents, index=name, client=client, **options)
        seconds = time.monotonic() - started
        os.sched_setaffinity(0, whole)
        check(not report.failed, "documents failed")
        again = ingest(documents, index=name, client=client, encoder=load_recorded)
        check((again.indexed, again.tokens) == (0, 0), "the second run did something")
    return {
        "seconds": seconds,
        "processor_seconds": used.seconds,
        "server_seconds": used.server_seconds,
        "chunks": report.chunks,
        "tokens": report.tokens,
    }


def measured(setting: Setting, documents: list[Document], encoders: int, processors: int) -> dict[str, float]:
    """The same, with what the start took of both: an ingest of one short document."""
    start = timed(setting, [Document("short", "One sentence.")], encoders, processors)
    row = timed(setting, documents, encoders, processors)
    row |= {f"start_{name}": start[name] for name in ("seconds", "processor_seconds")}
    return {name: round(value, 2) for name, value in row.items()}


def contents(client: Elasticsearch, name: str) -> dict[str, dict[str, Any]]:
    client.indices.refresh(index=name)
    rows = scan(client, index=name, query={"fields": ["content_embedding"]}, size=1_000)
    return {
        row["_id"]: {**row["_source"], "content_embedding": row["fields"]["content_embedding"]}
        for row in rows
    }


def largest_difference(found: dict[str, dict[str, Any]], clean: dict[str, dict[str, Any]]) -> float:
    """Of any number of any vector; ids and all other fields are equal."""
    check(found.keys() == clean.keys(), "other ids")
    largest = 0.0
    for key, row in clean.items():
        other = dict(found[key])
        vector = np.subtract(other.pop("content_embedding"), row["content_embedding"])
        largest = max(largest, float(np.abs(vector).max()))
        check(
            other == {name: value for name, value in row.items() if name != "content_embedding"},
            f"{key}: another content",
        )
    return largest


def killed(setting: Setting, documents: list[Document], clean: dict[str, Any], number: int) -> dict[str, Any]:
    """One ingest by two encoders, one of which is killed when a seeded share of the chunks is written."""
    source = random.Random(f"{SEED} {number}")  # noqa: S311 - it must come again
    share = source.uniform(0.05, 0.7)
    claims = Path(tempfile.mkdtemp(prefix="es-latechunk-scale-"))
    dead: list[int] = []
    client = setting.client

    with setting.new_index(f"kill-{number}") as name:

        def kill() -> None:
            while not dead:
                written = client.indices.stats(index=name)["_all"]["primaries"]["indexing"]["index_total"]
                pids = [int(path.read_text()) for path in claims.iterdir() if path.read_text()]
                if written >= share * len(clean) and pids:
                    dead.append(source.choice(pids))
                    os.kill(dead[0], signal.SIGKILL)
                time.sleep(0.02)

        threading.Thread(target=kill, daemon=True).start()
        report: IngestReport = ingest(
            documents,
            index=name,
            client=client,
            encoder=partial(load_pinned, claims, os.getpid()),
            cluster=RayCluster(encoders=2),
        )
        check(bool(dead), "the kill came too late")
        difference = largest_difference(contents(client, name), clean)
    check((report.failed, report.indexed) == (0, len(clean)), "another report")
    return {"killed_at": round(share, 2), "largest_difference": difference, "seconds": report.seconds}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    options.add_argument("--rounds", type=int, default=0)
    options.add_argument("--kills", type=int, default=0)
    options.add_argument("--share", type=float, default=1.0)
    options.add_argument("--pooling", choices=POOLINGS)
    given = options.parse_args()
    documents = list(raise_errors(read_documents([str(SOURCE)])))
    documents = documents[: max(1, round(len(documents) * given.share))]
    pooling = PoolingOptions(given.pooling) if given.pooling else None
    with connect() as client, joined(RayCluster()):
        setting = Setting(client, load_encoder(), pooling)
        for _ in range(given.rounds):
            for encoders, processors in ((0, 1), (1, 1), (0, 2), (2, 2)):
                row = measured(setting, documents, encoders, processors)
                told = {"encoders": encoders, "processors": processors, **row, "load": os.getloadavg()[0]}
                print(json.dumps(told), flush=True)
        if given.kills:
            with setting.new_index("clean") as name:
                ingest(documents, index=name, client=client, encoder=load_recorded)
                clean = contents(client, name)
            for number in range(given.kills):
                row = killed(setting, documents, clean, number)
                print(json.dumps({"number": number, **row}), flush=True)


if __name__ == "__main__":
    main()
