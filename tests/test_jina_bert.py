"""JinaBERT computes what the original does: the recorded outputs, the formulas, any batch, bounded memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from made_models import (
    BFLOAT16_ENGINES,
    make_config,
    make_tensors,
    padded,
    reference,
    save_checkpoint,
    slopes_by_hand,
)
from torch import Tensor

from es_latechunk.models.checkpoint.weights import Checkpoint
from es_latechunk.models.native import openvino_ops, torch_engine
from es_latechunk.models.native.checkpoint import NativeCheckpoint, open_native
from es_latechunk.models.native.openvino_engine import OpenVinoModel
from es_latechunk.models.native.shape import alibi_slopes
from es_latechunk.models.native.torch_engine import BlockBias, NativeTorchModel, TorchOps
from es_latechunk.types import FloatArray, IntArray

FIXTURE = Path(__file__).parent / "fixtures" / "jina_v2_12heads"
TOLERANCE = 2e-5
LONG = 8192  # a window for which OpenVINO goes through the queries in blocks

Run = Callable[[list[IntArray]], list[FloatArray]]


def opened(folder: Path) -> NativeCheckpoint:
    found = open_native(Checkpoint(folder, folder.name))
    assert found is not None
    return found


def on_torch(folder: Path, dtype: torch.dtype = torch.float32) -> Run:
    """All windows at once, padded on the right."""
    return partial(padded, NativeTorchModel(opened(folder), "jina", device="cpu", dtype=dtype))


def on_openvino(folder: Path, dtype: Any = "float32", window: int = LONG) -> Run:
    return OpenVinoModel(opened(folder), name="jina", window=window, dtype=dtype).run


RUNS = {
    "torch": on_torch,
    "openvino, in blocks": on_openvino,
    "openvino, at once": lambda folder: on_openvino(folder, window=512),
}


@pytest.fixture(params=RUNS)
def run_of(request: pytest.FixtureRequest) -> Callable[[Path], Run]:
    return RUNS[request.param]


def ids(length: int, seed: int = 7) -> IntArray:
    return np.random.default_rng(seed).integers(1, 100, length).astype(np.int32)


def assert_close(got: list[FloatArray], wanted: list[FloatArray]) -> None:
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def by_hand(family: str, config: dict[str, Any], tensors: dict[str, Tensor], window: IntArray) -> FloatArray:
    rows = torch.from_numpy(window[None]).long()
    hidden: FloatArray = reference(family, config, tensors, rows, torch.ones_like(rows))[0].float().numpy()
    return hidden


@pytest.mark.parametrize("case", ["", "short_", "left_"])
def test_parity_with_the_original(run_of: Callable[[Path], Run], case: str) -> None:
    recorded = dict(np.load(FIXTURE / "reference.npz"))
    masks = recorded[case + "attention_mask"].astype(bool)
    windows = [
        row[mask].astype(np.int32) for row, mask in zip(recorded[case + "input_ids"], masks, strict=True)
    ]
    expected = [row[mask] for row, mask in zip(recorded[case + "last_hidden_state"], masks, strict=True)]
    hidden = run_of(FIXTURE)(windows)
    assert_close(hidden, expected)
    assert_close([each.mean(0) for each in hidden], list(recorded[case + "mean_pooled"]))


@pytest.mark.parametrize("engine", BFLOAT16_ENGINES)
def test_parity_in_bfloat16(engine: str) -> None:
    recorded = dict(np.load(FIXTURE / "reference.npz"))
    run = on_torch(FIXTURE, torch.bfloat16) if engine == "torch" else on_openvino(FIXTURE, "bfloat16")
    mask = recorded["attention_mask"].astype(bool)
    windows = [row[kept].astype(np.int32) for row, kept in zip(recorded["input_ids"], mask, strict=True)]
    expected = recorded["last_hidden_state"][mask]
    assert cosine(np.concatenate(run(windows)), expected) >= 0.999


def cosine(one: FloatArray, other: FloatArray) -> float:
    return float(F.cosine_similarity(torch.from_numpy(one), torch.from_numpy(other), dim=-1).min())


def test_slopes() -> None:
    recorded = dict(np.load(FIXTURE / "reference.npz"))
    np.testing.assert_allclose(alibi_slopes(12), recorded["alibi_slopes"], rtol=1e-6)
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]
    assert alibi_slopes(3) == [1 / 16, 1 / 256, 1 / 4]
    for heads in range(1, 33):
        np.testing.assert_allclose(alibi_slopes(heads), slopes_by_hand(heads), rtol=1e-12)


@pytest.mark.parametrize("heads", [1, 3, 8, 12])
@pytest.mark.parametrize("family", ["v1", "code", "es"])
def test_equals_the_formulas(
    tmp_path: Path, family: str, heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In blocks of many and of one, the last one whole or not, whatever stands beside a window."""
    monkeypatch.setattr(openvino_ops, "BLOCK", 32)
    monkeypatch.setattr(torch_engine, "BLOCK_BYTES", heads * 4 * 48 * (150 + torch_engine.ALIGNED))
    config = make_config(family, heads=heads, layers=3)
    tensors = make_tensors(family, config, seed=heads)
    folder = save_checkpoint(tmp_path, config, tensors)
    windows = [ids(length, seed=length) for length in (150, 1, 64, 64, 33)]
    expected = [by_hand(family, config, tensors, window) for window in windows]
    for run_of in RUNS.values():
        run = run_of(folder)
        assert_close(run(windows), expected)
        assert_close(run(windows[2:3]), expected[2:3])


