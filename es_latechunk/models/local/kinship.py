"""Which family a checkpoint belongs to, and whether it says so itself or only its name does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from es_latechunk.models.checkpoint.weights import SINGLE, weights_fingerprint
from es_latechunk.models.registry import FAMILIES, MINILM, Family, find_family, find_kin

# Published weights that are known byte for byte: (size, fingerprint) -> hub id. The size spares most files the reading.
KNOWN_WEIGHTS = {
    (90_868_376, "sha256:53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"): MINILM,
}
CACHE = "models--"  # a hub's cache keeps owner/name in the folder models--owner--name


@dataclass(frozen=True, slots=True)
class Kinship:
    """`known` is the model's own family, from which its pooling and sizes follow too; `kin` that of its training.

    `by_name` says that nothing but a folder's name tells the family. `hint` is a family with prefixes that the name
    only resembles; it is not taken for granted.
    """

    known: Family | None
    kin: Family | None
    by_name: bool
    hint: Family | None


def find_kinship(path: Path, name: str, config: Mapping[str, Any]) -> Kinship:
    """Tell the family by the hub's id, the weights, what config.json says, or else the folder's name."""
    origin = config.get("_name_or_path")
    origin = origin if isinstance(origin, str) else ""
    published = _published(path, name)
    told = published or (find_family(origin) if "/" in origin else None) or find_kin(config)
    known = published or find_family(name)
    kin = known or told or find_family(origin.rpartition("/")[2])
    return Kinship(
        known=known,
        kin=kin,
        by_name=kin is not None and told is None,
        hint=None if kin else _resembled(name) or _resembled(origin),
    )


def _published(path: Path, name: str) -> Family | None:
    if "/" in name and (family := find_family(name)):
        return family
    for part in path.absolute().parts:
        if part.startswith(CACHE) and (family := find_family(part.removeprefix(CACHE).replace("--", "/", 1))):
            return family
    file = path / SINGLE
    size = file.stat().st_size if file.is_file() else 0
    if all(size != known for known, _ in KNOWN_WEIGHTS):
        return None
    return find_family(KNOWN_WEIGHTS.get((size, weights_fingerprint(path)), ""))


def _resembled(name: str) -> Family | None:
    for family in FAMILIES:
        if family.hint and re.search(rf"(?:^|[^a-z0-9]){family.hint}(?:[^a-z0-9]|$)", name.lower()):
            return family
    return None
