"""Commands without a server: data on stdout, one line an error, and the exit code that says it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from commands import error_of, run, run_process
from faults import CutAnswer, FaultProxy, Status
from made_models import mini_lm_folder

from es_latechunk import Document, embed_documents, load_encoder, raise_errors
from es_latechunk.cli import COMMANDS
from es_latechunk.models import measured_pooling
from es_latechunk.node.layout import HOME_VARIABLE
from es_latechunk.types import PoolingOptions

TEXT = "Berlin lies on the Spree. The city is old.\n\nIt has many lakes."
SECRET = "hunter2hunter2"


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster in the environment, and no local node."""
    for name in [name for name in os.environ if name.startswith("ELASTICSEARCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path / "home"))


@pytest.fixture
def document(tmp_path: Path) -> Path:
    path = tmp_path / "berlin.txt"
    path.write_text(TEXT)
    return path


def rows(result: Result | subprocess.CompletedProcess[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_chunk_prints_spans_and_nothing_else(document: Path) -> None:
    result = run("chunk", document, "--max-tokens", "8")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [list(row) for row in rows(result)] == [["doc_id", "ordinal", "start", "end", "content"]] * 3
    assert [(row["doc_id"], row["ordinal"]) for row in rows(result)] == [("berlin.txt", n) for n in range(3)]
    assert all(row["content"] == TEXT[row["start"] : row["end"]] for row in rows(result))  # type: ignore[misc]


def test_embed_prints_unit_vectors_and_late_is_not_naive(document: Path) -> None:
    late, naive = (
        rows(run("embed", document, "--max-tokens", "8", "--dtype", "float32", "--pooling", pooling))
        for pooling in ("late", "naive")
    )
    assert [list(row) for row in late] == [["doc_id", "ordinal", "start", "end", "content", "vector"]] * 3
    for row, other in zip(late, naive, strict=True):
        assert sum(value * value for value in row["vector"]) == pytest.approx(1, abs=1e-5)  # type: ignore[attr-defined]
        assert row["content"] == other["content"]
        assert row["vector"] != other["vector"]


def test_embed_takes_the_settings_of_the_pooling(tmp_path: Path) -> None:
    """Without any, what measured best for the model; options without --pooling change that, with it the rest is off."""
    encoder = load_encoder(dtype="float32")
    measured = measured_pooling(encoder.identity)
    assert measured is not None
    file = tmp_path / "berlin.md"
    file.write_text(f"# Berlin\n\n{TEXT}")
    for given, options in (
        ((), measured.options),
        (("--neighbour-share", "0.4"), replace(measured.options, neighbour_share=0.4)),
        (("--pooling", "blend", "--token-weights", "sif"), PoolingOptions("blend", "sif")),
        (("--pooling", "late", "--late-window", "8"), PoolingOptions("late", late_window=8)),
        (("--embed-title", "0.3"), replace(measured.options, embed_title=0.3)),
    ):
        printed = rows(run("embed", file, "--max-tokens", "8", "--dtype", "float32", *given))
        document_of = [Document("berlin.md", file.read_text(), "Berlin")]
        chunks = embed_documents(document_of, encoder=encoder, max_tokens=8, pooling=options)
        expected = [chunk.vector for chunk in raise_errors(chunks)]
        np.testing.assert_allclose([row["vector"] for row in printed], expected, atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            ("--pooling", "naive", "--late-window", "8"),
            "--late-window 8: naive pooling reads each chunk alone",
        ),
        (("--late-window", "300"), "--late-window 300: choose 3 to 256 tokens"),
    ],
)
def test_poolings_that_cannot_work_are_refused(document: Path, given: tuple[str, ...], message: str) -> None:
    assert message in error_of(run("embed", document, *given), 2)


def test_compare_puts_a_chosen_pooling_in_the_place_of_late(document: Path) -> None:
    asked = ("compare", document, "--max-tokens", "8", "--query", "Berlin", "--dtype", "float32")
    late, blend = rows(run(*asked, "--json")), rows(run(*asked, "--pooling", "blend", "--json"))
    by_chunk = {row["ordinal"]: row for row in blend}
    for row in late:
        other = by_chunk[row["ordinal"]]
        assert row["naive"] == pytest.approx(other["naive"])
        assert row["late"] != pytest.approx(other["late"], abs=1e-4)
    assert run(*asked, "--pooling", "blend").stdout.split()[:4] == ["blend", "rank", "naive", "rank"]


def test_standard_input_in_a_shell(document: Path) -> None:
    done = run_process("chunk", "-", input='{"id": 7, "text": "One. Two."}\n{"id": 8}\nbroken\n{"text": "x"}')
    assert done.returncode == 1
    assert [row["doc_id"] for row in rows(done)] == ["7", "stdin:4"]
    assert done.stderr.splitlines() == [
        'error: stdin:2: (id "8") has no "text"',
        "error: stdin:3: is not JSON (Expecting value at column 1); repair it",
    ]


@pytest.mark.parametrize("command", [["chunk"], ["embed"], ["compare", "--json", "--query", "Berlin"]])
def test_an_id_that_comes_twice_is_named_and_the_first_one_stays(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "a.jsonl").write_text('{"id": "a", "text": "One."}\n{"id": "b", "text": "Two."}\n')
    (tmp_path / "b.jsonl").write_text('{"id": "a", "text": "Three."}\n{"id": "c", "text": "Four."}\n')
    result = run(*command[:1], tmp_path, *command[1:])
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted((row["doc_id"], row["content"]) for row in rows) == [
        ("a", "One."),
        ("b", "Two."),
        ("c", "Four."),
    ]
    assert result.stderr == "error: a: its id was used before in this run; give it another id\n"
    assert result.exit_code == 1


def test_each_bad_document_is_one_line_and_the_others_are_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "b.txt").write_bytes(b"")
    (tmp_path / "c.jsonl").write_text('{"id": "two\\nlines", "text": "\\u200b"}\n{"id": "e\\u001b[31m"}\n')
    os.mkfifo(tmp_path / "d.txt")
    (tmp_path / "e\nf.txt").write_text(TEXT)
    (tmp_path / "z.txt").write_text(TEXT)
    result = run("chunk", tmp_path)
    assert result.exit_code == 1
    assert {row["doc_id"] for row in rows(result)} == {"a.txt", "z.txt"}
    lines = result.stderr.splitlines()
    assert len(lines) == 5
    assert all(line.startswith("error: ") and line.isprintable() for line in lines)
    for line, named in zip(lines, ["b.txt:", "two\\nlines:", 'c.jsonl:2: (id "e\\x1b[31m")', "d.txt:", "e\\nf.txt:"],
                           strict=True):  # fmt: skip
        assert named in line


@pytest.mark.parametrize("path", ["missing.txt", "x" * 400])
@pytest.mark.parametrize(
    "command",
    [
        ["chunk"],
        ["embed"],
        ["compare", "--query", "q"],
        ["ingest", "--index", "i", "--url", "http://127.0.0.1:9"],
    ],
)
def test_a_path_that_is_not_there_is_refused_before_a_server_is_asked_or_a_model_loaded(
    command: list[str], path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("load_encoder", "load_recorded"):
        monkeypatch.setattr(f"es_latechunk.cli.options.shared.{name}", None)
    assert f"{path} cannot be found" in error_of(run(*command, path), 2)


def test_chunk_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    """The tokenizer's file says all that is needed, so a chunker can be tried in a second."""
    (tmp_path / "a.txt").write_text(TEXT)
    code = (
        "import sys\nfrom es_latechunk.cli import main\n"
        f"main(['chunk', {str(tmp_path / 'a.txt')!r}], standalone_mode=False)\n"
        "assert not {'torch', 'transformers', 'openvino', 'elasticsearch'} & sys.modules.keys()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, rows(done)[0]["doc_id"]) == (0, "a.txt"), done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["chunk"],
        ["chunk", "a.txt", "--chunker", "words"],
        ["chunk", "a.txt", "--max-tokens", "0"],
        ["chunk", "a.txt", "--nonsense"],
        ["search", "q"],
        ["search", "q", "--index", "i", "-k", "ten"],
        ["index", "create"],
        ["index", "create", "i", "--shards", "0"],
    ],
)
def test_wrong_usage_exits_with_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Usage: " in result.stderr


@pytest.mark.parametrize(
    "command", [[], *([name] for name in COMMANDS), ["index", "create"], ["node", "start"]]
)
def test_help_is_data(command: list[str]) -> None:
    """That help loads nothing slow is held in test_architecture.py."""
    result = run(*command, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("Usage: ")


def test_help_names_every_command() -> None:
    shown = run("--help").stdout
    assert all(f"  {name}  " in shown for name in COMMANDS)


SERVER_COMMANDS = [
    ["index", "show", "i"],
    ["index", "delete", "i", "--yes"],
    ["index", "create", "i"],
    ["search", "q", "--index", "i"],
]


@pytest.mark.parametrize("command", SERVER_COMMANDS, ids=" ".join)
def test_without_a_server_the_next_step_is_named(command: list[str]) -> None:
    message = error_of(run(*command), 2)
    assert "no Elasticsearch is given and no local node is running" in message
    assert "es-latechunk node start" in message


@pytest.mark.parametrize("command", SERVER_COMMANDS, ids=" ".join)
def test_a_server_that_does_not_answer(command: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    message = error_of(run(*command, "--url", url), 2)
    assert message.startswith(f"{url}: cannot be reached (")
    assert "Connection refused" in message
    assert "es-latechunk node start" in message


@pytest.mark.parametrize("command", SERVER_COMMANDS, ids=" ".join)
@pytest.mark.parametrize("credentials", [["--username", "me", "--password", SECRET], ["--api-key", SECRET]])
def test_wrong_credentials(command: list[str], credentials: list[str]) -> None:
    """Worded as Elasticsearch words it, with no realm but its own."""
    with FaultProxy("http://127.0.0.1:1") as server:
        server.fail(Status(401, "security_exception", f"unable to authenticate [{SECRET}]"), times=9)
        result = run(*command, "--url", server.url, *credentials)
    message = error_of(result, 2)
    assert message.startswith(f"{server.url}: refuses the credentials (401); check --api-key")
    assert SECRET not in message


def test_the_user_may_not(document: Path) -> None:
    with FaultProxy("http://127.0.0.1:1") as server:
        server.fail(Status(403, "security_exception", "action [x] is unauthorized for user [me]"))
        message = error_of(run("index", "show", "i", "--url", server.url), 2)
    assert "the user may not do this (403: action [x] is unauthorized for user [me])" in message


def test_something_else_than_elasticsearch_answers() -> None:
    with FaultProxy("http://127.0.0.1:1") as server:
        server.fail(Status(200, headers=()))
        assert "is not Elasticsearch" in error_of(run("index", "show", "i", "--url", server.url), 2)


class Page(BaseHTTPRequestHandler):
    """Any web server, asked for what it does not have."""

    def do_GET(self) -> None:
        self.send_error(404)

    def do_POST(self) -> None:
        self.send_error(404)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def test_a_web_server_answers() -> None:
    server = HTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        told = error_of(run("search", "x", "--index", "i", "--mode", "bm25", "--url", url), 2)
    finally:
        server.shutdown()
        server.server_close()
    assert told == f"{url}: is not Elasticsearch (its answer with the status 404 is no JSON); check --url"


def test_a_url_with_a_path_that_elasticsearch_does_not_have(elasticsearch_url: str) -> None:
    url = f"{elasticsearch_url}/kibana"
    told = error_of(run("search", "x", "--index", "i", "--mode", "bm25", "--url", url), 2)
    assert told == f"{url}: Elasticsearch has no such path; check --url, which ends in one"


@pytest.mark.parametrize("arguments", [["chunk", "FILE"], ["--help"], ["search", "--help"], ["--version"]])
def test_a_full_disk_is_one_line(document: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        arguments = [str(document) if argument == "FILE" else argument for argument in arguments]
        command = [sys.executable, "-m", "es_latechunk", *arguments]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "error: standard output or a file cannot be written (No space left on device); free space, and run the "
        "command again\n"
    )


def test_a_file_of_questions_is_missed_before_a_document_is_read(tmp_path: Path) -> None:
    (tmp_path / "broken.txt").write_bytes(b"\xff\xfe\x00")
    told = error_of(run("evaluate", "--documents", tmp_path, "--questions", tmp_path / "no.jsonl"), 2)
    assert "no.jsonl: cannot be read (No such file or directory); give a file of JSON lines" in told


def test_an_answer_that_is_cut_off(elasticsearch_url: str) -> None:
    with FaultProxy(elasticsearch_url) as server:
        server.fail(CutAnswer(announced=False))
        message = error_of(run("index", "show", "missing", "--url", server.url), 2)
    assert message.startswith(f"{server.url}: ")


def test_tls_where_none_is_spoken() -> None:
    with FaultProxy("http://127.0.0.1:1") as server:
        url = server.url.replace("http:", "https:")
        message = error_of(run("index", "show", "i", "--url", url), 2)
    assert message.startswith(f"{url}: no trusted TLS connection ([SSL: WRONG_VERSION_NUMBER]")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--url", "localhost:9200"], "--url localhost:9200 is not a URL; write it as http://localhost:9200"),
        (["--url", f"ftp://me:{SECRET}@host:9200"], "--url ftp://***@host:9200 is not a URL"),
        (["--url", "http://localhost"], "--url http://localhost does not work (URL must include"),
        (["--url", f"http://me:{SECRET}@localhost:port"], "--url http://***@localhost:port does not work"),
        (["--url", "http://h:1", "--username", "me"], "--password (ELASTICSEARCH_PASSWORD) is missing"),
        (["--url", "http://h:1", "--password", SECRET], "--username (ELASTICSEARCH_USERNAME) is missing"),
        (["--url", "https://h:1", "--ca-certs", "no.pem"], "--ca-certs no.pem is not a file"),
    ],
)
def test_a_connection_that_cannot_work(options: list[str], message: str) -> None:
    told = error_of(run("index", "show", "i", *options), 2)
    assert message in told
    assert SECRET not in told


def test_a_ca_file_that_holds_no_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    with FaultProxy("http://127.0.0.1:1") as server:
        url = server.url.replace("http:", "https:")
        told = error_of(run("index", "show", "i", "--url", url, "--ca-certs", tmp_path / "ca.pem"), 2)
    assert "--ca-certs" in told


def test_the_environment_stands_in_for_options(monkeypatch: pytest.MonkeyPatch) -> None:
    with FaultProxy("http://127.0.0.1:1") as server:
        server.fail(Status(401), times=9)
        monkeypatch.setenv("ELASTICSEARCH_URL", server.url)
        monkeypatch.setenv("ELASTICSEARCH_API_KEY", SECRET)
        assert "refuses the credentials" in error_of(run("index", "show", "i"), 2)


@pytest.mark.parametrize("command", [["chunk"], ["embed"]])
def test_a_model_folder_without_weights_or_offsets(
    tmp_path: Path, command: list[str], document: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    assert str(model) in error_of(run(*command, document, "--model", model), 2)
    for file in mini_lm_folder().iterdir():
        if file.is_file() and file.suffix == ".json":
            (model / file.name).write_bytes(file.read_bytes())
    without_weights = error_of(run(*command, document, "--model", model, "--assume-mean-pooling"), 2)
    assert without_weights.startswith(f"{model}: neither model.safetensors nor ")
    settings = json.loads((model / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "CanineTokenizer"
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    (model / "tokenizer.json").unlink()
    assert str(model) in error_of(run(*command, document, "--model", model, "--assume-mean-pooling"), 2)


def test_a_model_that_nobody_knows(document: Path) -> None:
    message = error_of(run("chunk", document, "--model", "nobody/nothing", "--offline"), 2)
    assert "nobody/nothing" in message


def test_a_model_that_late_chunking_does_not_fit_says_why(document: Path) -> None:
    message = error_of(run("chunk", document, "--model", "BAAI/bge-m3"), 2)
    assert "BAAI/bge-m3" in message


def test_models_lists_what_is_known() -> None:
    table, listed = run("models"), run("models", "--json")
    assert table.exit_code == listed.exit_code == 0
    names = [row["model"] for row in rows(listed)]
    assert "sentence-transformers/all-MiniLM-L6-v2" in names
    assert len(names) == len(set(names))
    one = rows(run("models", "sentence-transformers/all-MiniLM-L6-v2", "--json"))[0]
    assert (one["dimensions"], one["window"]) == (384, 256)


def test_ctrl_c_leaves_with_130(tmp_path: Path) -> None:
    """While it waits for standard input, as a user meets it."""
    command = [sys.executable, "-m", "es_latechunk", "chunk", "-"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        lines = [b'{"id": "a%d", "text": "One."}\n' % number for number in range(2000)]
        process.stdin.write(b"".join(lines))  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
        assert process.stdout.readline().startswith(b'{"doc_id": "a0"')  # type: ignore[union-attr]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == b"interrupted\n"
    assert all(json.loads(line) for line in out.splitlines())


def test_a_reader_that_has_enough_is_no_error(tmp_path: Path) -> None:
    source = tmp_path / "many.jsonl"
    source.write_text('{"text": "One. Two. Three."}\n' * 20_000)
    command = [sys.executable, "-m", "es_latechunk", "chunk", str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()  # type: ignore[union-attr]
        process.stdout.close()  # type: ignore[union-attr]
        err = process.stderr.read()  # type: ignore[union-attr]
    assert b"Traceback" not in err


def test_a_misspelt_command_is_named_with_the_one_that_is_meant() -> None:
    result = run("serach", "x")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: No such command 'serach'. Did you mean 'search'?"
    assert run("xyz").stderr.splitlines()[-1] == "Error: No such command 'xyz'."


@pytest.mark.parametrize("words", [("How", "many", "people"), ("“How", "many", "people”")])
def test_a_query_without_quotation_marks_is_refused_with_them(words: tuple[str, ...]) -> None:
    told = error_of(run("search", *words, "--index", "notes", "--url", "http://127.0.0.1:9"), 2)
    assert told == f'the query is 3 words without quotation marks: write "{" ".join(words).strip("“”")}"'


@pytest.mark.parametrize("command", [("chunk",), ("embed",), ("compare", "--query", "x")])
def test_a_folder_without_documents_is_said(command: tuple[str, ...], tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run(*command, empty)
    assert done.exit_code == 0
    assert done.stderr.splitlines() == [
        f"warning: no document was found in {empty}; check the path and the patterns"
    ]


def test_pseudo_queries_of_documents_that_are_too_short_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("One sentence.")
    told = error_of(run("evaluate", "--documents", tmp_path, "--make-questions", "5"), 2)
    assert told.startswith("--make-questions: no heading or sentence can be taken out of these documents")


@pytest.mark.parametrize(
    ("short", "whole"),
    [
        ("all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
        ("jina-embeddings-v2-small-en", "jinaai/jina-embeddings-v2-small-en"),
        ("all-minilm-l6-v2", "sentence-transformers/all-MiniLM-L6-v2"),
    ],
)
def test_a_model_without_its_owner_is_named_whole(short: str, whole: str, document: Path) -> None:
    """Before the hub is asked, which knows no such model."""
    told = error_of(run("embed", document, "--model", short), 2)
    assert told == f"model {short}: no such folder, and a hub id has an owner; write {whole}"
    shown = run("models", short)
    assert (shown.exit_code, shown.stderr) == (0, "")
    assert shown.stdout.splitlines()[0].split() == ["model", whole]
