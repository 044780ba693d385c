"""How documents are dealt to the encoders of a cluster, and what is refused before one is started; without Ray."""

from __future__ import annotations

import ast
import os
import pickle
import random
import re
import signal
import ssl
import subprocess
import sys
import threading
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import WordEncoder

import es_latechunk
from es_latechunk import Document, Index, IngestRun, RayCluster, UsageError, connect, ingest
from es_latechunk.errors import JinaApiError, PreconditionError, setting
from es_latechunk.report import DocumentResult, IngestCounts
from es_latechunk.scale.cluster import joined
from es_latechunk.scale.encoder import EncoderProcess, PartReport
from es_latechunk.scale.load import _Handle
from es_latechunk.scale.parts import LARGEST_PART, MOST_DEATHS, SMALLEST_PART, Part, WaitingParts
from es_latechunk.threads import pause

PACKAGE = Path(es_latechunk.__file__).parent
NOWHERE = "http://127.0.0.1:9"  # nobody listens: what is refused is refused before anything is asked


def documents(*sizes: int) -> list[tuple[Document, str]]:
    return [(Document(f"d{number}", "x" * size), "hash") for number, size in enumerate(sizes)]


def deal(waiting: WaitingParts) -> list[Part]:
    dealt = []
    while waiting.ready:
        dealt.append(waiting.next_part())
    return dealt


def test_every_document_is_dealt_once_in_order_whatever_its_size() -> None:
    source = random.Random(7)  # noqa: S311 - no secret, and it must come again
    sizes = [source.choice((0, 1, 900, SMALLEST_PART, LARGEST_PART * 3)) for _ in range(500)]
    waiting, dealt = WaitingParts(encoders=3), []
    for hashed in documents(*sizes):
        waiting.add(hashed)
        if waiting.full:
            dealt.append(waiting.next_part())
    waiting.ended = True
    dealt += deal(waiting)
    assert [document.id for part in dealt for document, _ in part.documents] == [f"d{n}" for n in range(500)]
    assert waiting.empty


def test_what_waits_is_bounded_by_the_encoders_not_by_the_source() -> None:
    waiting = WaitingParts(encoders=2)
    for hashed in documents(*[10_000] * 1_000):
        if waiting.full:
            waiting.next_part()
        waiting.add(hashed)
    held = sum(part.characters for part in deal(waiting))
    assert held <= 4 * LARGEST_PART + 20_000


def test_parts_become_smaller_towards_the_end() -> None:
    waiting = WaitingParts(encoders=2)
    for hashed in documents(*[1_000] * 500):
        waiting.add(hashed)
    waiting.ended = True
    sizes = [part.characters for part in deal(waiting)]
    assert sizes[0] > 100_000
    assert sizes[:-1] == sorted(sizes[:-1], reverse=True)
    assert sizes[-1] <= SMALLEST_PART + 1_001


def test_a_second_part_waits_with_an_encoder_only_while_the_source_goes_on() -> None:
    """At its end, what is left goes to the encoder that is done first."""
    waiting = WaitingParts(encoders=2)
    part, long = (Part(documents(size)) for size in (SMALLEST_PART, 3 * LARGEST_PART))

    def is_free(*parts: Part, is_open: bool = True) -> bool:
        return _Handle(None, deque(parts), is_open=is_open).is_free(waiting)

    assert (is_free(), is_free(part), is_free(long), is_free(part, part)) == (True, True, False, False)
    waiting.ended = True
    assert (is_free(), is_free(part)) == (True, False)
    assert not is_free(is_open=False)


def test_a_very_long_document_is_a_part_of_its_own() -> None:
    waiting = WaitingParts(encoders=2)
    for hashed in documents(10, 10, LARGEST_PART + 1, 10):
        waiting.add(hashed)
    waiting.ended = True
    assert [len(part.documents) for part in deal(waiting)] == [2, 1, 1]


