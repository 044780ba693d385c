"""A new index behind an alias: filled beside the one that is searched, swapped in when it is whole."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import WordEncoder, make_index, stored_chunks

from es_latechunk import search
from es_latechunk.elastic.write.alias import ALIAS_KEY, Promotion, promote

pytestmark = pytest.mark.every_version

TEXTS = {
    "berlin": "Berlin lies on the Spree. The city is old.",
    "lisbon": "Trams climb the hills.",
    "köln": "Der Dom ist hoch.",
}
MODELS = {"old": WordEncoder(model="old", weights="sha256:old", query_prefix=""),
          "new": WordEncoder(model="new", weights="sha256:new", query_prefix="", dim=8)}  # fmt: skip


@pytest.fixture(autouse=True)
def models(elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """--model old and --model new; without one, what the index records, and at first the old one."""

    def recorded(identity: Any, *, name: str | None, **_: Any) -> WordEncoder:
        return MODELS[name or identity.model]

    monkeypatch.setattr(
        "es_latechunk.cli.options.shared.load_encoder", lambda name, **_: MODELS[name or "old"]
    )
    monkeypatch.setattr("es_latechunk.cli.options.shared.load_recorded", recorded)
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.mkdir()
    for name, text in TEXTS.items():
        (path / f"{name}.txt").write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def alias(client: Elasticsearch, index_name: str) -> Iterator[str]:
    return index_name  # what is called test-* is deleted after the test


def fill(alias: str, source: Path, *options: str, code: int = 0) -> dict[str, Any]:
    done = run("ingest", source, "--alias", alias, "--json", *options)
    assert done.exit_code == code, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def behind(client: Elasticsearch, alias: str) -> list[str]:
    return sorted(client.indices.get_alias(name=alias))


def made(client: Elasticsearch, alias: str) -> list[str]:
    return sorted(client.indices.get(index=f"{alias}-*"))


def best(alias: str, query: str) -> list[str]:
    done = run("search", query, "--index", alias, "--mode", "knn", "--json")
    assert done.exit_code == 0, done.stderr
    return [json.loads(line)["doc_id"] for line in done.stdout.splitlines()]


def test_a_fresh_index_is_filled_and_swapped_in(client: Elasticsearch, alias: str, source: Path) -> None:
    report = fill(alias, source)
    assert (report["documents"], report["chunks"]) == (3, 3)
    assert made(client, alias) == [f"{alias}-000001"]
    assert not client.indices.exists_alias(name=alias), "nobody searches it before it is promoted"
    done = run("index", "promote", alias, "--json")
    assert json.loads(done.stdout) == {
        "alias": alias, "index": f"{alias}-000001", "chunks": 3, "before": [],
    }  # fmt: skip
    assert behind(client, alias) == [f"{alias}-000001"]
    assert best(alias, "Trams climb the hills.")[0] == "lisbon.txt"


def test_a_change_of_model_without_a_minute_of_wrong_answers(
    client: Elasticsearch, alias: str, source: Path
) -> None:
    fill(alias, source)
    run("index", "promote", alias)
    fill(alias, source, "--model", "new")
    assert behind(client, alias) == [f"{alias}-000001"], "the old model answers until then"
    assert best(alias, "Der Dom ist hoch.")[0] == "köln.txt"
    done = run("index", "promote", alias)
    assert behind(client, alias) == [f"{alias}-000002"]
    assert f"delete it with: es-latechunk index delete {alias}-000001" in done.stderr
    assert made(client, alias) == [f"{alias}-000001", f"{alias}-000002"], "the old one stays until told"
    assert best(alias, "Der Dom ist hoch.")[0] == "köln.txt"
    for name, dims in ((f"{alias}-000001", 16), (f"{alias}-000002", 8)):
        [row, *_] = stored_chunks(client, name).values()
        assert len(row["content_embedding"]) == dims


def test_the_next_index_is_made_like_the_one_before(client: Elasticsearch, alias: str, source: Path) -> None:
    """Its own choices (here no neighbours' words, full vectors, small chunks) last over a change of model."""
    first = f"{alias}-000001"
    make_index(client, first, encoder=MODELS["old"], max_tokens=7, quantization="none", context_fields=False)
    client.indices.put_alias(index=first, name=alias)
    fill(alias, source, "--model", "new")
    second = f"{alias}-000002"
    mapping = client.indices.get_mapping(index=second)[second]["mappings"]
    vector = mapping["properties"]["content_embedding"]
    assert (vector["dims"], vector["index_options"]["type"]) == (8, "hnsw")
    assert "neighbours_1" not in mapping["properties"]
    assert mapping["_meta"]["es_latechunk"]["max_tokens"] == 7


def test_an_index_that_was_swapped_out_does_not_wait_again(
    client: Elasticsearch, alias: str, source: Path
) -> None:
    for _ in range(2):
        fill(alias, source)
        assert run("index", "promote", alias).exit_code == 0
    assert behind(client, alias) == [f"{alias}-000002"]
    told = error_of(run("index", "promote", alias), 2)
    assert told.startswith(
        f"alias {alias}: no index is staged for it; fill one with: es-latechunk ingest --alias"
    )
    before = stored_chunks(client, f"{alias}-000001")
    (source / "berlin.txt").write_text("Another text.")
    fill(alias, source)
    assert made(client, alias)[-1] == f"{alias}-000003"
    assert stored_chunks(client, f"{alias}-000001") == before


def test_a_load_that_broke_off_is_taken_up_again(
    client: Elasticsearch, alias: str, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("es_latechunk.elastic.write.bulk.BATCH_ACTIONS", 1)
        sent = iter([None, None])

        def interrupted(*_: Any) -> None:
            if next(sent, "end") == "end":
                raise KeyboardInterrupt

        patch.setattr("es_latechunk.cli.output.messages.UnreadableNotes.result", interrupted)
        broken = run("ingest", source, "--alias", alias)
    assert broken.exit_code == 130
    refused = error_of(run("index", "promote", alias), 2)
    assert refused.startswith(f"index {alias}-000001: its ingest has not ended; run it again")
    (source / "berlin.txt").unlink()  # it is in the index already, and gone from the source
    assert client.count(index=f"{alias}-000001")["count"] > 0
    report = fill(alias, source)
    assert (report["documents"], report["chunks"]) == (2, 2)
    assert made(client, alias) == [f"{alias}-000001"]
    assert run("index", "promote", alias).exit_code == 0
    assert {row["doc_id"] for row in stored_chunks(client, alias).values()} == {"lisbon.txt", "köln.txt"}


def test_an_index_that_a_kill_left_without_its_mark_is_taken(
    client: Elasticsearch, alias: str, source: Path
) -> None:
    make_index(client, f"{alias}-000001", MODELS["old"], max_tokens=128)
    fill(alias, source)
    assert made(client, alias) == [f"{alias}-000001"]


def test_an_index_of_the_user_s_own_is_not_taken(client: Elasticsearch, alias: str, source: Path) -> None:
    make_index(client, f"{alias}-000001", MODELS["old"], max_tokens=128)
    run("ingest", source / "berlin.txt", "--index", f"{alias}-000001")
    fill(alias, source)
    assert made(client, alias) == [f"{alias}-000001", f"{alias}-000002"]
    assert {row["doc_id"] for row in stored_chunks(client, f"{alias}-000001").values()} == {"berlin.txt"}


def test_documents_that_failed_hold_the_swap_back(client: Elasticsearch, alias: str, source: Path) -> None:
    (source / "bad.txt").write_bytes(b"")
    fill(alias, source, code=1)
    told = error_of(run("index", "promote", alias), 2)
    assert told.startswith(f"index {alias}-000001: 1 documents failed in its ingest; repair them")
    assert run("index", "promote", alias, "--allow-failed").exit_code == 0
    assert behind(client, alias) == [f"{alias}-000001"]


def test_a_count_that_differs_holds_the_swap_back(client: Elasticsearch, alias: str, source: Path) -> None:
    fill(alias, source)
    client.delete(index=f"{alias}-000001", id="köln.txt#0")
    told = error_of(run("index", "promote", alias), 2)
    assert told.startswith(
        f"index {alias}-000001: holds 2 chunks, its ingest counted 3; run the ingest of the whole source again"
    )
    fill(alias, source)
    assert run("index", "promote", alias).exit_code == 0


def test_two_indices_that_wait_are_named(client: Elasticsearch, alias: str, source: Path) -> None:
    fill(alias, source)
    client.indices.create(
        index=f"{alias}-000007", mappings={"_meta": {ALIAS_KEY: {"alias": alias, "chunks": 1, "failed": 0}}}
    )
    told = error_of(run("index", "promote", alias), 2)
    assert told.startswith(
        f"alias {alias}: 2 indices are staged for it ({alias}-000001, {alias}-000007); delete all"
    )


def test_nothing_waits(client: Elasticsearch, alias: str) -> None:
    assert error_of(run("index", "promote", alias), 2).startswith(f"alias {alias}: no index is staged for it")


def test_the_name_of_an_index_is_no_alias(client: Elasticsearch, alias: str, source: Path) -> None:
    make_index(client, alias, MODELS["old"])
    for command in (["ingest", source, "--alias", alias], ["index", "promote", alias]):
        assert error_of(run(*command), 2).startswith(f"{alias} is an index, not an alias")


def test_an_empty_source_fills_nothing(client: Elasticsearch, alias: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    done = run("ingest", tmp_path / "empty", "--alias", alias)
    assert done.exit_code == 2
    assert "the source gave no document" in done.stderr
    assert run("index", "promote", alias).exit_code == 2


def test_searches_during_the_swap_never_mix_models(
    client: Elasticsearch, elasticsearch_url: str, alias: str, source: Path
) -> None:
    """Each search answers with one model's chunks alone, whichever it is: no error, no dimension that differs."""
    fill(alias, source)
    run("index", "promote", alias)
    fill(alias, source, "--model", "new")
    ended = threading.Event()
    wrong: list[str] = []
    seen: set[str] = set()

    def ask() -> None:
        while not ended.is_set():
            with Elasticsearch(elasticsearch_url, request_timeout=60) as own:
                record = own.indices.get_mapping(index=alias)
                model = next(iter(record.values()))["mappings"]["_meta"]["es_latechunk"]["model"]
                try:
                    hits = search(
                        "Der Dom ist hoch.", client=own, index=alias, encoder=MODELS[model],
                        mode="knn",
                    )  # fmt: skip
                except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                    if "holds vectors of" not in str(
                        error
                    ):  # swapped between the two lines above: refused, not mixed
                        wrong.append(repr(error))
                    continue
                seen.add(model)
                if [hit.doc_id for hit in hits][:1] != ["köln.txt"] or len(hits) != 3:
                    wrong.append(f"{model}: {hits}")

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    try:
        for _ in range(3):
            promoted = promote(alias, client=client)
            assert isinstance(promoted, Promotion)
            client.indices.update_aliases(
                actions=[
                    {"remove": {"index": f"{alias}-000002", "alias": alias}},
                    {"add": {"index": f"{alias}-000001", "alias": alias}},
                ]
            )
        promote(alias, client=client)
        while "new" not in seen and not wrong:
            ended.wait(0.01)
    finally:
        ended.set()
        for asker in askers:
            asker.join()
    assert wrong == []
