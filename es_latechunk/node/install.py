"""Get a release of Elasticsearch onto this machine: fetched by jgo, checked, unpacked once, all of it or nothing."""

from __future__ import annotations

import hashlib
import logging
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path, PurePosixPath

from es_latechunk.errors import NodeError, setting
from es_latechunk.node.java import RELEASES
from es_latechunk.node.layout import make_folder


def unpacked_size(archive: Path) -> int:
    """Bytes that the archive's files take when unpacked."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return sum(member.file_size for member in opened.infolist())
    except zipfile.BadZipFile as error:
        raise NodeError(f"{archive}: not a zip archive ({error}); delete it and start again") from error


def unpack(archive: Path, target: Path) -> None:
    """Unpack the archive's single top folder as `target`, by a temporary folder and a rename.

    Raises NodeError for links and for names that are absolute or lead outside.
    """
    temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [(member, member_path(member)) for member in opened.infolist()]
            for member, path in members:
                _extract(opened, member, temporary.joinpath(path))
        tops = list(temporary.iterdir())
        if len(tops) != 1:
            raise NodeError(
                f"{archive}: expected one top folder, found {len(tops)}; delete it and start again"
            )
        tops[0].rename(target)
    except (zipfile.BadZipFile, EOFError) as error:
        raise NodeError(f"{archive}: damaged archive ({error}); delete it and start again") from error
    finally:
        shutil.rmtree(temporary)


def member_path(member: zipfile.ZipInfo) -> PurePosixPath:
    """Where a member belongs below the target. Raises NodeError if that is not below it."""
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or not path.parts:
        raise NodeError(f"archive member {member.filename!r} leads outside the archive's folder: refused")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise NodeError(f"archive member {member.filename!r} is a link or a special file: refused")
    return path


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> None:
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        path.chmod(0o755)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, path.open("xb") as file:
        shutil.copyfileobj(source, file)
    # Readable by the account that the server runs as, writable by none but the owner.
    path.chmod(0o755 if (member.external_attr >> 16) & stat.S_IXUSR else 0o644)


Progress = Callable[[str], None]
_GROUP, _ARTIFACT = "org.elasticsearch.distribution.integ-test-zip", "elasticsearch"
_MEGABYTE = 1_000_000


def installed(home: Path, version: str) -> Path:
    """Where a release is, or would be, unpacked."""
    return home / "elasticsearch" / version


def install(home: Path, version: str, *, progress: Progress) -> Path:
    """The unpacked release; fetched, checked and unpacked the first time only."""
    target = installed(home, version)
    if target.is_dir():
        return target
    make_folder(target.parent)
    progress(f"Getting Elasticsearch {version} (100 MB, the first time only)")
    archive = _checked_archive(version, progress)
    check_space(target.parent, unpacked_size(archive), f"unpacking Elasticsearch {version}")
    progress(f"Unpacking Elasticsearch {version}")
    unpack(archive, target)
    return target


def check_space(folder: Path, needed: int, purpose: str) -> None:
    """Raises NodeError if fewer than `needed` bytes are free where `folder` is."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise NodeError(
            f"{folder}: {purpose} needs {needed / _MEGABYTE:.0f} MB, and {free / _MEGABYTE:.0f} MB are free; "
            "make room, or set ES_LATECHUNK_HOME to a folder on another disk"
        )


def _checked_archive(version: str, progress: Progress) -> Path:
    archive = _resolve(version, progress)
    if _sha512(archive) != RELEASES[version]:
        # A download that was cut off stays in the cache under its full name.
        progress(f"{archive} is damaged: fetching it again")
        archive.unlink()
        archive = _resolve(version, progress)
    if (found := _sha512(archive)) != RELEASES[version]:
        raise NodeError(
            f"{archive}: SHA-512 is {found[:16]}..., expected {RELEASES[version][:16]}...; "
            "it is not the published file, so it was not unpacked"
        )
    return archive


def _resolve(version: str, progress: Progress) -> Path:
    try:
        from jgo.maven import MavenContext, PythonResolver
        from requests import RequestException
    except ImportError as error:
        raise NodeError(
            "fetching Elasticsearch needs jgo: pip install 'es-latechunk[node]', "
            f"or give {setting('elasticsearch_home')} with a distribution that you have"
        ) from error
    context = MavenContext(resolver=PythonResolver(progress_callback=_download_progress(progress)))
    component = context.project(_GROUP, _ARTIFACT).at_version(version)
    logger = logging.getLogger("jgo")
    level = logger.level
    logger.setLevel(logging.ERROR)  # `progress` says what it would say
    try:
        return Path(component.artifact(packaging="zip").resolve())
    except (RequestException, RuntimeError, OSError) as error:
        raise NodeError(
            f"Elasticsearch {version} could not be fetched ({error}); check the network and the disk, "
            f"or give {setting('elasticsearch_home')} with a distribution that you have"
        ) from error
    finally:
        logger.setLevel(level)


def _download_progress(
    progress: Progress,
) -> Callable[[str, int], AbstractContextManager[Callable[[int], None]]]:
    @contextmanager
    def report(filename: str, size: int) -> Iterator[Callable[[int], None]]:
        done = reported = 0

        def advance(count: int) -> None:
            nonlocal done, reported
            done += count
            if done * 10 // size > reported:
                reported = done * 10 // size
                progress(f"{filename}: {done // _MEGABYTE} of {size // _MEGABYTE} MB")

        yield advance

    return report


def _sha512(path: Path) -> str:
    digest = hashlib.sha512()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
