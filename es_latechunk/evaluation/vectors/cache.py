"""A bounded cache of arrays on disk, which several processes may share."""

from __future__ import annotations

import os
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

DEFAULT_CACHE_BYTES = 4 * 1024**3
WRITTEN_SHARE = 0.05  # the folder is measured each time that this share of the limit has been written
KEPT_SHARE = 0.9  # what stays if the limit is reached, so that not every further file removes another one
SUFFIX, PARTIAL = ".npz", ".partial"

Arrays = dict[str, npt.NDArray[Any]]


def default_cache_folder() -> Path:
    """Return the user's cache folder for this program: below XDG_CACHE_HOME, ~/.cache, or ~/Library/Caches on macOS."""
    home = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or home) / "es-latechunk" / "evaluate"


class ArrayCache:
    """Files of named arrays in a folder of at most `max_bytes`; those that were used longest ago are removed first.

    A file appears under its name only when it is complete, and its checksums are tested when it is read: one that is
    broken is removed, and counts as missing. Two processes that write the same key write the same arrays. A folder that
    cannot be written is used for reading alone.
    """

    def __init__(self, folder: Path, *, max_bytes: int = DEFAULT_CACHE_BYTES) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._unmeasured = max_bytes  # so that the first file that is written has the folder measured
        self.hits = self.misses = 0

    def get(self, key: str) -> Arrays | None:
        """Return the arrays of a key, or None."""
        path = self._path(key)
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            self.misses += 1
            return None
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
            with suppress(OSError):
                path.unlink()
            self.misses += 1
            return None
        with suppress(OSError):
            os.utime(path)  # the time of the last use
        self.hits += 1
        return arrays

    def put(self, key: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        """Keep arrays; what does not fit into the cache at all, or on the disk, is not kept."""
        size = sum(array.nbytes for array in arrays.values())
        if size > self._max_bytes * KEPT_SHARE:
            return
        path = self._path(key)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._write(path, arrays)
        self._unmeasured += size
        if self._unmeasured >= self._max_bytes * WRITTEN_SHARE:
            self._unmeasured = 0
            self._shrink()

    def _write(self, path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=PARTIAL)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, **dict(arrays))  # type: ignore[arg-type]
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise

    def _shrink(self) -> None:
        """Remove the files that were used longest ago, if all together may pass the limit before the next measurement.

        What a killed process has left half-written counts and goes in the same way.
        """
        files = []
        for path in self._folder.glob("*/*"):
            with suppress(OSError):
                facts = path.stat()
                files.append((facts.st_mtime_ns, facts.st_size, path))
        total = sum(size for _, size, _ in files)
        if total <= self._max_bytes * (1 - WRITTEN_SHARE):
            return
        for _, size, path in sorted(files):
            if total <= self._max_bytes * KEPT_SHARE:
                return
            with suppress(OSError):
                path.unlink()
                total -= size

    def _path(self, key: str) -> Path:
        return self._folder / key[:2] / f"{key}{SUFFIX}"
