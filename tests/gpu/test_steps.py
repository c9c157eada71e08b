"""Recorded steps of drawing, and the attention in them, against plain computations."""

from __future__ import annotations

import pytest
import torch

from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.sampling import Completion, Request, TorchSampler

from ..models.language.random_models import random_model

SHAPES = [(4, 2, 8, None), (4, 1, 12, 5), (8, 8, 64, None), (4, 1, 256, 40)]


@pytest.mark.parametrize(("heads", "key_heads", "width", "window"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_along_slots(
    heads: int, key_heads: int, width: int, window: int | None, dtype: torch.dtype
) -> None:
    """Oracle: softmax and sums over each text in float64; keys and values are kept at the tokens' slots."""
    from selfstudy.models.language.gpu_kernels import attend

    generator = torch.Generator("cuda").manual_seed(0)
    positions = torch.tensor([0, 3, 31, 32, 64, 88], device="cuda")
    like = {"device": "cuda", "dtype": dtype, "generator": generator}
    kept = torch.randn(2, 700, key_heads, width, **like)
    mixed = torch.randn(6, heads + 2 * key_heads, width, **like)
    slots = torch.randperm(700, device="cuda", generator=generator)[:540].view(6, 90)
    expected = kept.clone()
    for row, position in enumerate(positions.tolist()):
        new = mixed[row, heads:].view(2, key_heads, width)
        expected[:, slots[row, position]] = new
    out = attend(mixed, positions, slots.int(), kept, heads, window, 0.3)
    assert torch.equal(kept, expected)
    for row, position in enumerate(positions.tolist()):
        first = 0 if window is None else max(0, position - window + 1)
        text = kept[:, slots[row, first : position + 1]].double().repeat_interleave(heads // key_heads, 2)
        scores = torch.einsum("hd,nhd->hn", mixed[row, :heads].double(), text[0]) * 0.3
        taken = torch.einsum("hn,nhd->hd", scores.softmax(-1), text[1]).flatten()
        torch.testing.assert_close(
            out[row].double(), taken, atol=0.02 if dtype == torch.bfloat16 else 1e-5, rtol=0
        )


def drawn(sampler: TorchSampler, count: int) -> list[Completion]:
    return sampler.sample([Request(prompt=f"{i}+{i % 3}:", key=i, max_tokens=20) for i in range(count)])


def fresh(model: LanguageModel) -> TorchSampler:
    """A sampler over a copy on the processor."""
    copy = model.copy()
    copy.module.to("cpu")
    return TorchSampler(copy)


@pytest.mark.parametrize("remember", [False, True])
def test_what_was_recorded_follows_the_weights_and_longer_texts(remember: bool) -> None:
    """Oracle: samplers on the processor, which record nothing."""
    model = random_model("qwen3")
    model.module.to("cuda")
    sampler = TorchSampler(model, remember=remember)
    for change in (1.0, 0.5):
        with torch.no_grad():
            model.module.base_model.layers[0].mlp.down_proj.weight.mul_(change)
        for count in (20, 50, 20):
            one, other = drawn(sampler, count), drawn(fresh(model), count)
            assert sum(a.tokens != b.tokens for a, b in zip(one, other, strict=True)) <= 1
    assert sampler._steps is not None and any(step.graph for step in sampler._steps._by_rows.values())
    long = [Request(prompt="5" * 150, key=3, max_tokens=40, temperature=0.0)]
    assert sampler.sample(long)[0].tokens == fresh(model).sample(long)[0].tokens
