"""Fast Hugging Face tokenizers: nothing truncated, nothing added, exact offsets, and prefixes in their place."""

from __future__ import annotations

import copy
import json
import re
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from es_latechunk.errors import ModelError
from es_latechunk.models.hardware import require_torch
from es_latechunk.models.local.tokenizer_file import FileTokenizer
from es_latechunk.types import IntArray, Tokenizer, Tokens

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend
    from transformers import PreTrainedTokenizerFast

    AnyTokenizer = PreTrainedTokenizerFast | FileTokenizer


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


# An encoding takes some 250 bytes a token while it lives, so this bounds it to some 60 MB.
SEGMENT_CHARACTERS = 262_144
_CUT_WINDOW = 4_096
_WORD_SPACE = re.compile(r"(?<=[^\W\d_]) (?=[^\W\d_])")
_LINE_BREAK = re.compile(r"(?<=\S)\n(?=\S)")
_JOINER = "\u200d"


def load_tokenizer(
    folder_or_id: str | Path, *, revision: str | None = None, local_files_only: bool = False
) -> PreTrainedTokenizerFast:
    """Load the fast tokenizer of a model folder or hub id; no code from the model's repository is run.

    Raises ModelError if there is no tokenizer, a broken one, or one that knows no offsets.
    """
    name = str(folder_or_id)
    require_torch(f"model {name}: its tokenizer is read by transformers")
    from transformers import AutoTokenizer

    if _looks_like_a_folder(name) and not Path(name).is_dir():
        raise ModelError(f"{name}: no such folder; give a model's folder, or its id on the hub (owner/name)")
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            name, revision=revision or "main", local_files_only=local_files_only, trust_remote_code=False
        )
    except Exception as error:  # from Rust, a broken tokenizer.json comes as a plain Exception
        cause = " ".join(str(error).split())
        raise ModelError(
            f"{name}: its tokenizer cannot be loaded ({cause}); give a folder that holds a valid "
            "tokenizer.json, or the id of a model on the hub"
        ) from error
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(
            f"{name}: {type(tokenizer).__name__} is a slow tokenizer, without offsets; save a fast one "
            "(tokenizer.json) into the folder, or choose a model that has one"
        )
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise ModelError(
            f"{name}: no tokenizer files found (its vocabulary holds special tokens only); copy the model's "
            "tokenizer.json into the folder"
        )
    return cast("PreTrainedTokenizerFast", tokenizer)


class HuggingFaceTokenizer:
    """`types.Tokenizer` on top of a fast tokenizer, whose own settings stay as they are.

    A document is text and nothing else: "[SEP]" in it is cut like any other word, never taken for the
    special token.

    Texts of more than `segment_characters` are tokenised piece by piece, so that the memory needed does
    not grow with the text. Pieces are cut just before a single space between letters, where every
    tokenizer that cuts at spaces would cut as well, so the tokens are those of the whole text; where no
    such space is near, at a line break, else between two characters that do not combine.
    """

    def __init__(self, tokenizer: AnyTokenizer, *, segment_characters: int = SEGMENT_CHARACTERS) -> None:
        self._segment_characters = segment_characters
        self._special_ids = frozenset(tokenizer.all_special_ids)
        self._pad_id = tokenizer.pad_token_id
        backend = tokenizer.backend_tokenizer
        # One of transformers may be in use elsewhere; one that was read from its file is for this object alone.
        self._backend = _plain(backend if isinstance(tokenizer, FileTokenizer) else copy.deepcopy(backend))
        self._unknown_id = _unknown_token_id(self._backend, tokenizer.unk_token_id)

    def tokenize(self, text: str) -> Tokens:
        """Ids (T,) and code point offsets (T, 2), both int32; nothing is truncated or added."""
        ids, offsets = [], []
        for start, end in _segments(text, self._segment_characters):
            backend = self._continuation if start else self._backend
            encoding = backend.encode(text[start:end], add_special_tokens=False)
            ids.append(np.array(encoding.ids, dtype=np.int32))
            offsets.append(np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2) + np.int32(start))
        return Tokens(np.concatenate(ids), np.concatenate(offsets), self._unknown_id)

    @cached_property
    def pieces(self) -> Mapping[int, str]:
        """Id -> the text that the piece stands for; see `types.Tokenizer.pieces`."""
        return surface_pieces(
            json.loads(self._backend.to_str()), self._backend.get_vocab(), self._special_ids
        )

    @cached_property
    def wrap(self) -> tuple[list[int], list[int]]:
        """The special ids that the model expects before and after a sequence, e.g. ([CLS], [SEP])."""
        text, bare = self._known_text()
        full = self._backend.encode(text, add_special_tokens=True).ids
        for start in range(len(full) - len(bare) + 1):
            if full[start : start + len(bare)] == bare:
                return full[:start], full[start + len(bare) :]
        raise ModelError(
            f"tokenizer: {text!r} gives the ids {bare}, but with special tokens {full}, which do not contain "
            "them; late chunking cannot tell the text's tokens apart, choose another model"
        )

    @property
    def pad_id(self) -> int:
        """The id to pad with; 0 if the tokenizer names none, as the attention mask hides it anyway."""
        return 0 if self._pad_id is None else int(self._pad_id)

    def _known_text(self) -> tuple[str, list[int]]:
        """A text that the vocabulary has a token for, and its ids."""
        texts: Iterable[str] = ["a"]
        if not self._backend.encode("a", add_special_tokens=False).ids:
            texts = self.pieces.values()  # only now: these take as long as reading the tokenizer
        for text in texts:
            ids = self._backend.encode(text, add_special_tokens=False).ids
            if ids:
                return text, ids
        raise ModelError("tokenizer: its vocabulary has no token for any text; choose another model")

    @cached_property
    def _continuation(self) -> Backend:
        """The tokenizer for a text's later segments: no mark of a text's beginning is put before them."""
        from tokenizers import Tokenizer as Backend

        spec = json.loads(self._backend.to_str())
        if not _drop_prepend(spec):
            return self._backend
        return _plain(Backend.from_str(json.dumps(spec)))


