"""Find the files of paths and folders, always in the same order."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from es_latechunk.errors import DocumentError, UsageError, setting

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

LINK_TO_FOLDER = (
    f"is a link to a folder, which is not followed; name the folder, or {setting('exclude')} the link"
)


CHANGED = "changed since it was listed; run the same command again"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to read, as it was when it was listed: its size in bytes, and the time of its last change in nanoseconds.

    `id` is its path inside the given folder, or its name if the file itself was given.
    """

    path: Path
    id: str
    named: bool  # the user gave the path of this file, not of a folder above it
    size: int
    changed: int

    @property
    def name(self) -> str:
        return self.path.name

    def open(self, start: int = 0, end: int | None = None) -> BinaryIO:
        """Return a stream from `start` on, which can be positioned; a ValueError says that the file has changed.

        `end` is where the caller will probably stop; what comes after it can be read, too.
        """
        stream = self.path.open("rb")
        try:
            self._check(os.fstat(stream.fileno()))
        except ValueError:
            stream.close()
            raise
        stream.seek(start)
        return stream

    open_anywhere = open

    def check_unchanged(self) -> None:
        """Raise a ValueError if the file has changed since it was listed."""
        self._check(self.path.stat())

    def _check(self, now: os.stat_result) -> None:
        if (now.st_size, now.st_mtime_ns) != (self.size, self.changed):
            raise ValueError(CHANGED)


class Selection:
    """Selects files inside a folder by patterns in gitignore syntax, which match the path inside the folder.

    Without `include`, every file is selected that `exclude` does not match. An excluded folder is not read at all.
    """

    def __init__(self, include: Iterable[str] = (), exclude: Iterable[str] = ()) -> None:
        self._include = _patterns(setting("include"), include)
        self._exclude = _patterns(setting("exclude"), exclude)

    def has_file(self, file_id: str) -> bool:
        included = not self._include.patterns or self._include.match_file(file_id)
        return included and not self._exclude.match_file(file_id)

    def has_folder(self, folder_id: str) -> bool:
        return not self._exclude.match_file(f"{folder_id}/")


def _patterns(option: str, patterns: Iterable[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec  # here, so that a search does not wait for it

    lines = list(patterns)
    try:
        return GitIgnoreSpec.from_lines(lines)
    except ValueError as error:
        raise UsageError(
            f"{option}: a pattern is not valid ({error}); use the syntax of .gitignore"
        ) from error


def find_files(paths: Iterable[Path], selection: Selection) -> Iterator[SourceFile | DocumentError]:
    """Yield the regular files of `paths`; folders are walked in sorted order, without hidden files and folders.

    Symbolic links to files are followed. A link to a folder is not, because it could lead in a circle; it becomes a
    DocumentError, and so does anything that is neither a file nor a folder. The selection does not apply to a file
    whose own path was given.
    """
    for path in paths:
        if path.is_dir():
            yield from _walk(path, selection)
        else:
            yield _checked(path, path.name, named=True)


def check_paths(paths: Iterable[Path]) -> None:
    """Raise a UsageError for the first path that does not exist, as that is probably a typing error."""
    for path in paths:
        try:
            path.lstat()
        except OSError as error:
            raise UsageError(
                f"{printable(str(path))} cannot be found ({error.strerror}); check the path"
            ) from error


def _walk(folder: Path, selection: Selection) -> Iterator[SourceFile | DocumentError]:
    unlisted: list[OSError] = []
    for parent, folders, names in os.walk(folder, onerror=unlisted.append):
        yield from map(_cannot_be_listed, unlisted)
        unlisted.clear()
        inside = Path(parent).relative_to(folder)
        folders[:] = sorted(
            name for name in folders if name[0] != "." and selection.has_folder((inside / name).as_posix())
        )
        for name in folders:
            if Path(parent, name).is_symlink():
                yield DocumentError(printable((inside / name).as_posix()), LINK_TO_FOLDER)
        for name in sorted(names):
            file_id = (inside / name).as_posix()
            if name[0] != "." and selection.has_file(file_id):
                yield _checked(Path(parent, name), file_id, named=False)
    yield from map(_cannot_be_listed, unlisted)


def _cannot_be_listed(error: OSError) -> DocumentError:
    return DocumentError(printable(str(error.filename)), f"cannot be listed ({error.strerror})")


def _checked(path: Path, file_id: str, *, named: bool) -> SourceFile | DocumentError:
    cause = name_fault(file_id)
    try:
        found = path.stat()
    except OSError as error:
        cause = cause or f"cannot be read ({error.strerror})"
    else:
        if not stat.S_ISREG(found.st_mode):
            cause = cause or "is not a regular file; pass a file or a folder"
    if cause:
        return DocumentError(printable(file_id), cause)
    return SourceFile(path, file_id, named, found.st_size, found.st_mtime_ns)


def name_fault(file_id: str) -> str:
    """Return why a name gives no id; "" if it gives one."""
    if any("\ud800" <= character <= "\udfff" for character in file_id):
        return "its name is not UTF-8, so it gives no id; rename the file"
    if any(ord(character) < 32 or ord(character) == 127 for character in file_id):
        return "its name holds a control character, so it gives no readable id; rename the file"
    return ""


def printable(name: str) -> str:
    """Return a text as one printable line: control characters and bytes that are not UTF-8 are escaped."""
    escaped = name.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in escaped)
