"""Encoders, local and hosted; `load_encoder` loads either kind."""

from es_latechunk.models.hardware import DTYPES, Dtype
from es_latechunk.models.load import (
    EncoderLoader,
    LoadKeywords,
    check_weights,
    choose_encoder,
    default_model,
    find_local,
    load_encoder,
    load_recorded,
)
from es_latechunk.models.local.engines import ENGINES, EngineName
from es_latechunk.models.local.family import measured_pooling
from es_latechunk.models.registry import MINILM

__all__ = [
    "DTYPES",
    "ENGINES",
    "MINILM",
    "Dtype",
    "EncoderLoader",
    "EngineName",
    "LoadKeywords",
    "check_weights",
    "choose_encoder",
    "default_model",
    "find_local",
    "load_encoder",
    "load_recorded",
    "measured_pooling",
]
