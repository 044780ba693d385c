"""JinaBERT computes what the original does: the recorded outputs, the formulas, any batch, bounded memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from made_models import make_config, make_tensors, reference, save_checkpoint, slopes_by_hand
from torch import Tensor

from es_latechunk.models.jina_bert import JinaBertModel, alibi, alibi_slopes

FIXTURE = Path(__file__).parent / "fixtures" / "jina_v2_12heads"
TOLERANCE = 2e-5


@pytest.fixture(scope="module")
def recorded() -> dict[str, np.ndarray[Any, Any]]:
    return dict(np.load(FIXTURE / "reference.npz"))


@pytest.fixture(scope="module", params=["v1", "code", "es"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(family, config, tensors, model) of a random checkpoint."""
    config = make_config(request.param)
    tensors = make_tensors(request.param, config)
    folder = save_checkpoint(tmp_path_factory.mktemp(request.param), config, tensors)
    return request.param, config, tensors, JinaBertModel.from_pretrained(folder)


def inputs(recorded: dict[str, np.ndarray[Any, Any]], case: str) -> dict[str, Tensor]:
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if case == "types_" else [])
    return {name: torch.from_numpy(recorded[case + name]) for name in names}


def real(values: Tensor, mask: Tensor) -> Tensor:
    return values[mask.bool()]


def cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one.double(), other.double(), dim=-1).min())


