"""One encoder for BERT, RoBERTa, XLM-R, JinaBERT, nomic-bert, ModernBERT and jina-embeddings-v3, on torch or OpenVINO.

`families` says what a checkpoint is, `checkpoint` reads it, `encoder` computes; `torch_ops` and `openvino_ops` are the
two things that it can be computed with.
"""
