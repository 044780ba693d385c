"""The help of every command, the default index, the list of indices, and the shell's completion."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from commands import error_of, run
from elasticsearch import Elasticsearch
from indices import LETTERS, WordEncoder, load, make_index

from es_latechunk.cli import main
from es_latechunk.cli.options.help import GROUPS, Command


def commands(group: click.Group = main, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name), command


EVERY: dict[tuple[str, ...], Command] = dict(commands())


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_every_command_has_examples_with_options_that_it_has(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help").stdout
    assert isinstance(EVERY[path], Command), (
        "@click.command(cls=Command, examples=(...)) has groups and examples"
    )
    assert EVERY[path].examples
    for example in EVERY[path].examples:
        assert f"  {example}\n" in shown, "an example is one line, which can be pasted"
        program, *words = shlex.split(example.partition(" > ")[0])
        assert program == "es-latechunk"
        assert tuple(words[: len(path)]) == path
        context = EVERY[path].make_context(path[-1], words[len(path) :], resilient_parsing=True)
        assert not context.args
        options = {word for word in words if re.match(r"--?[a-z]", word)}
        assert options <= {name for option in EVERY[path].params for name in option.opts}


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
def test_the_options_of_the_help_are_in_groups_and_none_is_lost(path: tuple[str, ...]) -> None:
    shown = run(*path, "--help").stdout.partition("\nExamples:")[0]
    sections = re.split(r"^([A-Z]\w+):\n", shown.partition("\n\n")[2], flags=re.MULTILINE)[1:]
    assert set(sections[::2]) <= {"Options", *GROUPS}
    listed = re.findall(r"^  (?:-\w, )?(--[a-z0-9-]+|-\w)\b", "".join(sections[1::2]), re.MULTILINE)
    options = [
        option for option in EVERY[path].params if isinstance(option, click.Option) and not option.hidden
    ]
    assert sorted(listed) == sorted([*(max(option.opts, key=len) for option in options), "--help"])


def test_a_group_names_only_options_that_some_command_has() -> None:
    names = {option.name for command in EVERY.values() for option in command.params}
    assert [name for group in GROUPS.values() for name in group if name not in names] == []


@pytest.fixture
def letters(
    client: Elasticsearch, index_name: str, elasticsearch_url: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """An index of three documents, for commands that load the encoder of words."""
    encoder = make_index(client, index_name, WordEncoder())
    load(client, index_name, LETTERS, encoder)
    monkeypatch.setenv("ELASTICSEARCH_URL", elasticsearch_url)
    for name in ("load_encoder", "load_recorded"):
        monkeypatch.setattr(f"es_latechunk.cli.options.shared.{name}", lambda *_, **__: encoder)
    return index_name


def test_an_index_in_the_environment_is_the_default(
    letters: str, client: Elasticsearch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("A lamp stands here.", encoding="utf-8")
    assert "Missing option '--index'" in run("search", "lamp").stderr
    monkeypatch.setenv("ES_LATECHUNK_INDEX", letters)
    assert run("ingest", tmp_path).exit_code == 0
    assert run("search", "lamp", "--mode", "bm25", "--json").stdout.count('"doc_id": "a.txt"') == 1
    assert "nowhere does not exist" in error_of(run("search", "lamp", "--index", "nowhere"), 2)
    filled = run("ingest", tmp_path, "--alias", f"{letters}-alias", "--json")
    assert filled.exit_code == 0, "an alias that is named goes before the default index"
    assert client.count(index=letters, q="doc_id:a.txt")["count"] == 1


def test_the_list_names_our_indices_and_no_others(letters: str, client: Elasticsearch) -> None:
    client.indices.create(index=f"{letters}-stranger", mappings={"_meta": {"by": "another"}})
    make_index(client, f"{letters}.with.dots")
    client.indices.put_alias(index=letters, name=f"{letters}-alias")
    rows = {row["index"]: row for row in map(json.loads, run("index", "list", "--json").stdout.splitlines())}
    assert rows[letters] == {
        "index": letters,
        "chunks": 8,
        "documents": 3,
        "model": "fake/words",
        "aliases": [f"{letters}-alias"],
    }
    assert rows[f"{letters}.with.dots"]["chunks"] == 0
    assert f"{letters}-stranger" not in rows
    table = run("index", "list").stdout.splitlines()
    assert table[0].split() == ["index", "chunks", "documents", "model", "aliases"]
    assert [letters, "8", "3", "fake/words", f"{letters}-alias"] in [line.split() for line in table]


def complete(words: str, **environment: str) -> list[str]:
    """What the Tab key offers in bash at the end of a line."""
    given = {**os.environ, **environment, "_ES_LATECHUNK_COMPLETE": "bash_complete"}
    given |= {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", "from es_latechunk.cli import main; main(prog_name='es-latechunk')"],
        env=given,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return [line.partition(",")[2] for line in done.stdout.splitlines() if line]


def test_a_shell_completes_the_names_of_indices(letters: str, client: Elasticsearch) -> None:
    client.indices.put_alias(index=letters, name=f"{letters}-alias")
    both = [letters, f"{letters}-alias"]
    assert complete(f"es-latechunk search q --index {letters[:8]}") == both
    assert complete(f"es-latechunk index show {letters}-") == both[1:]
    assert complete("es-latechunk ind") == ["index"]
    silent = "http://127.0.0.1:9"
    assert complete("es-latechunk index show te", ELASTICSEARCH_URL=silent) == []


def test_the_console_says_what_is_done_after_the_request(letters: str) -> None:
    told = run("search", "city", "--index", letters, "--console", "--neighbours", "1", "--collapse")
    assert told.exit_code == 0
    assert "es-latechunk fuses them afterwards (convex, --bm25-weight 0.5)" in told.stderr
    assert "--fusion server prints one request" in told.stderr
    assert told.stderr.rstrip().endswith("does it afterwards: --collapse, --neighbours")
    assert run("search", "city", "--index", letters, "--console", "--mode", "knn", "--collapse").stderr == ""