def ids(*shape: int, seed: int = 7) -> Tensor:
    return torch.randint(1, 100, shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("case", ["", "short_", "left_", "types_"])
def test_parity_float32(recorded: dict[str, np.ndarray[Any, Any]], case: str) -> None:
    batch = inputs(recorded, case)
    hidden = JinaBertModel.from_pretrained(FIXTURE)(**batch)
    expected = torch.from_numpy(recorded[case + "last_hidden_state"])
    mask = batch["attention_mask"]
    torch.testing.assert_close(real(hidden, mask), real(expected, mask), rtol=0, atol=TOLERANCE)
    pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    expected_pooled = torch.from_numpy(recorded[case + "mean_pooled"])
    torch.testing.assert_close(pooled, expected_pooled, rtol=0, atol=TOLERANCE)


def test_parity_without_a_mask(recorded: dict[str, np.ndarray[Any, Any]]) -> None:
    hidden = JinaBertModel.from_pretrained(FIXTURE)(torch.from_numpy(recorded["short_input_ids"]))
    expected = torch.from_numpy(recorded["short_no_mask_last_hidden_state"])
    torch.testing.assert_close(hidden, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("autocast", [False, True], ids=["bfloat16 weights", "autocast"])
@pytest.mark.parametrize("case", ["", "short_", "left_", "types_"])
def test_parity_bfloat16(recorded: dict[str, np.ndarray[Any, Any]], case: str, autocast: bool) -> None:
    batch = inputs(recorded, case)
    dtype = torch.float32 if autocast else torch.bfloat16
    model = JinaBertModel.from_pretrained(FIXTURE, dtype=dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
        hidden = model(**batch)
    assert hidden.dtype == dtype
    expected = torch.from_numpy(recorded[case + "last_hidden_state"])
    assert cosine(real(hidden, batch["attention_mask"]), real(expected, batch["attention_mask"])) >= 0.999


def test_slopes(recorded: dict[str, np.ndarray[Any, Any]]) -> None:
    np.testing.assert_allclose(alibi_slopes(12), recorded["alibi_slopes"], rtol=1e-6)
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(3) == [1 / 16, 1 / 256, 1 / 4]
    for heads in range(1, 33):
        np.testing.assert_allclose(alibi_slopes(heads), slopes_by_hand(heads), rtol=1e-12)


@pytest.mark.parametrize("heads", [1, 3, 8, 12])
@pytest.mark.parametrize("family", ["v1", "code"])
def test_equals_the_formulas(tmp_path: Path, family: str, heads: int) -> None:
    config = make_config(family, heads=heads, layers=3)
    tensors = make_tensors(family, config, seed=heads)
    model = JinaBertModel.from_pretrained(save_checkpoint(tmp_path, config, tensors))
    input_ids, types = ids(3, 150), ids(3, 150, seed=8) % 2
    mask = torch.ones_like(input_ids)
    mask[1, 90:] = 0  # right padding
    mask[2, :40] = 0  # left padding
    mask[2, 60:75] = 0  # and masked tokens in between
    hidden = model(input_ids, mask, types)
    expected = reference(family, config, tensors, input_ids, mask, types)
    torch.testing.assert_close(real(hidden, mask).double(), real(expected, mask), rtol=0, atol=TOLERANCE)


def test_padding_and_neighbours_change_nothing(made: Any) -> None:
    model = made[3]
    text = ids(1, 70)
    alone = model(text)[0]
    for side in ("left", "right"):
        batch, mask = ids(4, 130), torch.ones(4, 130, dtype=torch.long)
        place = slice(60, 130) if side == "left" else slice(0, 70)
        mask[2] = 0
        batch[2, place], mask[2, place] = text[0], 1
        beside = model(batch, mask)[2, place]
        torch.testing.assert_close(beside, alone, rtol=0, atol=TOLERANCE)


def test_what_stands_at_padding_is_never_seen(made: Any) -> None:
    model = made[3]
    batch, mask = ids(2, 40), torch.ones(2, 40, dtype=torch.long)
    mask[1, 25:] = 0
    other = batch.clone()
    other[1, 25:] = 99 - other[1, 25:] % 50
    assert torch.equal(model(batch, mask), model(other, mask))


def test_masked_rows_are_zero_and_finite(made: Any) -> None:
    model = made[3]
    batch, mask = ids(3, 20), torch.ones(3, 20, dtype=torch.long)
    mask[1] = 0
    hidden = model(batch, mask)
    assert torch.isfinite(hidden).all()
    assert not hidden[1].any()
    torch.testing.assert_close(hidden[2], model(batch[2:])[0], rtol=0, atol=TOLERANCE)
    assert not model(batch, torch.zeros_like(mask)).any()


def test_shapes_that_disagree_are_refused(made: Any) -> None:
    with pytest.raises(ValueError, match=r"\(2, 20\).*\(2, 19\)"):
        made[3](ids(2, 20), torch.ones(2, 19))


def test_blocks_give_what_one_block_gives(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, config, _, model = made
    batch, mask = ids(2, 333), torch.ones(2, 333, dtype=torch.long)
    mask[1, 50:60] = 0
    whole = model(batch, mask)
    masks = record_masks(monkeypatch)
    budget = 20 * config["num_attention_heads"] * (333 + alibi.ALIGNED) * 4
    monkeypatch.setattr(alibi, "BLOCK_BYTES", budget)
    torch.testing.assert_close(model(batch, mask), whole, rtol=0, atol=TOLERANCE)
    assert {shape[2] for shape in masks} == {20, 333 % 20}
    assert max(torch.Size(shape).numel() for shape in masks) * 4 <= budget


def test_a_long_sequence_is_cut_into_blocks(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = record_masks(monkeypatch)
    made[3](ids(1, 4096))
    assert len(masks) > made[1]["num_hidden_layers"]
    assert max(torch.Size(shape).numel() for shape in masks) * 4 <= alibi.BLOCK_BYTES


def record_masks(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = []
    attention = F.scaled_dot_product_attention

    def recording(*args: Tensor, attn_mask: Tensor) -> Tensor:
        shapes.append(tuple(attn_mask.shape))
        return attention(*args, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recording)
    return shapes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bias_written_out_as_on_a_gpu(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(75, 4, 16, generator=generator).to(dtype) for _ in range(3))
    keep = torch.arange(45) % 7 != 3
    spans = [alibi.Span(0, 30), alibi.Span(30, 75, keep)]
    bias = alibi.AlibiBias(alibi_slopes(4), 45, torch.device("cpu"))
    viewed = alibi.attend(query, key, value, spans, bias)
    bias.written_out = True
    written = alibi.attend(query, key, value, spans, bias)
    block = bias.block(3, 20, spans[0], dtype)
    assert block.dtype == dtype
    assert all(stride % alibi.ALIGNED == 0 for stride in block.stride()[1:3])
    torch.testing.assert_close(written, viewed, rtol=0, atol=1e-6 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("family", ["v1", "code"])
def test_bfloat16_stays_true_over_long_distances(tmp_path: Path, family: str) -> None:
    config = make_config(family, heads=8)
    folder = save_checkpoint(tmp_path, config, make_tensors(family, config))
    text = ids(1, 3000)
    full = JinaBertModel.from_pretrained(folder)(text)
    half = JinaBertModel.from_pretrained(folder, dtype=torch.bfloat16)(text)
    assert cosine(half, full) >= 0.999


def test_memory_does_not_hold_the_attention_matrix(tmp_path: Path) -> None:
    """At 8192 tokens one (12, 8192, 8192) float32 tensor would be 3.2 GB; the process grows by a tenth."""
    config = make_config("v1", heads=12, hidden=96, layers=1)
    folder = save_checkpoint(tmp_path, config, make_tensors("v1", config))
    script = """
        import resource, sys, torch
        from es_latechunk.models.jina_bert import JinaBertModel
        def peak():
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        torch.set_num_threads(2)
        model = JinaBertModel.from_pretrained(sys.argv[1])
        model(torch.ones(1, 16, dtype=torch.long))
        before = peak()
        assert model(torch.ones(1, 8192, dtype=torch.long)).isfinite().all()
        print(peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder)]
    grown = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert grown < 4e8
