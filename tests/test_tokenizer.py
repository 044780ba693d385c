from __future__ import annotations

import json
import struct
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from hypothesis import given
from hypothesis import strategies as st
from made_models import FAST, TOKENIZERS, mini_lm_folder

from es_latechunk.errors import ModelError
from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer, _segments, load_tokenizer
from es_latechunk.models.local.tokenizer_file import read_tokenizer

families = pytest.mark.parametrize("family", list(TOKENIZERS))
IN_SEGMENTS = {
    name: HuggingFaceTokenizer(tokenizer, segment_characters=7) for name, tokenizer in FAST.items()
}
ENGLISH = (
    "The quick brown fox didn't jump over 3.6 lazy dogs. Really? “Yes,” she said; it grew.\n"
    "A second line, hard-wrapped and e.g. longer...\n\n- item one\n- item two (see https://a.b/c?d=1)\n"
) * 12


def visible_offsets(text: str, offsets: np.ndarray) -> list[tuple[int, int]]:
    """Offsets without the whitespace at both ends: trimming tokenizers leave it on a text's first token."""
    return [
        (end - len(text[start:end].lstrip()), start + len(text[start:end].rstrip()))
        for start, end in offsets.tolist()
    ]


@families
@pytest.mark.parametrize("size", [60, 97, 500])
def test_a_long_text_in_segments_gives_the_same_tokens(family: str, size: int) -> None:
    whole = TOKENIZERS[family].tokenize(ENGLISH)
    cut = HuggingFaceTokenizer(FAST[family], segment_characters=size).tokenize(ENGLISH)
    assert cut.ids.tolist() == whole.ids.tolist()
    assert visible_offsets(ENGLISH, cut.offsets) == visible_offsets(ENGLISH, whole.offsets)


def test_the_texts_of_all_pieces_are_not_made_for_the_special_ids() -> None:
    """They take as long as reading the tokenizer, and a search has no use for them."""
    tokenizer = HuggingFaceTokenizer(FAST["mini_lm"])
    assert tokenizer.wrap == TOKENIZERS["mini_lm"].wrap
    assert "pieces" not in vars(tokenizer)


@families
@given(text=st.text(max_size=60))
def test_offsets_are_code_points_inside_the_text(family: str, text: str) -> None:
    for tokenizer in (TOKENIZERS[family], IN_SEGMENTS[family]):
        tokens = tokenizer.tokenize(text)
        assert tokens.ids.dtype == tokens.offsets.dtype == np.int32
        assert tokens.offsets.shape == (len(tokens), 2)
        assert all(0 <= start <= end <= len(text) for start, end in tokens.offsets.tolist())


@families
@pytest.mark.parametrize("odd", ["😀", "👩‍👩‍👧", "e\u0301", "\r\n", "\x00", "\ufeff", "\u200b", "ﬁ", "İ"])
def test_text_behind_an_odd_character_keeps_its_place(family: str, odd: str) -> None:
    text = f"fox {odd} the dog"
    start, end = TOKENIZERS[family].tokenize(text).offsets[-1].tolist()
    assert end == len(text)
    assert "dog".endswith(text[start:end].strip())


@given(text=st.text(alphabet="e\u0301\u200d👩👧\r\n", max_size=400))
def test_segments_part_no_combining_sequence(text: str) -> None:
    segments = list(_segments(text, 50))
    assert "".join(text[start:end] for start, end in segments) == text
    for start, _ in segments[1:]:
        before, after = text[start - 1], text[start]
        sequence = unicodedata.category(after) == "Mn" or "\u200d" in (before, after)
        near = text[max(0, start - 49) : start + 1]
        assert not sequence or all(character in "\u0301\u200d👩👧" for character in near[1:-1])


@families
def test_nothing_is_truncated_and_the_tokenizer_keeps_its_own_settings(family: str) -> None:
    backend = FAST[family].backend_tokenizer
    before = backend.to_str()
    assert len(HuggingFaceTokenizer(FAST[family]).tokenize("the fox " * 600)) >= 1200
    assert backend.to_str() == before


def test_a_special_token_in_a_document_is_text() -> None:
    tokens = TOKENIZERS["mini_lm"].tokenize("a [SEP] b")
    sep = FAST["mini_lm"].sep_token_id
    assert sep not in tokens.ids
    assert TOKENIZERS["mini_lm"].wrap[1] == [sep]