def test_a_part_is_halved_until_the_document_that_kills_stands_alone() -> None:
    [bad, *_] = hashed = documents(*[10] * 37)
    source = random.Random(3)  # noqa: S311
    source.shuffle(hashed)
    waiting, done, dead = [Part(hashed)], [], []
    deaths = 0
    while waiting:
        part = waiting.pop()
        if bad not in part.documents:
            done += part.documents
            continue
        deaths += 1
        again = part.after_death()
        waiting += again
        dead += [] if again else list(part.documents)
    assert dead == [bad]
    assert sorted(document.id for document, _ in done) == sorted(f"d{n}" for n in range(1, 37))
    assert deaths <= 2 * MOST_DEATHS + 6


def test_a_part_that_is_dealt_again_may_have_been_written() -> None:
    [again] = Part(documents(1, 1)).after_death()
    assert (again.repeated, again.deaths) == (True, 1)
    assert all(half.repeated for half in Part(documents(1, 1), MOST_DEATHS - 1).after_death())


def test_counts_of_parts_add_up() -> None:
    whole, part = IngestCounts(), IngestCounts()
    part.add(DocumentResult("a", "indexed", 3, deleted=1, tokens=30, unknown_tokens=2))
    part.seen_documents, part.planned_tokens, part.encoded_tokens = 1, 30, 30.0
    with part.clock.measure("encode"):
        threading.Event().wait(0.01)
    for _ in range(2):
        whole.merge(pickle.loads(pickle.dumps(part)))  # noqa: S301
    report = whole.report()
    assert (report.documents, report.indexed, report.deleted, report.tokens) == (2, 6, 2, 60)
    assert (whole.seen_documents, whole.planned_tokens, whole.encoded_tokens) == (2, 60, 60.0)
    assert report.stages.encode > 0


def test_an_error_keeps_its_settings_on_the_way() -> None:
    error: JinaApiError = pickle.loads(pickle.dumps(JinaApiError(f"raise {setting('k')}", too_long=True)))  # noqa: S301
    assert (str(error), error.message.render(str.upper), error.too_long) == ("raise k", "raise K", True)
    assert isinstance(pickle.loads(pickle.dumps(PreconditionError("a"))), PreconditionError)  # noqa: S301


def test_an_encoder_that_waits_for_its_next_attempt_is_stopped_and_begins_nothing_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, reports = threading.Event(), []

    def load(process: EncoderProcess, part: Part, report: PartReport) -> None:
        report.counts.documents += 1
        begun.set()
        pause(3600)

    monkeypatch.setattr(EncoderProcess, "_load", load)
    process, part = EncoderProcess(b""), Part(())
    thread = threading.Thread(
        target=lambda: reports.extend(process.load(part) for _ in range(2)), daemon=True
    )
    thread.start()
    assert begun.wait(60)
    process.stop()
    thread.join(60)
    assert [report.counts.documents for report in reports] == [1, 0]


def test_a_client_of_connect_goes_to_another_process_with_its_certificate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import trustme

    authority = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(authority))
    monkeypatch.setenv("ELASTICSEARCH_API_KEY", "a-secret-key")
    with connect(url="https://127.0.0.1:9", ca_certs=str(authority)) as client:
        sent = pickle.dumps(client)
        assert "a-secret-key" not in repr(client)
    authority.unlink()
    monkeypatch.delenv("ELASTICSEARCH_API_KEY")
    with pickle.loads(sent) as again:  # noqa: S301
        [node] = again.transport.node_pool.all()
        assert node.base_url == "https://127.0.0.1:9"
        assert again._headers["authorization"] == "ApiKey a-secret-key"
        context = node.config.ssl_context
        assert len(context.get_ca_certs()) == 1
        assert context.verify_mode == ssl.CERT_REQUIRED
        assert context.check_hostname


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoders": 0}, "encoders 0: give 1 or more"),
        ({"readers": -1}, "readers -1: give 0 or more"),
        ({"encoder_cpus": 0}, "encoder_resources cpu=0: an encoder needs at least cpu=1"),
        ({"encoder_gpus": -1}, "encoder_resources cpu=1,gpu=-1: an encoder needs"),
        (
            {"address": "ray://head:10001"},
            "a Ray client from outside is not supported; run the command on a machine",
        ),
    ],
)
def test_a_cluster_that_cannot_work_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        RayCluster(**options)