def _looks_like_a_folder(name: str) -> bool:
    return name.startswith((".", "~")) or Path(name).is_absolute() or name.count("/") > 1


def _plain(backend: Backend) -> Backend:
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = True
    return backend


def _unknown_token_id(backend: Backend, named: int | None) -> int | None:
    """The id of what the vocabulary does not hold, which a Unigram model alone does not name."""
    unknown = getattr(backend.model, "unk_token", None)
    return named if unknown is None else backend.token_to_id(unknown)


def _drop_prepend(spec: dict[str, Any]) -> bool:
    """Take `Prepend` out of a tokenizer's normalizers; whether there was one."""
    normalizer = spec["normalizer"] or {}
    steps = normalizer.get("normalizers", [normalizer])
    kept = [step for step in steps if step.get("type") != "Prepend"]
    spec["normalizer"] = {"type": "Sequence", "normalizers": kept}
    return len(kept) < len(steps)


def _segments(text: str, length: int) -> Iterator[tuple[int, int]]:
    start = 0
    while len(text) - start > length:
        end = _cut_before(text, start, start + length)
        yield start, end
        start = end
    yield start, len(text)


def _cut_before(text: str, start: int, end: int) -> int:
    """Return the best position to cut at, among the last characters of (start, end]."""
    window = max(start + 1, end - _CUT_WINDOW)
    for pattern in (_WORD_SPACE, _LINE_BREAK):
        positions = [match.start() for match in pattern.finditer(text, window, end)]
        if positions:
            return positions[-1]
    return next((position for position in range(end, window, -1) if not _combines(text, position)), end)


def _combines(text: str, position: int) -> bool:
    """Return whether the characters before and after `position` make one sign together."""
    before, after = text[position - 1], text[position]
    return _JOINER in (before, after) or unicodedata.category(after)[0] == "M" or before + after == "\r\n"


class PrefixedTokenizer:
    """Gives a text's own tokens, cut as they are cut behind `prefix` (a `Tokenizer`).

    A byte-level vocabulary has one token for "Berlin" and another for " Berlin": behind "search_document: "
    the first word is the second kind. A token that begins in the prefix and ends in the text is the text's.
    Every window begins with the same `prefix_ids`: where a text begins with what takes no space along, as
    Chinese does, the token of the prefix's last space is left out.
    """

    def __init__(self, tokenizer: Tokenizer, prefix: str) -> None:
        self._tokenizer = tokenizer
        self.prefix = prefix

    @property
    def pieces(self) -> Mapping[int, str]:
        return self._tokenizer.pieces

    @property
    def prefix_ids(self) -> IntArray:
        """The prefix's tokens (P,), as they stand before a word."""
        if not self.prefix:
            return np.zeros(0, dtype=np.int32)
        tokens = self._tokenizer.tokenize(f"{self.prefix}a")
        return tokens.ids[: self._own(tokens)]

    def tokenize(self, text: str) -> Tokens:
        """Tokens of `text` alone; offsets count from the start of `text`."""
        if not self.prefix:
            return self._tokenizer.tokenize(text)
        tokens = self._tokenizer.tokenize(self.prefix + text)
        own = self._own(tokens)
        offsets = np.maximum(tokens.offsets[own:] - len(self.prefix), 0)
        return Tokens(tokens.ids[own:], offsets.astype(np.int32), tokens.unknown_id)

    def _own(self, tokens: Tokens) -> int:
        """The number of tokens that end within the prefix."""
        return int(np.count_nonzero(tokens.offsets[:, 1] <= len(self.prefix)))
