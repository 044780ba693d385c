"""The rules that a reader of one file cannot see: directions of imports, weight at start, sizes, leaks."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from es_latechunk.cli import COMMANDS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "es_latechunk"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each room may import what stands to its left. The package's own __init__ is the front door: it stands
# outside, and nothing inside goes through it.
FOUNDATION = ("types", "errors", "hidden_imports", "keywords", "stages", "threads")
ROOMS = ("documents", "chunking", "late", "models", "node", "elastic")
EDGES = (
    "report",
    "embed",
    "bootstrap",
    "target",
    "ingest_stages",
    "scale",
    "ingest",
    "dry_run",
    "search",
    "index",
    "async_index",
    "evaluation",
    "serve",
    "quickstart",
    "cli",
    "__main__",
)
ORDER = (*FOUNDATION, *ROOMS, *EDGES)
# The same inside the largest rooms; a file of theirs that stands in no room of its own may use all of these.
INNER_ROOMS = {
    "documents": ("remote", "formats"),
    "elastic": ("connection", "retry", "index", "write", "search"),
    "models": ("registry", "hardware", "checkpoint", "native", "local"),
    "evaluation": ("questions", "vectors", "search", "results", "html"),
    "cli": ("output", "options"),
}

TORCH = {"torch", "transformers", "sentence_transformers", "safetensors", "tokenizers"}
ELASTICSEARCH = {"elasticsearch", "elastic_transport"}
WEB = {"httpx", "starlette", "uvicorn", "pydantic", "orjson", "prometheus_client"}
SLOW_TO_IMPORT = TORCH | ELASTICSEARCH | WEB | {"rich", "jgo", "lxml", "openvino"}

HELP = [[], *([name] for name in COMMANDS if (PACKAGE / "cli" / f"{name}.py").is_file())]

LONGEST_FILE = 500
# Written so that no pattern finds itself.
REGISTRIES = re.compile(
    r"py[p]i\.org|python[h]osted|rep[o]1?\.maven|maven\.[a]pache\.org/maven2|sona[t]ype|registry\.[n]pmjs"
)
MACHINE_PATHS = re.compile(r"(?<![\w.-])/(?:wor[k]|roo[t]|far[m]|User[s]|tm[p]/venv)/")
UNFINISHED = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X]|HAC[K])\b")
NOT_OURS = {"build", "dist", "__pycache__", "node_modules"}


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Absolute dotted names of all that a file imports, inside functions too."""
    package = ["es_latechunk", *path.relative_to(PACKAGE).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{module}.{alias.name}" for alias in node.names)


def rooms_imported(path: Path) -> set[str]:
    names = [name.split(".") for name in imports(path)]
    return {parts[1] for parts in names if parts[0] == "es_latechunk" and len(parts) > 1}


def libraries_imported(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)}


def repository_files() -> Iterator[Path]:
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [s for s in subfolders if s == ".ci" or not (s[0] == "." or s in NOT_OURS)]
        yield from (Path(folder) / name for name in names if name not in (".env", ".git"))


def texts() -> Iterator[tuple[Path, str]]:
    for path in repository_files():
        try:
            yield path, path.read_text(encoding="utf8")
        except UnicodeDecodeError:
            continue


def places(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in texts()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_imports_go_one_way(path: Path) -> None:
    here, there = room(path), rooms_imported(path)
    if here == "__init__":
        assert there <= set(ORDER)
    elif here in FOUNDATION:
        assert there <= set(FOUNDATION)
    else:
        assert there <= set(ORDER[: ORDER.index(here) + 1])


@pytest.mark.parametrize(
    ("outer", "path"),
    [
        pytest.param(outer, path, id=path.relative_to(PACKAGE).as_posix())
        for outer, rooms in INNER_ROOMS.items()
        for path in sorted((PACKAGE / outer).rglob("*.py"))
        if path.relative_to(PACKAGE / outer).parts[0].removesuffix(".py") in rooms
    ],
)
def test_imports_go_one_way_inside_a_room(outer: str, path: Path) -> None:
    rooms = INNER_ROOMS[outer]
    here = path.relative_to(PACKAGE / outer).parts[0].removesuffix(".py")
    names = [name.split(".") for name in imports(path)]
    there = {parts[2] for parts in names if parts[:2] == ["es_latechunk", outer] and len(parts) > 3}
    assert there & set(rooms) <= set(rooms[: rooms.index(here) + 1])


def test_imports_are_read_as_python_means_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    (tmp_path / "late").mkdir()
    path = tmp_path / "late" / "pool.py"
    path.write_text(
        "from ..cli import main\nfrom . import batches\nfrom .. import node\n"
        "def late_import():\n    import es_latechunk.elastic.bulk\n"
    )
    assert rooms_imported(path) == {"cli", "late", "node", "elastic"}


def test_elastic_knows_no_model() -> None:
    assert [path for path in MODULES if room(path) == "elastic" and "models" in rooms_imported(path)] == []


def test_only_models_imports_torch() -> None:
    assert {room(path) for path in MODULES if libraries_imported(path) & TORCH} <= {"models"}


def test_nothing_before_the_node_knows_elasticsearch() -> None:
    knowing = {room(path) for path in MODULES if libraries_imported(path) & ELASTICSEARCH}
    assert not knowing & {*FOUNDATION, *ROOMS[: ROOMS.index("node")]}


@pytest.mark.parametrize(
    "code",
    [
        "import es_latechunk",
        "import es_latechunk.cli",
        *(
            f"from es_latechunk.cli import main; main({[*name, '--help']}, standalone_mode=False)"
            for name in HELP
        ),
    ],
)
def test_starting_and_help_load_nothing_slow(code: str) -> None:
    report = "import sys; print('LOADED', *sys.modules)"
    done = subprocess.run([sys.executable, "-c", f"{code}; {report}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.rpartition("LOADED")[2].split())
    assert "es_latechunk" in loaded
    assert SLOW_TO_IMPORT & loaded == set()


def test_no_file_is_too_long() -> None:
    lengths = {path: len(text.splitlines()) for path, text in texts() if path.suffix == ".py"}
    assert {path.name: n for path, n in lengths.items() if n > LONGEST_FILE} == {}


def test_the_whole_repository_is_read() -> None:
    read = {path.relative_to(ROOT).as_posix() for path in repository_files()}
    assert {"README.md", "Makefile", ".ci/run", "es_latechunk/types.py", "tests/test_architecture.py"} <= read


def test_no_file_names_a_package_registry() -> None:
    assert places(REGISTRIES) == []


def test_no_file_names_a_place_on_one_machine() -> None:
    assert places(MACHINE_PATHS) == []


def test_nothing_is_left_unfinished() -> None:
    assert places(UNFINISHED) == []
