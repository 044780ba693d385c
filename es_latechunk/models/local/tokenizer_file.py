"""A tokenizer straight from tokenizer.json, without transformers, where transformers would give the same one.

For most classes transformers takes the file as it is; for some it builds the tokenizer anew, from the vocabulary and
its own settings. Such a file is read here only if its parts are those settings. Whatever else could change a token (an
unknown class or setting, a special token that the file lacks) is left to transformers.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.json_files import read_json_object
from es_latechunk.models.hardware import has_torch

if TYPE_CHECKING:
    from tokenizers import AddedToken
    from tokenizers import Tokenizer as Backend

FILE = "tokenizer.json"
CONFIG = "tokenizer_config.json"
# Settings of tokenizer_config.json that change no token: how to pad, cut, decode, and where it came from.
NEUTRAL = (
    *("backend", "clean_up_tokenization_spaces", "do_basic_tokenize", "is_local", "local_files_only"),
    *("max_length", "model_input_names", "model_max_length", "name_or_path", "never_split"),
    *("pad_to_multiple_of", "pad_token_type_id", "padding_side", "special_tokens_map_file", "stride"),
    *("tokenizer_class", "tokenizer_file", "truncation_side", "truncation_strategy"),
)
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
EMPTY = ("additional_special_tokens", "extra_special_tokens")

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FileTokenizer:
    """What `HuggingFaceTokenizer` needs of a tokenizer, under the names that transformers has for it."""

    backend_tokenizer: Backend
    all_special_ids: list[int]
    pad_token_id: int | None
    unk_token_id: int | None

    @property
    def added_tokens_decoder(self) -> Mapping[int, AddedToken]:
        """Id -> what was added to the vocabulary, special or not."""
        return self.backend_tokenizer.get_added_tokens_decoder()

    def get_vocab(self) -> dict[str, int]:
        """Piece -> id, added ones included."""
        return self.backend_tokenizer.get_vocab()


def read_tokenizer(folder: Path) -> FileTokenizer | None:
    """The tokenizer of a folder; None if transformers may make something else of it.

    Raises ModelError if one of its files is no JSON, or if tokenizer.json is broken and transformers is not installed.
    """
    from tokenizers import Tokenizer as Backend

    path = folder / FILE
    if not path.is_file() or not (folder / CONFIG).is_file():
        return None
    content = read_json_object(path)
    try:
        backend = Backend.from_file(str(path))
    except Exception as error:  # from Rust, a broken file comes as a plain Exception
        if has_torch():  # transformers may read the vocabulary alone, and says what is wrong if it cannot
            return None
        cause = " ".join(str(error).split())
        raise ModelError(f"{path}: is no tokenizer ({cause}); download the model again") from error
    try:
        config = _config(folder)
        kind = _KINDS.get(str(config.get("tokenizer_class")).removesuffix("Fast"))
        if kind is None or not _is_known(config, kind) or not kind.same(backend, content, config):
            return None
    except ModelError:
        raise
    except Exception:  # noqa: BLE001 (settings that contradict each other or are of another type: transformers reports them)
        return None
    return _with_special_tokens(backend, content, {**kind.defaults, **config})


@dataclass(frozen=True, slots=True)
class _Kind:
    """A class of transformers: whether it would make the same of a file, its settings, its special tokens."""

    same: Callable[[Backend, dict[str, Any], Config], bool]
    settings: tuple[str, ...] = ()
    defaults: Mapping[str, str] = field(default_factory=dict)


def _config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json with what special_tokens_map.json adds to it, which may not contradict it."""
    config = read_json_object(folder / CONFIG)
    older = folder / "special_tokens_map.json"
    if older.is_file():
        for name, value in read_json_object(older).items():
            if name in config and _content(config[name]) != _content(value):
                raise ValueError(f"{name} is {config[name]!r} and {value!r}")
            config[name] = value
    return config


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, dict) else token


def _is_known(config: Config, kind: _Kind) -> bool:
    known = {*NEUTRAL, *NAMED, *EMPTY, *kind.settings, "added_tokens_decoder"}
    return set(config) <= known and not any(config.get(name) for name in EMPTY)


def _with_special_tokens(backend: Backend, content: dict[str, Any], config: Config) -> FileTokenizer | None:
    """None if a special token would be added to the file's, or one of the file's is described differently."""
    added = {token["id"]: token for token in content["added_tokens"]}
    for id_, token in (config.get("added_tokens_decoder") or {}).items():
        here = added.get(int(id_), {})
        if any(here.get(key) != value for key, value in token.items() if not key.startswith("__")):
            return None
    special = {token["content"]: id_ for id_, token in added.items() if token["special"]}
    named = {name: _content(config[name]) for name in NAMED if config.get(name) is not None}
    padding = (content.get("padding") or {}).get("pad_token")
    if padding is not None:
        named.setdefault("pad_token", padding)
    if any(token not in special for token in named.values()):
        return None
    pad, unknown = (special[named[name]] if name in named else None for name in ("pad_token", "unk_token"))
    return FileTokenizer(backend, sorted({special[token] for token in named.values()}), pad, unknown)


