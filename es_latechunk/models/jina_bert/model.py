"""JinaBertModel: load a checkpoint, strictly, and compute the last hidden state."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from es_latechunk.errors import ModelError
from es_latechunk.models.checkpoint.resolve import resolve_model
from es_latechunk.models.checkpoint.weights import FLOATS, StoredTensor, read_tensors, stored_tensors
from es_latechunk.models.jina_bert.alibi import AlibiBias, Span, alibi_slopes
from es_latechunk.models.jina_bert.config import Family, JinaBertConfig, family_of, normalises_queries
from es_latechunk.models.jina_bert.layers import Embeddings, Encoder

# What may be stored and is not used: BERT's pooler, and a buffer that older versions wrote.
UNUSED = frozenset({"pooler.dense.weight", "pooler.dense.bias", "embeddings.position_ids"})
# A checkpoint saved with its masked-language-model head: the model under this name, the head beside it.
PREFIX, HEAD = "bert.", "cls."
LISTED = 20


class JinaBertModel(nn.Module):
    """The encoder of jina-embeddings-v2; `config` and `family` say which sizes and which architecture.

    `qk_norm` says whether queries and keys are normalised (None: as the family's published code does).
    """

    def __init__(self, config: JinaBertConfig, family: Family, *, qk_norm: bool | None = None) -> None:
        super().__init__()
        self.config = config
        self.family = family
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config, family, family == "code" if qk_norm is None else qk_norm)
        self.slopes = alibi_slopes(config.num_attention_heads)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        dtype: torch.dtype = torch.float32,
        device: str | torch.device = "cpu",
        local_files_only: bool = False,
    ) -> JinaBertModel:
        """Load a folder's or a hub id's config.json and safetensors; weights are converted to `dtype`.

        ModelError if the architecture is another one, or a tensor is missing, unexpected or misshapen.
        """
        folder = resolve_model(str(name), revision=revision, offline=local_files_only).path
        model, fitting = cls._empty(folder)
        values = {key: value.to(device, dtype) for key, value in read_tensors(fitting)}
        model.load_state_dict(values, strict=True, assign=True)
        return model.requires_grad_(False).eval()

    @classmethod
    def check(cls, folder: Path) -> None:
        """Raise the ModelError of `from_pretrained`, from config.json and the tensors' names and shapes alone."""
        cls._empty(folder)

    @classmethod
    def _empty(cls, folder: Path) -> tuple[JinaBertModel, dict[str, StoredTensor]]:
        """The model without values, and the stored tensor for each of its own."""
        config = JinaBertConfig.from_folder(folder)
        stored = stored_tensors(folder)
        with torch.device("meta"):
            family = family_of(config, stored, source=str(folder))
            model = cls(config, family, qk_norm=normalises_queries(config, stored))
        return model, _fitting(model.state_dict(), stored, source=str(folder))

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> Tensor:
        """Token ids (B, T) -> last hidden state (B, T, hidden), in the weights' dtype.

        `attention_mask` (B, T) is 0 at padding, on either side; hidden states there are zero. Sequences
        are packed one after the other, so padding costs nothing and no sequence sees another.
        """
        mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        types = torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids
        if not input_ids.shape == mask.shape == types.shape or input_ids.ndim != 2:
            raise ValueError(
                f"input_ids {tuple(input_ids.shape)}, attention_mask {tuple(mask.shape)} and token_type_ids"
                f" {tuple(types.shape)} must have the same shape (B, T)"
            )
        spans, packed = _pack(mask)
        hidden = self.embeddings.word_embeddings.weight.new_zeros(*input_ids.shape, self.config.hidden_size)
        if not spans:
            return hidden
        x = self.embeddings(input_ids.flatten()[packed], types.flatten()[packed])
        longest = max(span.end - span.start for span in spans)
        x = self.encoder(x, spans, AlibiBias(self.slopes, longest, x.device))
        hidden.view(-1, self.config.hidden_size)[packed] = x.to(hidden.dtype)
        return hidden


def _pack(mask: Tensor) -> tuple[list[Span], Tensor]:
    """Each row from its first to its last real token as a span, and those tokens' indices in the flat batch.

    Masked tokens between two real ones stay, since ALiBi counts them as distance, but are no keys.
    """
    spans: list[Span] = []
    indices: list[Tensor] = []
    packed = 0
    for row, kept in enumerate(mask.cpu() != 0):
        real = kept.nonzero().flatten()
        if not len(real):
            continue
        first, last = int(real[0]), int(real[-1]) + 1
        keep = None if len(real) == last - first else kept[first:last].to(mask.device)
        spans.append(Span(packed, packed + last - first, keep))
        indices.append(torch.arange(first, last) + row * mask.shape[1])
        packed += last - first
    return spans, torch.cat(indices).to(mask.device) if indices else torch.empty(0, dtype=torch.long)


def _fitting(
    wanted: dict[str, Tensor], stored: dict[str, StoredTensor], *, source: str
) -> dict[str, StoredTensor]:
    """Pair the model's tensors with the stored ones; ModelError lists all that do not fit."""
    prefix = PREFIX if any(name.startswith(PREFIX) for name in stored) else ""
    own = {name[len(prefix) :]: tensor for name, tensor in stored.items() if name.startswith(prefix)}
    beside = [name for name in stored if not name.startswith((prefix, HEAD))]
    unexpected = beside + [name for name in own if name not in wanted and name not in UNUSED]
    shared = wanted.keys() & own.keys()
    faults = {
        "missing": wanted.keys() - own.keys(),
        "unexpected": unexpected,
        "misshapen": [
            f"{name} is {own[name].shape}, config.json asks for {tuple(wanted[name].shape)}"
            for name in shared
            if own[name].shape != tuple(wanted[name].shape)
        ],
        "not floating point": [
            f"{name} is {own[name].dtype}" for name in shared if own[name].dtype not in FLOATS
        ],
    }
    found = [f"{kind}: {_listed(sorted(names))}" for kind, names in faults.items() if names]
    if found:
        raise ModelError(
            f"{source}: the weights do not fit config.json; {'; '.join(found)};"
            " download the checkpoint again, or choose one of jina-embeddings-v2"
        )
    return {name: own[name] for name in wanted}


def _listed(names: list[str]) -> str:
    rest = len(names) - LISTED
    return ", ".join(names[:LISTED]) + (f" and {rest} more" if rest > 0 else "")
