"""Which Elasticsearch runs on which Java.

The distribution is Elastic's own build for integration tests: the real server with vector search, without
the modules around it. Version 9.3 and later need modules that only a full JDK has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from es_latechunk.errors import NodeError, UsageError, setting
from es_latechunk.node.java import JavaRuntime

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
        f"pip install 'es-latechunk[local]' brings one for 9.2.4, or give {setting('java_home')}"
    )


def version_of(elasticsearch_home: Path) -> str:
    """The version of an unpacked distribution. Raises NodeError if it is none."""
    for jar in sorted((elasticsearch_home / "lib").glob("elasticsearch-*.jar")):
        if found := _SERVER_JAR.fullmatch(jar.name):
            return found[1]
    raise NodeError(f"{elasticsearch_home}: no lib/elasticsearch-VERSION.jar; name an unpacked distribution")
