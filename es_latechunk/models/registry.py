"""The table of known model families: pooling, lengths, prefixes, sizes and licence.

A row holds what a model's own files leave out: the length at which its authors trained it or report its
retrieval results (`window`), the prefixes that it was trained with, and the sizes to which its vectors may be
shortened (Matryoshka representation learning). The source of each row is the model card.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from es_latechunk.types import PoolingOptions

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
JINA_API = "jina-api:"  # before the name of a hosted model
JINA_V2 = "jinaai/jina-embeddings-v2"


@dataclass(frozen=True, slots=True)
class MeasuredPooling:
    """The settings that found most of all that were measured, and the overlap of their windows in tokens."""

    options: PoolingOptions
    overlap: int


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are used in the same way.

    `window` and `max_tokens` are numbers of tokens, including special tokens and the prefix.
    """

    dimensions: Mapping[str, int]  # hub id -> the size of its vectors
    max_tokens: int
    window: int
    licence: str
    pooling: str = "mean"
    config_signature: Mapping[str, Any] | None = None  # settings of config.json that only this family has
    document_prefix: str = ""
    query_prefix: str = ""
    matryoshka_dims: tuple[int, ...] = ()  # the sizes that its vectors may be shortened to
    name_part: str = ""  # a part of the names of fine-tuned models, which may need this family's prefixes
    tasks: tuple[
        str, ...
    ] = ()  # the tasks that it has adapters for: for documents, for queries, then all others
    refusal: str = ""  # why the model does not suit late chunking
    measured: MeasuredPooling | None = None  # None: nobody measured how its chunks are pooled best


JINA_V3 = Family(
    {"jinaai/jina-embeddings-v3": 1024},
    max_tokens=8192,
    window=8192,
    licence="CC-BY-NC-4.0 (non-commercial)",
    config_signature={"model_type": "xlm-roberta", "position_embedding_type": "rotary"},
    document_prefix="Represent the document for retrieval: ",
    query_prefix="Represent the query for retrieving evidence documents: ",
    matryoshka_dims=(32, 64, 128, 256, 512, 768, 1024),
    tasks=("retrieval.passage", "retrieval.query", "separation", "classification", "text-matching"),
)
FAMILIES = (
    Family(
        {MINILM: 384},
        max_tokens=512,
        window=256,
        licence="Apache-2.0",
        # docs/quality.md has the measurements.
        measured=MeasuredPooling(
            PoolingOptions("blend", "sif", neighbour_share=0.2, late_window=96), overlap=32
        ),
    ),
    Family(
        {
            f"{JINA_V2}-small-en": 512,
            f"{JINA_V2}-base-en": 768,
            f"{JINA_V2}-base-de": 768,
            f"{JINA_V2}-base-es": 768,
            f"{JINA_V2}-base-zh": 768,
            f"{JINA_V2}-base-code": 768,
        },
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0",
    ),
    Family(
        {"nomic-ai/modernbert-embed-base": 768},
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0",
        document_prefix="search_document: ",
        query_prefix="search_query: ",
        matryoshka_dims=(256, 768),
        name_part="modernbert-embed",
    ),
    Family(
        {"nomic-ai/nomic-embed-text-v1.5": 768},
        max_tokens=2048,  # 8192 needs scaled rotary positions, which transformers does not compute for this model
        window=2048,
        licence="Apache-2.0",
        config_signature={"model_type": "nomic_bert"},
        document_prefix="search_document: ",
        query_prefix="search_query: ",
        matryoshka_dims=(64, 128, 256, 512, 768),
        name_part="nomic-embed-text",
    ),
    Family(
        {"google/embeddinggemma-300m": 768},
        max_tokens=2048,
        window=2048,
        licence="Gemma terms of use",
        config_signature={"model_type": "gemma3_text", "use_bidirectional_attention": True},
        name_part="embeddinggemma",
        document_prefix="title: none | text: ",
        query_prefix="task: search result | query: ",
        matryoshka_dims=(128, 256, 512, 768),
    ),
    Family(
        {
            "intfloat/e5-small": 384,
            "intfloat/e5-base": 768,
            "intfloat/e5-large": 1024,
            "intfloat/e5-small-v2": 384,
            "intfloat/e5-base-v2": 768,
            "intfloat/e5-large-v2": 1024,
            "intfloat/multilingual-e5-small": 384,
            "intfloat/multilingual-e5-base": 768,
            "intfloat/multilingual-e5-large": 1024,
        },
        max_tokens=512,
        window=512,
        licence="MIT",
        document_prefix="passage: ",
        query_prefix="query: ",
        name_part="e5",
    ),
    JINA_V3,
    replace(
        JINA_V3,
        dimensions={"jinaai/jina-embeddings-v3-hf": 1024},
        config_signature={"model_type": "jina_embeddings_v3"},
    ),
    Family(
        {
            "Alibaba-NLP/gte-modernbert-base": 768,
            "BAAI/bge-m3": 1024,
            "Snowflake/snowflake-arctic-embed-m-v2.0": 768,
            "Snowflake/snowflake-arctic-embed-l-v2.0": 1024,
            "ibm-granite/granite-embedding-english-r2": 768,
        },
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0 (bge-m3: MIT)",
        pooling="cls",
        refusal="it pools the first token; a mean over its token vectors is not what it was trained for",
    ),
    Family(
        {
            "Qwen/Qwen3-Embedding-0.6B": 1024,
            "Qwen/Qwen3-Embedding-4B": 2560,
            "Qwen/Qwen3-Embedding-8B": 4096,
            "jinaai/jina-embeddings-v5-text-small": 1024,
        },
        max_tokens=32768,
        window=32768,
        licence="Apache-2.0 (jina v5: CC-BY-NC-4.0, non-commercial)",
        pooling="last token",
        refusal="it pools the last token; a mean over its token vectors is not what it was trained for",
    ),
)


def find_family(name: str) -> Family | None:
    """Find the family that lists a hub id, or the last part of one (a folder's name)."""
    for family in FAMILIES:
        if any(name in (known, known.rpartition("/")[2]) for known in family.dimensions):
            return family
    return None


def whole_name(name: str) -> str | None:
    """Return the hub id of the table that ends in `/name`, in any case: people leave out the owner of a model."""
    ids = (known for family in FAMILIES for known in family.dimensions)
    return next((known for known in ids if known.rpartition("/")[2].casefold() == name.casefold()), None)


def match_config(config: Mapping[str, Any]) -> Family | None:
    """Find the family whose architecture a config.json describes.

    A model of that architecture was trained in the same way, so it needs the same prefixes. Its pooling and its
    Matryoshka sizes may still differ.
    """
    for family in FAMILIES:
        if family.config_signature and all(
            config.get(key) == value for key, value in family.config_signature.items()
        ):
            return family
    return None
