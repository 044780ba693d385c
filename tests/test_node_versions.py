"""Which Elasticsearch on which Java, from fake JDK folders and from plain values."""

import os
from pathlib import Path

import pytest

from es_latechunk.errors import NodeError, UsageError
from es_latechunk.node.account import Account
from es_latechunk.node.java import (
    JavaRuntime,
    ask,
    best_runtime,
    choose,
    find_runtimes,
    needs,
    numbers,
    readable_runtime,
    runtime_at,
    version_of,
)

FULL = ("jdk.incubator.vector", "jdk.jdi", "jdk.jlink")


def runtime(version: str, *modules: str) -> JavaRuntime:
    return JavaRuntime(Path("/jdk") / version, version, frozenset({"java.base", *modules}))


def fake_jdk(home: Path, version: str, *modules: str) -> Path:
    """A folder whose bin/java answers as a JDK of that version does."""
    lines = "\n".join(f"{module}@{version}" for module in ("java.base", *modules))
    java = home / "bin" / "java"
    java.parent.mkdir(parents=True)
    java.write_text(f"#!/bin/sh\ncat <<'EOF'\n{lines}\nEOF\n")
    java.chmod(0o755)
    return home


@pytest.mark.parametrize(
    ("runtimes", "expected"),
    [
        ([runtime("25.0.3", *FULL)], ("9.5.0", "25.0.3")),
        ([runtime("21", *FULL)], ("9.5.0", "21")),
        ([runtime("25.0.2")], ("9.2.4", "25.0.2")),
        ([runtime("17.0.15", *FULL), runtime("25.0.2")], ("9.2.4", "25.0.2")),
        ([runtime("25.0.2"), runtime("21.0.1", *FULL)], ("9.5.0", "21.0.1")),
        ([runtime("25", "jdk.incubator.vector")], ("9.2.4", "25")),
    ],
)
def test_newest_version_that_a_java_here_runs(runtimes: list[JavaRuntime], expected: tuple[str, str]) -> None:
    version, java = choose(runtimes, None)
    assert (version, java.version) == expected


def test_a_forced_version_prefers_the_java_with_vector_instructions() -> None:
    _, java = choose([runtime("25.0.2"), runtime("21", *FULL)], "9.2.4")
    assert java.version == "21"


def test_no_java_that_fits_is_told_with_both_versions_and_the_way_out() -> None:
    with pytest.raises(NodeError, match=r"Java 21 or later.*Java 17\.0\.15.*es-latechunk\[node\]"):
        choose([runtime("17.0.15", *FULL)], None)
    with pytest.raises(NodeError, match=r"9\.5\.0.*lacks jdk\.incubator\.vector, jdk\.jdi, jdk\.jlink"):
        choose([runtime("25.0.2")], "9.5.0")
    with pytest.raises(NodeError, match="no Java was found"):
        choose([], None)


def test_an_unknown_version_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"8\.1\.1.*9\.5\.0, 9\.2\.4"):
        choose([runtime("25", *FULL)], "8.1.1")


def test_what_other_distributions_need() -> None:
    assert needs("8.19.1").java == 17
    assert needs("9.2.9").modules == frozenset()
    assert "jdk.jdi" in needs("9.3.0").modules
    assert numbers("9.10.0-SNAPSHOT") > numbers("9.9.1")


def test_best_runtime_keeps_the_order_they_were_found_in() -> None:
    first, second = runtime("21.0.1", *FULL), runtime("25.0.3", *FULL)
    assert best_runtime([first, second], "9.5.0") is first
    assert best_runtime([], "9.5.0") is None


def test_a_java_is_asked_for_its_version_and_modules(tmp_path: Path) -> None:
    found = ask(fake_jdk(tmp_path / "jdk", "25.0.3", *FULL))
    assert found is not None
    assert (found.major, found.modules) == (25, frozenset({"java.base", *FULL}))


@pytest.mark.parametrize(
    "script", ["exit 1", "echo 'Unrecognized option: --list-modules'; exit 1", "echo hello"]
)
def test_what_does_not_answer_as_a_java_is_none(tmp_path: Path, script: str) -> None:
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text(f"#!/bin/sh\n{script}\n")
    java.chmod(0o755)
    assert ask(tmp_path) is None
    with pytest.raises(NodeError, match="version 9 or later"):
        runtime_at(tmp_path)


def test_an_empty_folder_is_no_java(tmp_path: Path) -> None:
    assert ask(tmp_path) is None


def test_the_environment_and_the_path_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = fake_jdk(tmp_path / "named", "21.0.9")
    on_path = fake_jdk(tmp_path / "on path", "22.0.1")
    link = tmp_path / "links" / "java"
    link.parent.mkdir()
    link.symlink_to(on_path / "bin" / "java")
    monkeypatch.delenv("ES_JAVA_HOME", raising=False)
    monkeypatch.setenv("JAVA_HOME", str(named))
    monkeypatch.setenv("PATH", str(link.parent), prepend=os.pathsep)
    assert [found.version for found in find_runtimes()][:2] == ["21.0.9", "22.0.1"]


def test_a_java_that_the_server_cannot_run_is_copied(tmp_path: Path) -> None:
    class Closed(Account):
        """Cannot run what lies in the caller's own folder."""

        def run(self, command, **options):  # type: ignore[no-untyped-def]
            if "closed" in str(command[0]):
                raise PermissionError
            return super().run(command, **options)

    original = runtime_at(fake_jdk(tmp_path / "closed", "25.0.2"))
    copy = readable_runtime(original, Closed(None), tmp_path / "java")
    assert copy.home.parent == tmp_path / "java"
    assert copy.home.name.startswith("25.0.2-")
    assert readable_runtime(original, Closed(None), tmp_path / "java") == copy
    assert readable_runtime(original, Account(None), tmp_path / "java") is original


def test_a_distribution_names_its_version_by_its_jar(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    with pytest.raises(NodeError, match="unpacked distribution"):
        version_of(tmp_path)
    for jar in ("elasticsearch-core-9.4.1.jar", "elasticsearch-9.4.1.jar"):
        (tmp_path / "lib" / jar).touch()
    assert version_of(tmp_path) == "9.4.1"
