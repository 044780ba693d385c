"""A checkpoint folder's safetensors: which files, which tensors, and one fingerprint for all of them.

Only safetensors are read: a pytorch_model.bin is a pickle, which can run any code when it is opened. Their headers
and values are read by numpy alone, as the library's numpy reader has no bfloat16 and its other one needs torch. The
format: eight bytes with the length of a JSON header, the header (name -> dtype, shape, offsets), the values.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.json_files import read_json_object, read_modules
from es_latechunk.types import FloatArray

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_READ_BYTES = 2**20
_MOST_NAMED = 20  # tensors in a message


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies: `start` counts bytes from the beginning of the file."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    start: int
    end: int


class Checkpoint:
    """A model's folder. Its configuration, its weights' headers and their fingerprint are read once, at the first look.

    `name` is the hub id or the folder's own name; `revision` the hub's commit, if any.
    """

    def __init__(self, path: Path, name: str, revision: str | None = None) -> None:
        self.path = path
        self.name = name
        self.revision = revision

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json; ModelError if it is missing or no JSON object."""
        return read_json_object(self.path / "config.json", self.name)

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """The model's own tensors; ModelError if a file is missing, broken or cut off."""
        return stored_tensors(self.path)

    @cached_property
    def fingerprint(self) -> str:
        """See `weights_fingerprint`; all weights are read for it, a fraction of a second per 100 MB."""
        return weights_fingerprint(self.path)


def weight_files(folder: Path) -> list[Path]:
    """The model's own weights: model.safetensors, or the shards that its index names, sorted.

    ModelError if there is none, or a shard is missing.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    if (folder / INDEX).is_file():
        return _shards(folder)
    pickled = sorted(path.name for path in folder.glob("*.bin"))
    if pickled:
        raise ModelError(
            f"{folder}: weights only as {pickled[0]}, a pickle, which can run any code when it is opened;"
            f" save the model as {SINGLE} (save_pretrained does), or take a revision that has it"
        )
    raise ModelError(f"{folder}: neither {SINGLE} nor {INDEX}; give a folder with a whole checkpoint")


def stored_tensors(folder: Path) -> dict[str, StoredTensor]:
    """All tensors of the model's own weights by name, from the files' headers alone."""
    found: dict[str, StoredTensor] = {}
    for path in weight_files(folder):
        found.update(read_header(path))
    return found


def read_header(file: Path) -> dict[str, StoredTensor]:
    """A file's tensors by name, without their values; ModelError if it is missing, broken or cut off."""
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
            found[name] = StoredTensor(
                file, name, tuple(entry["shape"]), entry["dtype"], base + start, base + end
            )
            if base + end > size:
                raise ValueError("the file is cut off")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{file}: cannot be read ({error}); download the checkpoint again") from error
    return found


def read_array(stored: StoredTensor) -> FloatArray:
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


def find_misfits(
    stored: Mapping[str, StoredTensor], wanted: Mapping[str, tuple[int, ...]], unused: Sequence[str]
) -> str:
    """Compare the stored tensors with the wanted names and shapes; names that begin with one of `unused` may be there.

    Returns "" if all fits, else what is wrong, such as "missing: a, b; misshapen: c is (2, 3), not (3, 3)".
    """
    both = [(stored[name], shape) for name, shape in wanted.items() if name in stored]
    faults = {
        "missing": [name for name in wanted if name not in stored],
        "unexpected": [name for name in stored if name not in wanted and not name.startswith(tuple(unused))],
        "misshapen": [
            f"{each.name} is {each.shape}, not {shape}" for each, shape in both if each.shape != shape
        ],
        "not floating point": [
            f"{each.name} is {each.dtype}" for each, _ in both if each.dtype not in _TYPES
        ],
    }
    return "; ".join(f"{kind}: {_listed(names)}" for kind, names in faults.items() if names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(sorted(names)[:_MOST_NAMED]) + more


def weights_fingerprint(folder: Path) -> str:
    """ "sha256:<hex>" over all weights that shape the vectors.

    One file: its plain SHA-256, the number that a model hub shows for it. Several (shards, the Dense modules after
    pooling, or a task's adapters): the SHA-256 of `sha256sum`'s lines "<hex>  <path>\\n", sorted by path.
    """
    files = weight_files(folder) + _module_files(folder) + _adapter_files(folder)
    digests = {path.relative_to(folder).as_posix(): _sha256(path) for path in files}
    if len(digests) == 1:
        return f"sha256:{next(iter(digests.values()))}"
    lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(digests.items()))
    return f"sha256:{hashlib.sha256(lines.encode()).hexdigest()}"


def _shards(folder: Path) -> list[Path]:
    path = folder / INDEX
    weight_map = read_json_object(path).get("weight_map")
    if not isinstance(weight_map, dict):
        raise ModelError(f"{path}: has no weight_map; download the model again")
    names = set(weight_map.values())
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{path}: names {name!r}, which is no safetensors file of this folder")
        if not (folder / name).is_file():
            raise ModelError(f"{path}: names {name}, which is missing; download the checkpoint again")
    return sorted(folder / name for name in names)


def _module_files(folder: Path) -> list[Path]:
    """List the weights of the modules after the Transformer that modules.json names, such as 2_Dense."""
    files = [folder / subfolder / SINGLE for _, subfolder in read_modules(folder) if subfolder]
    return [file for file in files if file.is_file()]


def _adapter_files(folder: Path) -> list[Path]:
    """List the task adapters of jina-embeddings-v3's `-hf` form; no other model's adapters change the vectors here."""
    found = sorted(folder.glob("*/adapter_model.safetensors"))
    if not found or read_json_object(folder / "config.json").get("model_type") != "jina_embeddings_v3":
        return []
    return found


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
