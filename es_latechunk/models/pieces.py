"""What a vocabulary's pieces look like in a text: word markers taken off, bytes put together."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

_BYTE_PIECE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


def surface_pieces(
    spec: Mapping[str, Any], vocabulary: Mapping[str, int], special_ids: Collection[int]
) -> dict[int, str]:
    """Id -> surface text, from a tokenizer's JSON (`spec`); pieces that have none of their own are left out.

    Left out: special tokens, the unknown token, bytes and incomplete UTF-8, bare markers.
    """
    added = {token["id"]: token for token in spec["added_tokens"]}
    skipped = {*special_ids, *(token["id"] for token in added.values() if token["special"])}
    unknown = _unknown_id(spec["model"], vocabulary)
    surface = _surface(spec)
    found = {}
    for piece, id_ in vocabulary.items():
        if id_ in skipped or id_ == unknown:
            continue
        text = piece if id_ in added else surface(piece)
        if text:
            found[id_] = text
    return found


def _unknown_id(model: Mapping[str, Any], vocabulary: Mapping[str, int]) -> int | None:
    if "unk_id" in model:  # Unigram names it by id, the others by text
        number: int | None = model["unk_id"]
        return number
    return vocabulary.get(model.get("unk_token") or "")


def _surface(spec: Mapping[str, Any]) -> Callable[[str], str]:
    """Piece -> surface text ("" where it has none), by the parts that the tokenizer is made of."""
    parts = [part for key in ("normalizer", "pre_tokenizer", "decoder") for part in _parts(spec[key])]
    kinds = {part["type"] for part in parts}
    prefix = spec["model"].get("continuing_subword_prefix") or ""
    suffix = spec["model"].get("end_of_word_suffix") or ""
    if "ByteLevel" in kinds:
        return lambda piece: _from_bytes(piece.removesuffix(suffix)).lstrip(" ")
    marker = _space_marker(parts)
    return lambda piece: (
        "" if _BYTE_PIECE.fullmatch(piece) else piece.removeprefix(prefix).removesuffix(suffix).lstrip(marker)
    )


def _parts(component: Any) -> Iterator[Mapping[str, Any]]:
    """A component of the tokenizer with all those nested in it."""
    if isinstance(component, list):
        for member in component:
            yield from _parts(member)
    elif isinstance(component, dict) and "type" in component:
        yield component
        for member in component.values():
            yield from _parts(member)


def _space_marker(parts: list[Mapping[str, Any]]) -> str:
    """The character that stands for a space in pieces; a space where the tokenizer has no such mark."""
    for part in parts:
        if part["type"] == "Metaspace":
            return str(part["replacement"])
        if part["type"] == "Replace" and part["pattern"] == {"String": " "} and len(part["content"]) == 1:
            return str(part["content"])
    return " "


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for each byte, turned round (Radford et al. 2019, `bytes_to_unicode`)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _byte_alphabet()


def _from_bytes(piece: str) -> str:
    try:
        return bytes(_BYTES[character] for character in piece).decode("utf-8")
    except (KeyError, UnicodeDecodeError):  # not of this alphabet, or part of a character: no text of its own
        return ""
