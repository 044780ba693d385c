"""What is known of model families: pooling, lengths, prefixes, sizes, licence.

A row says what a model's files do not: the length at which its authors trained it or report its
retrieval (`window`), the prefixes that it was trained with, and the sizes to which its vectors may be cut
(Matryoshka representation learning). Sources are the model cards.
"""

from __future__ import annotations

from dataclasses import dataclass

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are used in the same way. `window` and `max_tokens` count special and prefix tokens too."""

    ids: tuple[str, ...]
    dimensions: str
    max_tokens: int
    window: int
    licence: str
    pooling: str = "mean"
    model_type: str = ""  # the `model_type` of config.json, where it stands for this family alone
    document_prefix: str = ""
    query_prefix: str = ""
    cuts: tuple[int, ...] = ()  # the Matryoshka sizes
    refusal: str = ""  # why late chunking does not fit it


FAMILIES = (
    Family(ids=(MINILM,), dimensions="384", max_tokens=512, window=256, licence="Apache-2.0"),
    Family(
        ids=tuple(
            f"jinaai/jina-embeddings-v2-{name}" for name in ("base-en", "small-en", "base-de", "base-zh")
        ),
        dimensions="768 (small: 512)",
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0",
    ),
    Family(
        ids=("jinaai/jina-embeddings-v2-base-code",),
        dimensions="768",
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0",
    ),
    Family(
        ids=("jinaai/jina-embeddings-v2-base-es",),
        dimensions="768",
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0",
        refusal="its query/key normalisation is not confirmed here, and a guess would give wrong vectors",
    ),
    Family(
        ids=("jinaai/jina-embeddings-v3", "jinaai/jina-embeddings-v3-hf"),
        dimensions="1024",
        max_tokens=8192,
        window=8192,
        licence="CC-BY-NC-4.0 (non-commercial)",
        model_type="jina_embeddings_v3",
        cuts=(32, 64, 128, 256, 512, 768, 1024),
        refusal="its task adapters are not loaded locally; use it hosted, as jina-api:jina-embeddings-v3",
    ),
    Family(
        ids=("nomic-ai/nomic-embed-text-v1.5",),
        dimensions="768",
        max_tokens=8192,
        window=2048,
        licence="Apache-2.0",
        model_type="nomic_bert",
        document_prefix="search_document: ",
        query_prefix="search_query: ",
        cuts=(64, 128, 256, 512, 768),
    ),
    Family(
        ids=("nomic-ai/modernbert-embed-base",),
        dimensions="768",
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0",
        document_prefix="search_document: ",
        query_prefix="search_query: ",
        cuts=(256, 768),
    ),
    Family(
        ids=("google/embeddinggemma-300m",),
        dimensions="768",
        max_tokens=2048,
        window=2048,
        licence="Gemma terms of use",
        model_type="gemma3_text",
        document_prefix="title: none | text: ",
        query_prefix="task: search result | query: ",
        cuts=(128, 256, 512, 768),
    ),
    Family(
        ids=(
            "Alibaba-NLP/gte-modernbert-base",
            "BAAI/bge-m3",
            "Snowflake/snowflake-arctic-embed-l-v2.0",
            "Snowflake/snowflake-arctic-embed-m-v2.0",
            "ibm-granite/granite-embedding-english-r2",
        ),
        dimensions="768-1024",
        max_tokens=8192,
        window=8192,
        licence="Apache-2.0 / MIT",
        pooling="cls",
        refusal="it pools the first token; a mean over its token vectors is not what it was trained for",
    ),
    Family(
        ids=(
            "Qwen/Qwen3-Embedding-0.6B",
            "Qwen/Qwen3-Embedding-4B",
            "Qwen/Qwen3-Embedding-8B",
            "jinaai/jina-embeddings-v5-text-small",
        ),
        dimensions="1024-4096",
        max_tokens=32768,
        window=32768,
        licence="Apache-2.0 (Qwen3); CC-BY-NC-4.0 (jina v5)",
        pooling="last token",
        refusal="it pools the last token; its token vectors see only what stands before them",
    ),
)


def find_family(name: str, model_type: str = "") -> Family | None:
    """The family of a hub id, or of a folder whose config.json names a `model_type` of one family alone."""
    for family in FAMILIES:
        if name in family.ids or (model_type and family.model_type == model_type):
            return family
    return None