def test_a_block_of_the_bias_is_that_part_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """ALiBi, local attention and padding, on a CPU (a view) and as a GPU wants it (written out, aligned)."""
    monkeypatch.setattr(torch_engine, "BLOCK_BYTES", 4000)
    slopes = np.array([0.5, 0.25, 2.0], np.float32)
    mask = torch.arange(45) < torch.tensor([[45], [31]])
    distance = (torch.arange(45)[:, None] - torch.arange(45)).abs()
    for reach in (None, 7):
        for hidden in (None, mask):
            whole = (-torch.from_numpy(slopes)[:, None, None] * distance)[None]
            whole = whole.masked_fill(distance > (45 if reach is None else reach), -1e30)
            if hidden is not None:
                whole = whole.masked_fill(~hidden[:, None, None, :], -1e30)
            for device in ("cpu", "meta-like-gpu"):
                bias = BlockBias(45, slopes, reach, hidden, device=torch.device("cpu"), dtype=torch.float32)
                if device != "cpu":
                    bias._dtype = torch.float32
                covered = 0
                for queries, keys, block in bias.blocks():
                    assert torch.equal(block.flip(2), whole[:, :, queries, keys])
                    unseen = torch.ones(45, dtype=torch.bool)
                    unseen[keys] = False
                    assert (whole[:, :, queries][..., unseen] == -1e30).all()
                    if device != "cpu":
                        assert all(stride % torch_engine.ALIGNED == 0 for stride in block.stride()[1:3])
                    covered += queries.stop - queries.start
                assert covered == 45
                assert queries.start > 0, "there is more than one block"


def test_what_stands_at_padding_is_never_seen(tmp_path: Path) -> None:
    config = make_config("v1")
    folder = save_checkpoint(tmp_path, config, make_tensors("v1", config))
    module = NativeTorchModel(opened(folder), "jina", device="cpu")
    batch, mask = torch.from_numpy(np.stack([ids(40), ids(40, 8)])).long(), torch.ones(2, 40)
    mask[1, 25:] = 0
    other = batch.clone()
    other[1, 25:] = 99 - other[1, 25:] % 50
    with torch.inference_mode():
        assert torch.equal(module(batch, mask)[1, :25], module(other, mask)[1, :25])
        assert module(batch, mask).isfinite().all()


def test_a_long_window_is_cut_into_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = make_config("v1")
    folder = save_checkpoint(tmp_path, config, make_tensors("v1", config))
    shapes: list[tuple[int, ...]] = []
    attention = F.scaled_dot_product_attention

    def recording(*args: Tensor, attn_mask: Tensor) -> Tensor:
        shapes.append(tuple(attn_mask.shape))
        return attention(*args, attn_mask=attn_mask)

    monkeypatch.setattr(F, "scaled_dot_product_attention", recording)
    on_torch(folder)([ids(4096)])
    assert len(shapes) > config["num_hidden_layers"]
    assert max(torch.Size(shape).numel() for shape in shapes) * 4 <= torch_engine.BLOCK_BYTES


@pytest.mark.parametrize("engine", BFLOAT16_ENGINES)
@pytest.mark.parametrize("family", ["v1", "code"])
def test_bfloat16_stays_true_over_long_distances(tmp_path: Path, family: str, engine: str) -> None:
    config = make_config(family, heads=8)
    folder = save_checkpoint(tmp_path, config, make_tensors(family, config))
    full = on_torch(folder)
    half = on_torch(folder, torch.bfloat16) if engine == "torch" else on_openvino(folder, "bfloat16")
    text = [ids(3000)]
    assert cosine(half(text)[0], full(text)[0]) >= 0.999


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_memory_does_not_hold_the_attention_matrix(tmp_path: Path, engine: str) -> None:
    """At 8192 tokens one (12, 8192, 8192) float32 tensor would be 3.2 GB; the process grows by a tenth."""
    config = make_config("v1", heads=12, hidden=96, layers=1)
    folder = save_checkpoint(tmp_path, config, make_tensors("v1", config))
    script = """
        import resource, sys
        import numpy as np
        from test_jina_bert import Path, on_openvino, on_torch
        def peak():
            unit = 1 if sys.platform == "darwin" else 1024
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
        run = (on_torch if sys.argv[2] == "torch" else on_openvino)(Path(sys.argv[1]))
        run([np.ones(16, np.int32)])
        before = peak()
        assert np.isfinite(run([np.ones(8192, np.int32)])[0]).all()
        print(peak() - before)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(folder), engine]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=Path(__file__).parent)
    assert int(done.stdout) < 4e8


def test_local_attention_sees_only_its_reach() -> None:
    """A row of padding beyond the reach of every real token gives numbers all the same."""
    ops = TorchOps(torch.device("cpu"), torch.float32)
    mask = torch.arange(30)[None] < 5
    bias = ops.bias(torch.zeros(1, 30), None, 4, mask)
    query, key, value = (torch.randn(1, 2, 30, 8) for _ in range(3))
    assert ops.attend(query, key, value, bias).isfinite().all()
