"""Late chunking: encode a whole document once, then pool the token vectors of each chunk.

Source of the method: Günther et al. 2024, "Late Chunking: Contextual Chunk Embeddings Using
Long-Context Embedding Models" (arXiv 2409.04701); windows for long documents are its section 3.
"""

from es_latechunk.late.embed import EmbeddedChunks, embed_chunks
from es_latechunk.late.pool import l2_normalise
from es_latechunk.late.windows import Windows, choose_windows, plan_windows, recorded_windows

__all__ = [
    "EmbeddedChunks",
    "Windows",
    "choose_windows",
    "embed_chunks",
    "l2_normalise",
    "plan_windows",
    "recorded_windows",
]