def test_what_cannot_be_sent_is_refused_before_anything_is_asked() -> None:
    cluster = RayCluster()
    ours = connect(url=NOWHERE)
    with pytest.raises(UsageError, match="give a function that loads it there"):
        ingest([], index="i", client=ours, encoder=WordEncoder(), cluster=cluster)
    with pytest.raises(UsageError, match=r"client: cannot be sent .* give one made by es_latechunk.connect"):
        ingest([], index="i", client=Elasticsearch(NOWHERE), cluster=cluster)
    lock = threading.Lock()
    with pytest.raises(UsageError, match=r"encoder: cannot be sent .* give a function without such values"):
        ingest([], index="i", client=ours, encoder=lambda _: lock, cluster=cluster)  # type: ignore[arg-type, return-value]
    for refused in (ours.options(request_timeout=1), Elasticsearch(NOWHERE)):
        with pytest.raises(UsageError, match="client: cannot be sent"):
            Index("i", client=refused).ingest([], cluster=cluster)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:9", r"ray_address 127.0.0.1:9: cannot be reached \(.*refused.*\); check it"),
        ("nonsense", r"ray_address nonsense: the Ray cluster cannot be used \(Invalid address format"),
    ],
)
def test_a_cluster_that_is_not_there_is_told_at_once(address: str, message: str) -> None:
    before = signal.getsignal(signal.SIGTERM), dict(os.environ)
    with pytest.raises(PreconditionError, match=message), joined(RayCluster(address=address)):
        pass
    assert (signal.getsignal(signal.SIGTERM), dict(os.environ)) == before


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("es_latechunk.scale.cluster.find_spec", lambda _: None)
    told = error_of(run("ingest", ".", "--index", "i", "--cluster", "ray", "--url", NOWHERE), 2)
    assert told == "--cluster ray: Ray is not installed; install it: pip install 'es-latechunk[ray]'"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--encoders", "2"], "--encoders is of no use without --cluster ray; add it"),
        (["--readers", "2"], "--readers is of no use without --cluster ray; add it"),
        (["--encoder-resources", "cpu=2"], "--encoder-resources is of no use without --cluster ray; add it"),
        (["--ray-address", "auto"], "--ray-address is of no use without --cluster ray; add it"),
        (
            ["--cluster", "ray", "--dry-run"],
            "--dry-run measures this machine, not a cluster; leave out --cluster",
        ),
        (["--cluster", "ray", "--encoders", "0"], "--encoders 0: give 1 or more"),
    ],
)
def test_options_that_do_not_go_together_are_refused(words: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("A.")
    assert error_of(run("ingest", tmp_path, "--index", "i", "--url", NOWHERE, *words), 2) == message


@pytest.mark.parametrize(
    "value", ["", "2", "cpu", "cpu=", "cpu=x", "gpu=-1", "cpu=1,", "cpu=1 gpu=1", "tpu=1", ",gpu=1"]
)
def test_resources_that_say_nothing_are_refused(value: str) -> None:
    told = run("ingest", ".", "--index", "i", "--cluster", "ray", "--encoder-resources", value)
    assert told.exit_code == 2
    assert "write cpu=2, gpu=1 or cpu=4,gpu=1" in told.stderr


def test_a_ray_address_in_the_environment_alone_starts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")
    assert "cannot be reached" in error_of(run("ingest", ".", "--index", "i", "--url", NOWHERE), 2)


def test_only_scale_knows_ray() -> None:
    knowing = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "ray" for name in names):
                knowing.add(path.relative_to(PACKAGE).parts[0])
    assert knowing == {"scale"}


def test_without_the_option_ray_is_never_imported() -> None:
    script = """
import sys
from es_latechunk import IngestRun, RayCluster, connect
from es_latechunk.errors import LateChunkError
RayCluster(encoders=2)
try:
    IngestRun([], index="i", client=connect(url=sys.argv[1]))
except LateChunkError:
    pass
print([name for name in sys.modules if name.split(".")[0] == "ray"])
"""
    done = subprocess.run([sys.executable, "-c", script, NOWHERE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    assert IngestRun.__doc__
