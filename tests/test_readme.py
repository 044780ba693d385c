"""The README from top to bottom, pasted line by line into one shell, in a fresh clone with an empty home.

Three things are not as on a reader's machine. `<this repository>` is this checkout, with its uncommitted changes. The
clone's .venv is made at once: its libraries are those that run the tests, and its es-latechunk is the clone's own. The
local node runs before `make quickstart`, on a free port and from a release that was fetched before, so that neither
9200 nor a download is needed. A block below a comment that begins with "not run by the tests" is left out.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import HEAP, free_port, versions_here

from es_latechunk.node.install import installed
from es_latechunk.node.layout import HOME_VARIABLE

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
BLOCK = re.compile(
    r"(?:^<!-- not run by the tests: (?P<reason>[^\n]+) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```",
    re.MULTILINE | re.DOTALL,
)
BLOCKS = list(BLOCK.finditer(README.read_text("utf-8")))
OURS = re.compile(
    r"ES_|ELASTICSEARCH_|XDG_|GIT_|MAKE|VIRTUAL_ENV|PYTHON|HF_"
)  # variables that a reader does not have
STEP = re.compile(r"^@@ (.*)\n((?:.*\n)*?)@@ exit (\d+)\n", re.MULTILINE)


def readers_lines() -> list[str]:
    """What a reader pastes: each line of a block for the shell, and each block of Python as a whole."""
    lines = []
    for block in BLOCKS:
        if not block["reason"] and block["language"] == "sh":
            lines += block["text"].splitlines()
        elif not block["reason"] and block["language"] == "python":
            lines.append(f"python3 -i -q <<'END'\n{block['text']}\nEND")
    return lines


@pytest.fixture
def environment(node_home: Path) -> Iterator[dict[str, str]]:
    """The variables of a shell whose home is an empty folder, beside an empty one to work in.

    Not below pytest's own folder: the account that root's server runs as could not go there.
    """
    folder = Path(tempfile.mkdtemp(prefix="es-latechunk-readme-"))
    folder.chmod(0o711)
    for name in ("home", "work"):
        (folder / name).mkdir()
    release = installed(folder / "state", versions_here()[-1])
    release.parent.mkdir(parents=True)
    release.symlink_to(installed(node_home, versions_here()[-1]))
    path = [
        place for place in os.environ["PATH"].split(os.pathsep) if not (Path(place) / "es-latechunk").exists()
    ]
    kept = {name: value for name, value in os.environ.items() if not OURS.match(name)}
    yield {
        **kept,
        "HOME": str(folder / "home"),
        "PATH": os.pathsep.join(path),
        HOME_VARIABLE: str(folder / "state"),
        "ES_JAVA_OPTS": os.environ["ES_JAVA_OPTS"],
    }
    shutil.rmtree(folder)


def clone(line: str, environment: dict[str, str], folder: Path) -> Path:
    """Run the README's first line; gives the clone, with this checkout's uncommitted changes and a .venv."""
    settings = folder / "gitconfig"
    settings.write_text("[safe]\n\tdirectory = *\n")  # the checkout may belong to another user
    command, _, then = line.replace("<this repository>", f"'{ROOT}'").partition(" && ")
    made = environment | {"GIT_CONFIG_GLOBAL": str(settings)}
    subprocess.run(["sh", "-c", command], cwd=folder / "work", env=made, check=True)
    target = folder / "work" / then.removeprefix("cd ")
    listed = ["git", "-c", "safe.directory=*", "ls-files", "-mdoz", "--exclude-standard"]
    changed = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, changed.split("\0")):
        if (ROOT / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
        else:
            (target / name).unlink(missing_ok=True)
    make_environment(target)
    return target


def make_environment(target: Path) -> None:
    """Make .venv as `make quickstart` would leave it, from the libraries of this Python."""
    home = target / ".venv"
    venv.create(home, symlinks=True)
    [site] = home.glob("lib/python*/site-packages")
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "clone.pth").write_text("\n".join([str(target), *libraries]), encoding="utf-8")
    command = home / "bin" / "es-latechunk"
    command.write_text(f"#!{home}/bin/python\nfrom es_latechunk.cli import main\nmain()\n", encoding="utf-8")
    command.chmod(0o755)
    (home / "local-is-installed").touch()


def paste(lines: list[str], environment: dict[str, str], folder: Path) -> list[tuple[str, str]]:
    """Run the lines in one bash until one of them fails; gives each with what it prints on both channels."""
    steps = "".join(
        f"echo '@@ {number}'\n{{\n{line}\n}} </dev/null\ns=$?; echo; echo \"@@ exit $s\"; [ $s = 0 ] || exit $s\n"
        for number, line in enumerate(lines)
    )
    shell = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", steps],
        cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=900,
    )  # fmt: skip
    pasted = [(lines[int(number)], output) for number, output, _ in STEP.findall(shell.stdout)]
    assert shell.returncode == 0, shell.stdout[-3000:]
    assert len(pasted) == len(lines)
    return pasted


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs a checkout to clone")
def test_the_readme_can_be_pasted_from_top_to_bottom(environment: dict[str, str]) -> None:
    first, *others = readers_lines()
    assert first.startswith("git clone <this repository> ")
    folder = Path(environment["HOME"]).parent
    target = clone(first, environment, folder)
    node = [target / ".venv/bin/es-latechunk", "node"]
    start = [*node, "start", "--port", str(free_port()), "--heap", HEAP]
    subprocess.run(start, cwd=folder, env=environment, check=True, capture_output=True)
    try:
        pasted = paste(others, environment, target)
    finally:
        subprocess.run([*node, "stop"], cwd=folder, env=environment, check=True, capture_output=True)
    for line, output in pasted:
        assert not re.search(r"Traceback|^error|\bError\b", output, re.MULTILINE), f"{line}\n{output}"

    def printed(*words: str) -> str:
        """What the first line with all of these words prints."""
        return next(output for line, output in pasted if all(word in line for word in words))

    assert "\n3  Ten short articles" in printed("make quickstart")
    assert "About 550,000 people" in printed("search", "Lisbon").splitlines()[0]
    assert "6 documents, 6 chunks: 6 indexed" in printed("ingest notes/")
    assert "\toslo.md#0\t" in printed("search", "Norwegian").splitlines()[0]
    filtered = printed("--filter", "lang=en")
    assert '"doc_id": "b1"' in filtered
    assert "berlin.txt" not in filtered
    assert "late    rank   naive    rank" in printed("compare")
    assert '"indexed": 0' in printed("--prune")
    assert "would write 0 chunks" in printed("--dry-run")
    python = printed("python3 -i")
    assert "berlin 0 Berlin lies on the Spree. The city has 3.6 million inhabitants. (384,)" in python
    assert "failed=0" in python
    assert "3.6 million" in printed("chunk notes/berlin.txt")
    assert "POST /notes/_msearch\n{}\n" in printed("search", "--console")


def test_few_blocks_are_left_out_and_each_other_one_is_run() -> None:
    languages = [block["language"] for block in BLOCKS]
    assert set(languages) == {"sh", "python", "text"}
    assert languages.count("text") == 1, "the picture of how it works"
    assert len([block for block in BLOCKS if block["reason"]]) <= 3


def test_links_in_the_readme_lead_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text("utf-8"))
    assert links
    assert [link for link in links if not (README.parent / link).exists()] == []


def test_the_calls_that_contributing_reads_aloud_visit_files_and_functions_that_exist() -> None:
    root = README.parent
    page = (root / "CONTRIBUTING.md").read_text("utf-8").partition("read aloud\n")[2].partition("\n## ")[0]
    calls = re.split(r"^`\w+\(.*\)`:$", page, flags=re.MULTILINE)[1:]
    assert len(calls) == 2
    for call in calls:
        steps = re.findall(r"^\d+\. `([\w/]+\.py)`: ((?:`\w+`,? )+)", call, re.MULTILINE)
        assert len(steps) == len(re.findall(r"^\d+\. ", call, re.MULTILINE))
        assert len({file for file, _ in steps}) == len(steps), "a file is visited twice"
        for file, names in steps:
            code = (root / "es_latechunk" / file).read_text("utf-8")
            for name in re.findall(r"\w+", names):
                assert re.search(rf"^(?:def|class) {name}\b", code, re.MULTILINE), f"{file} has no {name}"
