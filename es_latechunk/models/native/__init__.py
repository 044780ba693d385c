"""One encoder for BERT, RoBERTa, XLM-R, JinaBERT, nomic-bert, ModernBERT and jina-embeddings-v3, on torch or OpenVINO.

`families` describes and reads the checkpoints, `encoder` computes token vectors, and `torch_engine` and
`openvino_engine` are the two libraries that it can compute with.
"""