@pytest.mark.parametrize(
    ("family", "present", "left_out"),
    [
        ("word_piece", {".", "?", "。", "the", "fox"}, {"[CLS]", "[UNK]", "##s", "[PAD]"}),
        ("byte_level", {".", "。", "the", "fox", "\n", "..."}, {"<s>", "Ġ", "Ġthe", "", " the"}),
        ("byte_level_trimmed", {".", "。", "the"}, {"<s>", "Ġthe", ""}),
        ("unigram", {".", "?", "。"}, {"<unk>", "<pad>", "▁", ""}),
        ("byte_fallback", {".", "!", "the"}, {"<0x2E>", "<unk>", "▁", "▁the", ""}),
        ("mini_lm", {".", "?", "。", "।", "…", "the", "ing"}, {"[CLS]", "[UNK]", "##ing"}),
    ],
)
def test_pieces_are_what_stands_in_a_text(family: str, present: set[str], left_out: set[str]) -> None:
    pieces = set(TOKENIZERS[family].pieces.values())
    assert present <= pieces
    assert not left_out & pieces


@families
def test_pieces_agree_with_the_text_under_the_offsets(family: str) -> None:
    text = "the quick brown fox. 你好。"
    tokenizer = TOKENIZERS[family]
    tokens = tokenizer.tokenize(text)
    seen = 0
    for id_, (start, end) in zip(tokens.ids.tolist(), tokens.offsets.tolist(), strict=True):
        if id_ in tokenizer.pieces:
            seen += 1
            assert tokenizer.pieces[id_] == text[start:end].strip()
    assert seen >= 5


@pytest.mark.parametrize(
    ("family", "wrap", "pad"),
    [
        ("word_piece", ([2], [3]), 0),
        ("byte_level", ([0], [1]), 0),
        ("unigram", ([], [2]), 0),
        ("byte_fallback", ([1], []), 0),
        ("mini_lm", ([101], [102]), 0),
    ],
)
def test_the_special_ids_around_a_text(family: str, wrap: tuple[list[int], list[int]], pad: int) -> None:
    assert TOKENIZERS[family].wrap == wrap
    assert TOKENIZERS[family].pad_id == pad


@families
def test_a_saved_tokenizer_loads_and_gives_the_same_tokens(family: str, tmp_path: Path) -> None:
    FAST[family].save_pretrained(tmp_path)
    loaded = HuggingFaceTokenizer(load_tokenizer(tmp_path))
    assert loaded.tokenize(ENGLISH).ids.tolist() == TOKENIZERS[family].tokenize(ENGLISH).ids.tolist()


def test_an_empty_text_has_no_tokens() -> None:
    assert TOKENIZERS["mini_lm"].tokenize("").offsets.shape == (0, 2)


class TestLoadTokenizerRefuses:
    def check(self, folder: Path, *words: str) -> None:
        with pytest.raises(ModelError) as caught:
            load_tokenizer(folder)
        message = str(caught.value)
        assert str(folder) in message
        assert "\n" not in message
        assert all(word in message for word in words)

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path / "missing", "no such folder")

    def test_an_empty_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path, "tokenizer.json")

    def test_a_folder_without_tokenizer_files(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_bytes((mini_lm_folder() / "config.json").read_bytes())
        self.check(tmp_path, "no tokenizer files")

    @pytest.mark.parametrize("content", ["{broken", '{"version": "1.0"}'])
    def test_a_broken_file(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "config.json").write_bytes((mini_lm_folder() / "config.json").read_bytes())
        (tmp_path / "tokenizer.json").write_text(content)
        self.check(tmp_path, "cannot be loaded")

    def test_a_slow_tokenizer(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "canine"}))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CanineTokenizer"}))
        self.check(tmp_path, "slow tokenizer")

    def test_code_from_the_model_folder(self, tmp_path: Path) -> None:
        remote = {"auto_map": {"AutoTokenizer": ["code.Tokenizer", None]}}
        (tmp_path / "config.json").write_text(json.dumps({"model_type": "own", **remote}))
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Own", **remote}))
        (tmp_path / "code.py").write_text("raise SystemExit('the code was run')")
        self.check(tmp_path, "custom code")


