"""The family of a checkpoint, and whether the checkpoint itself or only its name says so."""

from __future__ import annotations

import re
from dataclasses import dataclass

from es_latechunk.models.checkpoint.weights import SINGLE, Checkpoint
from es_latechunk.models.registry import (
    FAMILIES,
    MINILM,
    Family,
    MeasuredPooling,
    find_family,
    match_config,
)
from es_latechunk.types import EncoderIdentity

# Published weights that are recognised byte for byte: (file size, fingerprint) -> hub id. Comparing the size first
# means that hardly any other file has to be read and hashed.
KNOWN_WEIGHTS = {
    (90_868_376, "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"): MINILM,
}
CACHE = "models--"  # a hub's cache keeps owner/name in the folder models--owner--name


@dataclass(frozen=True, slots=True)
class FamilyMatch:
    """The families that a checkpoint matches, from the strongest evidence to the weakest.

    `listed`: the family that lists this very model, so that its pooling and Matryoshka sizes apply.
    `trained_like`: the family whose prefixes and window apply, because this model was trained in the same way.
    `by_name`: nothing but the folder's name is evidence for `trained_like`.
    `similar_name`: a family with prefixes whose name the model's name only resembles; nothing of it is applied.
    """

    listed: Family | None
    trained_like: Family | None
    by_name: bool
    similar_name: Family | None


def measured_pooling(identity: EncoderIdentity) -> MeasuredPooling | None:
    """Return the pooling that measured best for these very weights, in the window that they were measured in."""
    for (_, weights), name in KNOWN_WEIGHTS.items():
        family = find_family(name)
        if identity.weights == weights and family and identity.window == family.window:
            return family.measured
    return None


def match_family(checkpoint: Checkpoint) -> FamilyMatch:
    """Find the family by the hub id, the weights or config.json, and else by the folder's name."""
    name, config = checkpoint.name, checkpoint.config
    origin = config.get("_name_or_path")
    origin = origin if isinstance(origin, str) else ""
    published = _published(checkpoint)
    # A fine-tuned model names its base model in config.json, or has the base model's architecture.
    from_files = published or (find_family(origin) if "/" in origin else None) or match_config(config)
    listed = published or find_family(name)
    trained_like = listed or from_files or find_family(origin.rpartition("/")[2])
    return FamilyMatch(
        listed=listed,
        trained_like=trained_like,
        by_name=trained_like is not None and from_files is None,
        similar_name=None if trained_like else _similar_name(name) or _similar_name(origin),
    )


def _published(checkpoint: Checkpoint) -> Family | None:
    """The family of a model as it was published: by its hub id, its folder in the hub's cache, or its weights."""
    if "/" in checkpoint.name and (family := find_family(checkpoint.name)):
        return family
    for part in checkpoint.path.absolute().parts:
        if part.startswith(CACHE) and (family := find_family(part.removeprefix(CACHE).replace("--", "/", 1))):
            return family
    file = checkpoint.path / SINGLE
    size = file.stat().st_size if file.is_file() else 0
    if all(size != known for known, _ in KNOWN_WEIGHTS):
        return None
    return find_family(KNOWN_WEIGHTS.get((size, checkpoint.fingerprint), ""))


def _similar_name(name: str) -> Family | None:
    for family in FAMILIES:
        # Whole words only: "our-e5-tuned" resembles e5, "phase5" does not.
        if family.name_part and re.search(rf"(?:^|[^a-z0-9]){family.name_part}(?:[^a-z0-9]|$)", name.lower()):
            return family
    return None
