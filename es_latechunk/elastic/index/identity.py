"""The identity of an index: what it records about its vectors, and the check that nothing else is mixed in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from es_latechunk.errors import IndexMismatchError
from es_latechunk.types import POOLINGS, TOKEN_WEIGHTS, EncoderIdentity, PoolingOptions

META_KEY = "es_latechunk"
# Increase it when the same text and settings give other chunks: the next ingest then cuts every document again.
CHUNKING_VERSION = 3


LATE = PoolingOptions()  # of an index that records no other


@dataclass(frozen=True, slots=True)
class IndexIdentity:
    """The model, the windows, the chunker and the pooling, which are the same for every vector of an index.

    `overlap` is the number of tokens that the windows of a long document share. It is None for a hosted model, and for
    an index that was made before it was recorded: such an index keeps the windows and the hashes that it has.
    """

    encoder: EncoderIdentity
    chunker: str
    max_tokens: int
    pooling: PoolingOptions = LATE
    overlap: int | None = None

    def to_meta(self) -> dict[str, Any]:
        """Return the entry for the mapping's `_meta`; pooling settings that change nothing are left out."""
        chosen = {
            name: value
            for name, value in asdict(self.pooling).items()
            if name == "pooling" or value != getattr(LATE, name)
        }
        rest = {"chunker": self.chunker, "max_tokens": self.max_tokens, **chosen}
        overlap = {} if self.overlap is None else {"overlap": self.overlap}
        return {**asdict(self.encoder), **overlap, **rest}

    def digest(self) -> str:
        """Return, as text, everything that determines the vectors of a given document; it enters each `doc_hash`.

        The origin of the weights is left out, and so is the model's name if its weights are known: neither changes a
        vector.
        """
        irrelevant = self.encoder.fields_of_origin()
        vectors = {name: value for name, value in self.to_meta().items() if name not in irrelevant}
        return json.dumps({**vectors, "chunking": CHUNKING_VERSION}, sort_keys=True)

    @classmethod
    def from_meta(cls, meta: Mapping[str, Any], index: str) -> IndexIdentity:
        """Read the entry; an index without one was not created by es-latechunk (IndexMismatchError)."""
        entry = meta.get(META_KEY)
        if not isinstance(entry, Mapping):
            raise IndexMismatchError(
                f"index {index}: its mapping records no model (_meta.{META_KEY} is missing), so its vectors are "
                "unknown; create the index with: es-latechunk index create"
            )
        fields = {name: entry[name] for name in EncoderIdentity.__dataclass_fields__ if name in entry}
        try:
            identity = cls(
                EncoderIdentity(**fields),
                entry["chunker"],
                entry["max_tokens"],
                _read_pooling(entry, index),
                entry.get("overlap"),
            )
        except (KeyError, TypeError) as error:
            raise IndexMismatchError(
                f"index {index}: its _meta.{META_KEY} is incomplete ({error}); create the index again"
            ) from error
        if not (identity.overlap is None or (type(identity.overlap) is int and identity.overlap >= 0)):
            raise IndexMismatchError(
                f"index {index}: its _meta records the overlap {identity.overlap!r}, which is no number of tokens"
            )
        return identity


def _read_pooling(entry: Mapping[str, Any], index: str) -> PoolingOptions:
    options = PoolingOptions(
        entry["pooling"],
        **{
            name: entry[name]
            for name in PoolingOptions.__dataclass_fields__
            if name in entry and name != "pooling"
        },
    )
    window, pieces = options.late_window, options.pieces
    for name, known in (
        ("pooling", options.pooling in POOLINGS),
        ("token_weights", options.token_weights in TOKEN_WEIGHTS),
        ("neighbour_share", _is_share(options.neighbour_share)),
        ("late_window", window is None or (type(window) is int and window > 0)),
        ("pieces", pieces is None or (type(pieces) is int and pieces > 0)),
        ("embed_title", _is_share(options.embed_title)),
    ):
        if not known:
            raise IndexMismatchError(
                f"index {index}: its _meta records the {name} {getattr(options, name)!r}, which this version does not "
                "know"
            )
    return options


def _is_share(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]


def check_encoder(index: str, recorded: EncoderIdentity, given: EncoderIdentity) -> None:
    """Refuse an encoder whose vectors cannot be compared with those of the index; the error has both values.

    The same weights under another name (a folder, a hub id) are the same model.
    """
    if recorded.weights != given.weights or (recorded.weights is None and recorded.model != given.model):
        raise IndexMismatchError(
            f"index {index}: holds vectors of {_named(recorded)}, the model given is {_named(given)}; "
            "use the index's model, or create another index"
        )
    _refuse_differences(
        index, asdict(recorded), asdict(given), ignore=("model", "weights", "revision", "folder")
    )


def check_identity(index: str, recorded: IndexIdentity, given: IndexIdentity) -> None:
    """Do what `check_encoder` does, and compare the chunker, its size and the pooling too.

    The overlap is not compared: vectors of windows with another overlap answer the same queries.
    """
    check_encoder(index, recorded.encoder, given.encoder)
    old, new = (
        {"chunker": one.chunker, "max_tokens": one.max_tokens, **asdict(one.pooling)}
        for one in (recorded, given)
    )
    _refuse_differences(index, old, new, ignore=())


def check_overlap(index: str, recorded: IndexIdentity, overlap: int | None) -> None:
    """Refuse an overlap that was asked for and is not the one that the index records."""
    if overlap not in (None, recorded.overlap):
        own = "a quarter of the window (none is recorded)" if recorded.overlap is None else recorded.overlap
        raise IndexMismatchError(
            f"index {index}: was created with the overlap {own}, the given one is {overlap}; leave it out to use the "
            "index's own, or create another index"
        )


def _refuse_differences(
    index: str, recorded: Mapping[str, Any], given: Mapping[str, Any], *, ignore: tuple[str, ...]
) -> None:
    for name, value in recorded.items():
        if name not in ignore and value != given[name]:
            raise IndexMismatchError(
                f"index {index}: was created with {name} {value!r}, the given setting is {given[name]!r}; "
                "leave it out to use the index's own, or create another index"
            )


def _named(encoder: EncoderIdentity) -> str:
    return f"{encoder.model} ({(encoder.weights or 'hosted')[:19]})"
