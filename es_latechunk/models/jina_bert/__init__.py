"""JinaBERT without remote code: jina-embeddings-v2 small-en, base-en, base-de, base-es, base-zh and base-code."""

from es_latechunk.models.jina_bert.alibi import alibi_slopes
from es_latechunk.models.jina_bert.config import JinaBertConfig
from es_latechunk.models.jina_bert.model import JinaBertModel

__all__ = ["JinaBertConfig", "JinaBertModel", "alibi_slopes"]
