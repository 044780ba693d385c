"""Late chunking: encode a whole document once, then pool the token vectors of each chunk.

Source of the method: Günther et al. 2024, "Late Chunking: Contextual Chunk Embeddings Using
Long-Context Embedding Models" (arXiv 2409.04701); windows for long documents are its section 3.
"""

from es_latechunk.late.combine import EmbeddedChunks, TokenVectors, chunk_vectors
from es_latechunk.late.embed import embed_chunks, is_read_once
from es_latechunk.late.pieces import count_pieces
from es_latechunk.late.pool import l2_normalise
from es_latechunk.late.token_weights import SifWeights
from es_latechunk.late.windows import Windows, choose_windows, plan_windows, recorded_windows

__all__ = [
    "EmbeddedChunks",
    "SifWeights",
    "TokenVectors",
    "Windows",
    "choose_windows",
    "chunk_vectors",
    "count_pieces",
    "embed_chunks",
    "is_read_once",
    "l2_normalise",
    "plan_windows",
    "recorded_windows",
]
