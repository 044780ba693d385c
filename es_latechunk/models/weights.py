"""A checkpoint folder's safetensors: which files, which tensors, and one fingerprint for all of them.

Only safetensors are read: a pytorch_model.bin is a pickle, which can run any code when it is opened.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from es_latechunk.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_READ_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies, and its shape; its values are not read yet."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str


def weight_files(folder: Path) -> list[Path]:
    """The model's own weights: model.safetensors, or the shards that its index names, sorted.

    ModelError where there is none, or a shard is missing.
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


def read_header(path: Path) -> dict[str, StoredTensor]:
    """A file's tensors by name, without their values. ModelError where it is missing, broken or cut off."""
    found: dict[str, StoredTensor] = {}
    with _opened(path, framework="np") as file:
        for name in file.keys():  # noqa: SIM118 (no mapping: it cannot be iterated)
            part = file.get_slice(name)
            found[name] = StoredTensor(path, name, tuple(part.get_shape()), part.get_dtype())
    return found


def read_tensors(tensors: dict[str, StoredTensor]) -> Iterator[tuple[str, Tensor]]:
    """The tensors' values under the given keys, as stored, on the CPU; each file is opened once."""
    for path in sorted({tensor.file for tensor in tensors.values()}):
        with _opened(path, framework="pt") as file:
            for key, tensor in tensors.items():
                if tensor.file == path:
                    yield key, file.get_tensor(tensor.name)


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
    try:
        names = set(json.loads(path.read_text(encoding="utf-8"))["weight_map"].values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: cannot be read ({error!r}); download the checkpoint again") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise ModelError(f"{path}: names {name!r}, which is no safetensors file of this folder")
        if not (folder / name).is_file():
            raise ModelError(f"{path}: names {name}, which is missing; download the checkpoint again")
    return sorted(folder / name for name in names)


def _module_files(folder: Path) -> list[Path]:
    """Weights of the further modules that sentence-transformers' modules.json lists, such as 2_Dense."""
    path = folder / "modules.json"
    if not path.is_file():
        return []
    try:
        places = [str(module["path"]) for module in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: cannot be read ({error!r}); download the checkpoint again") from error
    files = [folder / place / SINGLE for place in places if place]
    return [file for file in files if file.is_file()]


def _adapter_files(folder: Path) -> list[Path]:
    """Of jina-embeddings-v3's `-hf` form; no other model's adapters are read here."""
    found = sorted(folder.glob("*/adapter_model.safetensors"))
    if not found:
        return []
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder / 'config.json'}: cannot be read ({error}); download it again") from error
    return found if config.get("model_type") == "jina_embeddings_v3" else []


def _opened(path: Path, *, framework: str) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework=framework)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path}: cannot be read ({error}); download the checkpoint again") from error


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_READ_BYTES):
            digest.update(block)
    return digest.hexdigest()
