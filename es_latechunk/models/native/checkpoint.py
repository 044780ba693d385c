"""Weights from safetensors as float32 arrays, by numpy alone: nothing here imports torch.

The format: eight bytes with the length of a JSON header, the header (name -> dtype, shape, place), the values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.types import FloatArray

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies: `start` counts bytes from the beginning of the file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    end: int


def read_headers(files: Iterable[Path]) -> dict[str, Stored]:
    """The tensors of all files of a checkpoint."""
    return {name: stored for file in files for name, stored in read_header(file).items()}


def read_header(file: Path) -> dict[str, Stored]:
    """The tensors of a safetensors file; ModelError where the header is broken or the file is cut off."""
    try:
        size = file.stat().st_size
        with file.open("rb") as opened:
            first = opened.read(8)
            length = int.from_bytes(first, "little")
            if len(first) < 8 or 8 + length > size:
                raise ValueError("the file is cut off")
            header = json.loads(opened.read(length))
        base = 8 + length
        found = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            start, end = entry["data_offsets"]
            found[name] = Stored(file, name, tuple(entry["shape"]), entry["dtype"], base + start, base + end)
            if base + end > size:
                raise ValueError("the file is cut off")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); download the checkpoint again") from error
    return found


def read_array(stored: Stored) -> FloatArray:
    """A tensor's values as float32, a copy of what is in the file now; ModelError for what is no floating point."""
    if stored.dtype not in _TYPES:
        raise ModelError(
            f"{stored.file}: {stored.name} is {stored.dtype}, not one of {', '.join(_TYPES)}; choose another model"
        )
    kind = np.dtype(_TYPES[stored.dtype])
    count = (stored.end - stored.start) // kind.itemsize
    raw = np.fromfile(stored.file, kind, count, offset=stored.start)
    if stored.dtype == "BF16":
        return (raw.astype(np.uint32) << 16).view(np.float32).reshape(stored.shape)
    return np.asarray(raw, np.float32).reshape(stored.shape)


def fits(stored: Mapping[str, Stored], wanted: Mapping[str, tuple[int, ...]], unused: Sequence[str]) -> bool:
    """Whether a checkpoint has the wanted tensors, with these shapes, and nothing beside them but `unused` names."""
    rest = [name for name in stored if name not in wanted and not name.startswith(tuple(unused))]
    return not rest and all(
        name in stored and stored[name].shape == shape and stored[name].dtype in _TYPES
        for name, shape in wanted.items()
    )
