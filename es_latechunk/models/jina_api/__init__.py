"""The hosted Jina API as an encoder: late chunking on Jina's side, one document a request."""

from es_latechunk.errors import JinaApiError
from es_latechunk.models.jina_api.client import JinaApiClient
from es_latechunk.models.jina_api.encoder import PREFIX, JinaApiEncoder
from es_latechunk.models.jina_api.hosted import HOSTED_MODELS, HostedModel
from es_latechunk.models.jina_api.tokenizer import UnicodeTokenizer

__all__ = [
    "HOSTED_MODELS",
    "PREFIX",
    "HostedModel",
    "JinaApiClient",
    "JinaApiEncoder",
    "JinaApiError",
    "UnicodeTokenizer",
]