class TestFromTheFileAlone:
    """tokenizer.json read by `tokenizers` gives what transformers makes of the folder, or is left to transformers."""

    @staticmethod
    def both(folder: Path) -> tuple[HuggingFaceTokenizer, HuggingFaceTokenizer] | None:
        read = read_tokenizer(folder)
        if read is None:
            return None
        loaded = load_tokenizer(folder)
        assert set(read.all_special_ids) == set(loaded.all_special_ids)
        assert read.pad_token_id == loaded.pad_token_id
        assert read.get_vocab() == loaded.get_vocab()
        return HuggingFaceTokenizer(read), HuggingFaceTokenizer(loaded)

    @staticmethod
    def assert_equal(pair: tuple[HuggingFaceTokenizer, HuggingFaceTokenizer], text: str) -> None:
        ours, theirs = (tokenizer.tokenize(text) for tokenizer in pair)
        assert ours.ids.tolist() == theirs.ids.tolist()
        assert ours.offsets.tolist() == theirs.offsets.tolist()

    @pytest.fixture(scope="class", params=[*FAST, "bert", "roberta", "xlm-roberta"])
    @staticmethod
    def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
        folder = tmp_path_factory.mktemp("tokenizer")
        if request.param == "mini_lm":
            folder = mini_lm_folder()
        elif request.param in FAST:
            FAST[request.param].save_pretrained(folder)
        else:
            save_class(folder, request.param)
        pair = TestFromTheFileAlone.both(folder)
        assert pair is not None
        return pair

    def test_what_is_known_of_it(self, pair: Any) -> None:
        ours, theirs = pair
        assert ours.wrap == theirs.wrap
        assert ours.pad_id == theirs.pad_id
        assert ours.pieces == theirs.pieces
        self.assert_equal(pair, ENGLISH)
        for odd in ODD:
            self.assert_equal(pair, odd)

    @given(text=st.text(max_size=60))
    def test_any_text(self, pair: Any, text: str) -> None:
        self.assert_equal(pair, text)

    @pytest.mark.parametrize(
        ("kind", "changes"),
        [
            ("bert", {"do_lower_case": False}),
            ("bert", {"strip_accents": True}),
            ("bert", {"tokenize_chinese_chars": False}),
            ("bert", {"unk_token": "[CLS]"}),
            ("bert", {"mask_token": "[NEW]"}),
            ("bert", {"additional_special_tokens": ["fox"]}),
            ("bert", {"tokenizer_class": "MPNetTokenizer"}),
            ("bert", {"a_new_setting": 1}),
            ("roberta", {"add_prefix_space": True}),
            ("roberta", {"trim_offsets": False}),
            ("xlm-roberta", {"add_prefix_space": False}),
            ("unigram", {"add_bos_token": True}),
        ],
    )
    def test_settings_that_change_it_are_left_to_transformers(
        self, tmp_path: Path, kind: str, changes: dict[str, Any]
    ) -> None:
        if kind in FAST:
            FAST[kind].save_pretrained(tmp_path)
        else:
            save_class(tmp_path, kind)
        assert read_tokenizer(tmp_path) is not None
        path = tmp_path / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
        assert read_tokenizer(tmp_path) is None

    def test_a_file_that_the_class_would_not_keep(self, tmp_path: Path) -> None:
        save_class(tmp_path, "bert")
        path = tmp_path / "tokenizer.json"
        content = json.loads(path.read_text())
        content["pre_tokenizer"] = {"type": "Whitespace"}
        path.write_text(json.dumps(content))
        assert read_tokenizer(tmp_path) is None


ODD = (
    "",
    " ",
    "[SEP] </s> <mask> [MASK]",
    "Ünïcödé ﬁ İ e\u0301 \u200b 東京都 👩‍👩‍👧",
    "\x00\ufeff\r\n\ttab",
    "x" * 300,
)


# SentencePiece's table of characters to replace, an empty one: the size of its trie in bytes, the trie.
CHARSMAP = struct.pack("<II", 1024, 0) + bytes(1020)


def save_class(folder: Path, kind: str) -> None:
    """A tokenizer that transformers builds anew from a vocabulary, as the checkpoints of these classes have it."""
    if kind == "bert":
        vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *trained("word_piece")]
        made: Any = transformers.BertTokenizer(vocab={piece: id_ for id_, piece in enumerate(vocabulary)})
    elif kind == "roberta":
        model = json.loads(FAST["byte_level"].backend_tokenizer.to_str())["model"]
        pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *(p for p in model["vocab"] if p[0] != "<")]
        vocab = {piece: id_ for id_, piece in enumerate(dict.fromkeys(pieces))}
        made = transformers.RobertaTokenizer(vocab=vocab, merges=[tuple(pair) for pair in model["merges"]])
    else:
        model = json.loads(FAST["unigram"].backend_tokenizer.to_str())["model"]
        special = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
        own = [(piece, score) for piece, score in model["vocab"] if not piece.startswith("<")]
        made = transformers.XLMRobertaTokenizer(
            vocab=[*special, *own, ("<mask>", 0.0)], _spm_precompiled_charsmap=CHARSMAP
        )
    made.save_pretrained(folder)


def trained(kind: str) -> list[str]:
    """A tiny vocabulary's pieces, without the special ones."""
    return [piece for piece in FAST[kind].get_vocab() if not piece.startswith("[")]
