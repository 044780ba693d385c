"""What is known of model families: pooling, lengths, prefixes, sizes, licence.

A row says what a model's files do not: the length at which its authors trained it or report its
retrieval (`window`), the prefixes that it was trained with, and the sizes to which its vectors may be cut
(Matryoshka representation learning). Sources are the model cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

MINILM = "sentence-transformers/all-MiniLM-L6-v2"
JINA_API = "jina-api:"  # before the name of a hosted model
JINA_V2 = "jinaai/jina-embeddings-v2"


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are used in the same way. `window` and `max_tokens` count special and prefix tokens too."""

    dimensions: Mapping[str, int]  # hub id -> the size of its vectors
    max_tokens: int
    window: int
    licence: str
    pooling: str = "mean"
    marks: Mapping[str, Any] | None = None  # what a config.json of this family, and of no other, says
    document_prefix: str = ""
    query_prefix: str = ""
    cuts: tuple[int, ...] = ()  # the Matryoshka sizes
    hint: str = ""  # what is in the names of its relatives, which may need its prefixes
    tasks: tuple[str, ...] = ()  # that it has adapters for: documents' first, then queries', then the others
    refusal: str = ""  # why late chunking does not fit it


JINA_V3 = Family(
    {"jinaai/jina-embeddings-v3": 1024},
    max_tokens=8192,
    window=8192,
    licence="CC-BY-NC-4.0 (non-commercial)",
    marks={"model_type": "xlm-roberta", "position_embedding_type": "rotary"},
    document_prefix="Represent the document for retrieval: ",
    query_prefix="Represent the query for retrieving evidence documents: ",
    cuts=(32, 64, 128, 256, 512, 768, 1024),
    tasks=("retrieval.passage", "retrieval.query", "separation", "classification", "text-matching"),
)
FAMILIES = (
    Family({MINILM: 384}, max_tokens=512, window=256, licence="Apache-2.0"),
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
        cuts=(256, 768),
        hint="modernbert-embed",
    ),
    Family(
        {"nomic-ai/nomic-embed-text-v1.5": 768},
        max_tokens=2048,  # its 8192 need scaled rotary positions, which transformers does not compute for it
        window=2048,
        licence="Apache-2.0",
        marks={"model_type": "nomic_bert"},
        document_prefix="search_document: ",
        query_prefix="search_query: ",
        cuts=(64, 128, 256, 512, 768),
        hint="nomic-embed-text",
    ),
    Family(
        {"google/embeddinggemma-300m": 768},
        max_tokens=2048,
        window=2048,
        licence="Gemma terms of use",
        marks={"model_type": "gemma3_text", "use_bidirectional_attention": True},
        hint="embeddinggemma",
        document_prefix="title: none | text: ",
        query_prefix="task: search result | query: ",
        cuts=(128, 256, 512, 768),
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
        hint="e5",
    ),
    JINA_V3,
    replace(
        JINA_V3,
        dimensions={"jinaai/jina-embeddings-v3-hf": 1024},
        marks={"model_type": "jina_embeddings_v3"},
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
    """The family of a hub id, or of a folder that bears the last part of one."""
    for family in FAMILIES:
        if any(name in (known, known.rpartition("/")[2]) for known in family.dimensions):
            return family
    return None


def find_kin(config: Mapping[str, Any]) -> Family | None:
    """The family whose architecture a config.json describes: such a model was trained in the same way.

    How it pools, and whether its vectors may be cut, does not follow from that.
    """
    for family in FAMILIES:
        if family.marks and all(config.get(key) == value for key, value in family.marks.items()):
            return family
    return None
