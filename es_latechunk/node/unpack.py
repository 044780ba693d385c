"""Unpacks a distribution's zip: all of it or nothing, and nothing outside its folder."""

from __future__ import annotations

import shutil
import stat
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from es_latechunk.errors import NodeError


def unpacked_size(archive: Path) -> int:
    """Bytes that the archive's files take when unpacked."""
    try:
        with zipfile.ZipFile(archive) as opened:
            return sum(member.file_size for member in opened.infolist())
    except zipfile.BadZipFile as error:
        raise NodeError(f"{archive}: not a zip archive ({error}); delete it and start again") from error


def unpack(archive: Path, target: Path) -> None:
    """Unpacks the archive's single top folder as `target`, by a temporary folder and a rename.

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
