"""--dry-run: what it says is what then happens, and it writes nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import run
from elasticsearch import Elasticsearch
from faults import NEW, OLD, REMOVED, encoder, make_old, whole_state
from indices import WordEncoder, make_index, stored_chunks

from es_latechunk import Document, DryRun, IngestPlan, IngestReport, ingest
from es_latechunk.elastic.index.template import load_template
from es_latechunk.errors import PreconditionError

pytestmark = pytest.mark.every_version

BAD = [
    Document("empty", " "),
    Document("d00", "an id that was used before"),
    Document("nan", "x", metadata={"n": float("nan")}),
]


def planned(documents: list[Document], **options: Any) -> IngestPlan:
    """What a dry run says."""
    return DryRun(documents, **options).plan


def test_its_counts_are_those_of_the_run_and_nothing_is_written(
    client: Elasticsearch, index_name: str
) -> None:
    make_old(client, index_name)
    before = whole_state(client, index_name)
    dry = DryRun([*NEW, *BAD], client=client, index=index_name, encoder=encoder())
    named = [str(result.error) for result in dry if result.error]
    plan = dry.plan
    assert whole_state(client, index_name) == before
    report = ingest([*NEW, *BAD], client=client, index=index_name, encoder=encoder())
    assert (plan.documents, plan.chunks, plan.failed) == (report.documents, report.chunks, report.failed)
    assert (plan.to_index, plan.unchanged, plan.to_delete, plan.tokens) == (
        report.indexed, report.unchanged, report.deleted, report.tokens,
    )  # fmt: skip
    assert (plan.failed, plan.to_delete > 0, plan.unchanged > 0) == (3, True, True)
    assert named == [str(error) for error in report.failures]


def test_it_counts_what_pruning_will_remove(client: Elasticsearch, index_name: str) -> None:
    make_old(client, index_name)
    before = whole_state(client, index_name)
    plan = planned(NEW, client=client, index=index_name, encoder=encoder(), prune=True)
    assert whole_state(client, index_name) == before
    report = ingest(NEW, client=client, index=index_name, encoder=encoder(), prune=True)
    assert plan.to_delete == report.deleted > 20
    assert plan.documents_to_delete == len(REMOVED)


@pytest.mark.parametrize("source", [[], NEW[:3]])
def test_it_refuses_to_prune_as_the_run_does(
    client: Elasticsearch, index_name: str, source: list[Document]
) -> None:
    """A wrong path finds nothing, or next to nothing: the index is not emptied for that."""
    make_old(client, index_name)
    before = stored_chunks(client, index_name)
    for run_it in (planned, ingest):
        with pytest.raises(PreconditionError, match=r"^prune: ") as refused:
            run_it(source, client=client, index=index_name, encoder=encoder(), prune=True)
    if source:
        message = "prune: 31 of the index's 34 documents are no longer in the source, more than max_prune 0.5"
        assert str(refused.value).startswith(message)
    assert stored_chunks(client, index_name) == before


@pytest.mark.parametrize(
    ("share", "kept", "removed"),
    [
        (1.0, 3, 31),
        (0.5, 17, 17),
        (0.5, 16, None),
        (0.1, 31, 3),
        (0.1, 30, None),
        (0.0, 33, None),
        (0.0, 34, 0),
    ],
)
def test_a_share_of_the_documents_may_be_pruned(
    client: Elasticsearch, index_name: str, share: float, kept: int, removed: int | None
) -> None:
    make_old(client, index_name)

    def prune() -> IngestReport:
        return ingest(
            OLD[:kept], client=client, index=index_name, encoder=encoder(), prune=True, max_prune=share
        )

    if removed is None:
        with pytest.raises(PreconditionError, match="more than max_prune"):
            prune()
    else:
        prune()
    left = {row["doc_id"] for row in stored_chunks(client, index_name).values()}
    assert len(left) == len(OLD) - (removed or 0)


def test_the_share_is_said_on_the_command_line(
    client: Elasticsearch, index_name: str, words: WordEncoder, tmp_path: Path
) -> None:
    make_index(client, index_name, words)
    for name in "abcd":
        (tmp_path / f"{name}.txt").write_text(f"One {name} here. Two here.")
    assert run("ingest", tmp_path, "--index", index_name).exit_code == 0
    for name in "abc":
        (tmp_path / f"{name}.txt").unlink()
    command = ["ingest", tmp_path, "--index", index_name, "--prune"]
    for share in ([], ["--max-prune", "30%"], ["--dry-run"]):
        refused = run(*command, *share)
        assert refused.exit_code == 2
        assert "prune: 3 of the index's 4 documents are no longer in the source" in refused.stderr
    for wrong in ("200%", "-1", "many"):
        assert "is not a share; write 30% or 0.3" in run(*command, "--max-prune", wrong).stderr
    planned = json.loads(run(*command, "--max-prune", "75%", "--dry-run", "--json").stdout)
    done = json.loads(run(*command, "--max-prune", ".75", "--json").stdout)
    assert planned["to_delete"] == done["deleted"] > 0
    assert planned["documents_to_delete"] == 3


def test_a_plan_for_an_unchanged_source_is_to_do_nothing(client: Elasticsearch, index_name: str) -> None:
    words = make_index(client, index_name)
    ingest(NEW, client=client, index=index_name, encoder=words)
    plan = planned(NEW, client=client, index=index_name, encoder=words)
    assert (plan.to_index, plan.to_delete, plan.tokens) == (0, 0, 0)
    assert (plan.estimated_seconds, plan.estimated_bytes) == (0, 0)
    assert plan.unchanged == plan.chunks > 0


@pytest.mark.parametrize(("quantization", "dim"), [("int8", 384), ("none", 384), ("bbq", 128), ("flat", 32)])
@pytest.mark.parametrize("context_fields", [True, False])
def test_the_size_is_of_the_right_order(
    client: Elasticsearch, index_name: str, tmp_path: Path, quantization: str, dim: int, context_fields: bool
) -> None:
    """Within a factor of two of what the store says, of several hundred chunks of ordinary text."""
    words = WordEncoder(dim=dim)
    template = load_template()
    template["settings"]["index"]["store.stats_refresh_interval"] = "0s"  # else the size is 10 s old
    path = tmp_path / "template.json"
    path.write_text(json.dumps(template))
    options = {"quantization": quantization, "context_fields": context_fields, "template": path}
    make_index(client, index_name, words, max_tokens=40, **options)
    text = Path(__file__).parents[1].joinpath("docs/node.md").read_text(encoding="utf-8").replace("|", " ")
    documents = [Document(f"{n}", f"{n} {text[start:]}") for n, start in enumerate(range(0, 5000, 500))]
    plan = planned(documents, client=client, index=index_name, encoder=words)
    report = ingest(documents, client=client, index=index_name, encoder=words)
    assert report.indexed > 300
    client.indices.flush(index=index_name)
    client.indices.forcemerge(index=index_name, max_num_segments=1)
    stats: Any = client.indices.stats(index=index_name, metric="store")
    size = stats["_all"]["primaries"]["store"]["size_in_bytes"]
    assert size / 2 < plan.estimated_bytes < size * 2


@pytest.fixture
def words(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> WordEncoder:
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", lambda *_, **__: encoder())
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    return encoder()


def test_the_command_says_it_and_touches_no_file(
    client: Elasticsearch, index_name: str, words: WordEncoder, tmp_path: Path
) -> None:
    make_index(client, index_name, words)
    (tmp_path / "a.txt").write_text("One here. Two here.")
    (tmp_path / "b.txt").write_text("")
    letters = tmp_path.parent / f"{index_name}.ndjson"
    letters.write_text("kept")
    command = ["ingest", tmp_path, "--index", index_name, "--dry-run", "--dead-letter", letters]
    done = run(*command, "--json")
    assert done.exit_code == 1
    assert "b.txt" in done.stderr
    plan = json.loads(done.stdout)
    assert (plan["documents"], plan["failed"], plan["to_index"]) == (1, 1, plan["chunks"])
    assert client.count(index=index_name)["count"] == 0
    assert letters.read_text() == "kept"
    told = run(*command).stdout
    assert told.startswith(
        f"would write {plan['chunks']} chunks ({plan['tokens']} tokens) of 1 documents, delete 0;"
    )
