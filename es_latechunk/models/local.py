"""From a model folder to a description and a tokenizer that belong together; of the weights the headers are read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from es_latechunk.errors import ModelError
from es_latechunk.models.dense import check_dense
from es_latechunk.models.hub import ModelFolder
from es_latechunk.models.spec import ModelOptions, ModelSpec, describe
from es_latechunk.models.tokenizer import load_tokenizer
from es_latechunk.models.tokenizer_file import read_tokenizer
from es_latechunk.models.weights import stored_tensors

if TYPE_CHECKING:
    from es_latechunk.models.tokenizer import AnyTokenizer


def open_model(folder: ModelFolder, options: ModelOptions) -> tuple[ModelSpec, AnyTokenizer]:
    """What the model is and its tokenizer, or the reason why late chunking does not fit (ModelError)."""
    stored_tensors(folder.path)  # a file that is cut off is told here, not at the first document
    spec = describe(folder.path, name=folder.name, options=options, revision=folder.revision)
    for module in spec.dense:
        check_dense(module, spec.name)
    tokenizer = read_tokenizer(folder.path) or load_tokenizer(folder.path, local_files_only=True)
    _check_vocabulary(tokenizer, spec)
    if spec.lower_case:
        _lower_case(tokenizer)
    return spec, tokenizer


def _check_vocabulary(tokenizer: AnyTokenizer, spec: ModelSpec) -> None:
    """Special tokens beyond the embedding matrix are no fault if no text gives them, as in Gemma 3."""
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    ids = [id_ for piece, id_ in tokenizer.get_vocab().items() if piece not in special]
    largest = max(ids + tokenizer.backend_tokenizer.encode("").ids)
    if largest >= spec.vocabulary:
        raise ModelError(
            f"model {spec.name}: its tokenizer gives ids up to {largest}, its embedding matrix has "
            f"{spec.vocabulary} rows; tokenizer and weights do not belong together: download the model again"
        )


def _lower_case(tokenizer: AnyTokenizer) -> None:
    """What `do_lower_case` of sentence_bert_config.json asks for, before all other normalisation."""
    from tokenizers.normalizers import Lowercase, Sequence

    backend = tokenizer.backend_tokenizer
    backend.normalizer = Sequence([Lowercase(), *([backend.normalizer] if backend.normalizer else [])])