def _as_it_is(backend: Backend, content: dict[str, Any], config: Config) -> bool:
    return True


def _like_bert(backend: Backend, content: dict[str, Any], config: Config) -> bool:
    from tokenizers import normalizers, pre_tokenizers

    normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    unknown = _content(config.get("unk_token", "[UNK]"))
    model = {
        "type": "WordPiece",
        "unk_token": unknown,
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    return (
        _state(backend.normalizer) == _state(normalizer)
        and _state(backend.pre_tokenizer) == _state(pre_tokenizers.BertPreTokenizer())
        and _has(content, model)
        and _wraps(backend, content, config, "cls_token", "[CLS]", "sep_token", "[SEP]")
    )


def _like_roberta(backend: Backend, content: dict[str, Any], config: Config) -> bool:
    from tokenizers import pre_tokenizers, processors

    space = config.get("add_prefix_space", False)
    last, first = _content(config.get("sep_token", "</s>")), _content(config.get("cls_token", "<s>"))
    processor = processors.RobertaProcessing(
        (last, backend.token_to_id(last) or 0),
        (first, backend.token_to_id(first) or 0),
        trim_offsets=config.get("trim_offsets", True),
        add_prefix_space=space,
    )
    model = {
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": "",
        "end_of_word_suffix": "",
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": False,
    }
    return (
        backend.normalizer is None
        and _state(backend.pre_tokenizer) == _state(pre_tokenizers.ByteLevel(add_prefix_space=space))
        and _state(backend.post_processor) == _state(processor)
        and _has(content, {"type": "BPE", **model})
        and _all_special(content)
    )


def _like_xlm_roberta(backend: Backend, content: dict[str, Any], config: Config) -> bool:
    from tokenizers import pre_tokenizers

    scheme = "always" if config.get("add_prefix_space", True) else "never"
    parts = [
        pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme),
    ]
    return (
        _state(backend.normalizer).get("type") == "Precompiled"
        and _state(backend.pre_tokenizer) == _state(pre_tokenizers.Sequence(parts))
        and _has(content, {"type": "Unigram", "unk_id": 3, "byte_fallback": False})
        and _wraps(backend, content, config, "bos_token", "<s>", "eos_token", "</s>")
    )


def _state(part: Any) -> dict[str, Any]:
    """A part's settings as the library writes them, whatever older form the file has."""
    return {} if part is None else dict(json.loads(part.__getstate__()))


def _has(content: dict[str, Any], settings: dict[str, Any]) -> bool:
    """Whether the file's model has these settings; one that is false or empty by default may be absent."""
    model = content["model"]
    return all(model.get(key, value if not value else None) == value for key, value in settings.items())


def _all_special(content: dict[str, Any]) -> bool:
    """Other added tokens would be found in a text, and get lost where the tokenizer is built anew."""
    return all(token["special"] for token in content["added_tokens"])


def _wraps(
    backend: Backend, content: dict[str, Any], config: Config, first: str, one: str, last: str, other: str
) -> bool:
    """Whether a text's tokens stand between the two special tokens of these names."""
    ends = [_content(config.get(first, one)), _content(config.get(last, other))]
    backend.no_padding()  # as it is used here anyway
    return backend.encode("").ids == [backend.token_to_id(token) for token in ends] and _all_special(content)


_BERT_TOKENS = {
    **{"unk_token": "[UNK]", "sep_token": "[SEP]", "pad_token": "[PAD]"},
    **{"cls_token": "[CLS]", "mask_token": "[MASK]"},
}
_ROBERTA_TOKENS = {
    **{"bos_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "cls_token": "<s>"},
    **{"unk_token": "<unk>", "pad_token": "<pad>", "mask_token": "<mask>"},
}
_KINDS = {
    "TokenizersBackend": _Kind(_as_it_is),
    "PreTrainedTokenizer": _Kind(_as_it_is),
    "BertTokenizer": _Kind(
        _like_bert, ("do_lower_case", "strip_accents", "tokenize_chinese_chars"), _BERT_TOKENS
    ),
    "RobertaTokenizer": _Kind(_like_roberta, ("add_prefix_space", "errors", "trim_offsets"), _ROBERTA_TOKENS),
    "XLMRobertaTokenizer": _Kind(_like_xlm_roberta, ("add_prefix_space", "sp_model_kwargs"), _ROBERTA_TOKENS),
}
