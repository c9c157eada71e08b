"""Training models whose weights are bfloat16: what learns is float32, what comes out is bfloat16."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, Gemma3TextConfig

from selfstudy.learning.fine_tuning import (
    Example,
    FineTuning,
    accumulate,
    fine_tune,
    merged,
    trainable_module,
)
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import batch_indices, learning_rate
from selfstudy.learning.precision import lower_weights, raise_weights
from selfstudy.learning.preferences import Pair, Preference, prefer
from selfstudy.learning.values import ValueFitting, ValueSample, fit_values
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import pair_tokens
from selfstudy.models.language.tiny import character_tokenizer, random_tiny_model
from selfstudy.models.language.value import ValueModel

EXAMPLES = [Example(f"{i}+1:", f"{i + 1}\n") for i in range(7)]
KINDS = ["llama", "gemma3_text"]


def half(kind: str) -> LanguageModel:
    if kind == "llama":
        model = random_tiny_model(2, 32)
    else:
        config = Gemma3TextConfig(
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=1,
            head_dim=8,
            intermediate_size=64,
            vocab_size=18,
            sliding_window=4,
            sliding_window_pattern=2,
            max_position_embeddings=128,
            pad_token_id=16,
            eos_token_id=17,
            bos_token_id=None,
        )
        torch.manual_seed(0)
        model = LanguageModel("small", AutoModelForCausalLM.from_config(config), character_tokenizer())
    for weight in model.module.parameters():  # the rotary frequencies stay as transformers loads them
        weight.data = weight.data.bfloat16()
    return model


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.module.named_parameters()}


def plain_training(model: LanguageModel, settings: FineTuning, run, name: str) -> dict[str, torch.Tensor]:
    """float32 weights, products in bfloat16 by autocast around everything, rounded once at the end."""
    module = model.copy().module.float().train()
    optimizer = torch.optim.AdamW(module.parameters(), weight_decay=0.0)
    rows = [model.encode(e.prompt + e.completion) + [model.end] * (model.end is not None) for e in EXAMPLES]
    for step in range(settings.steps):
        terms = []
        for i in batch_indices(run, name, step, len(rows), settings.batch):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits = module(torch.tensor([rows[i]])).logits[0].float()
            start = len(EXAMPLES[i].prompt)
            terms += [-logits[j - 1].log_softmax(-1)[rows[i][j]] for j in range(start, len(rows[i]))]
        torch.stack(terms).mean().backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), settings.clip)
        optimizer.param_groups[0]["lr"] = learning_rate(
            step, settings.steps, settings.learning_rate, settings.warmup
        )
        optimizer.step()
        optimizer.zero_grad()
    return {name: weight.detach() for name, weight in module.named_parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_small_steps_are_not_lost(open_run, kind):
    """Oracle: a plain loop over float32 weights. A step is below half the distance to the next bfloat16."""
    model, run = half(kind), open_run()
    settings = FineTuning(steps=20, learning_rate=5e-5, batch=4)
    before = weights(model)
    after = weights(fine_tune(model, EXAMPLES, settings, run, "sft"))
    plain = plain_training(model, settings, run, "sft")
    assert all(weight.dtype == torch.bfloat16 for weight in after.values())
    for name, weight in after.items():
        moved = (plain[name] - before[name].float()).abs().max()
        torch.testing.assert_close(weight.float(), plain[name], rtol=2**-8, atol=float(moved) / 4)
    matrix = next(name for name in before if "down_proj" in name)
    there, moved = before[matrix].float(), (plain[matrix] - before[matrix].float()).abs()
    # Also weights that are as far from the plain ones as is allowed must have moved.
    far = moved > there.abs() * 2**-8 + moved.max() / 4
    assert far.float().mean() > 0.05
    assert torch.equal(
        after[matrix][far] != before[matrix][far], torch.ones(int(far.sum()), dtype=torch.bool)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_low_rank_updates_are_float32_over_bfloat16_weights(open_run, kind):
    """Oracle: by hand: the weights stay until the end, then get alpha / rank B A, rounded once."""
    model, run = half(kind), open_run()
    before = weights(model)
    result = model.copy()
    module = trainable_module(result, 2, run, "lora").train()
    learning = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
    assert {weight.dtype for weight in learning.values()} == {torch.float32}
    assert len(learning) == 2 * sum("_proj" in name for name in before)
    optimizer = torch.optim.AdamW(learning.values(), lr=1e-2)
    joint = Joint(module, optimizer)
    for _ in range(3):
        accumulate(joint, pair_tokens(model, [(e.prompt, e.completion) for e in EXAMPLES], end=True), None)
        optimizer.step()
    parts = {name: weight.detach().clone() for name, weight in learning.items()}
    after = weights(merged(result, module, torch.bfloat16))
    for name, weight in after.items():
        expected = before[name].float()
        if "_proj" in name:
            first, second = (
                parts[f"base_model.model.{name.replace('.weight', f'.lora_{part}.default.weight')}"]
                for part in "AB"
            )
            expected = expected + 2 * second @ first
            assert not torch.equal(weight, before[name])
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(weight.float(), expected, rtol=2**-8, atol=1e-7)


@pytest.mark.parametrize("rank", [None, 2])
def test_it_learns_and_leaves_the_given_model(open_run, rank):
    """Oracle: the loss falls; the start has bit-equal weights; no module keeps what training put on it."""
    model, run = half("gemma3_text"), open_run()
    before = weights(model)
    settings = FineTuning(steps=40, learning_rate=1e-2, lora_rank=rank)
    tuned = fine_tune(model, EXAMPLES, settings, run, "sft")
    losses = [entry["loss"] for entry in run.metrics()]
    assert losses[-1] < losses[0] - 0.3
    assert all(torch.equal(before[name], weight) for name, weight in weights(model).items())
    assert {buffer.dtype for buffer in tuned.module.buffers()} == {torch.float32}
    for part in (tuned.module.base_model, tuned.module.get_output_embeddings()):
        assert "forward" not in vars(part)
    pairs = [Pair(f"{i}+1:", f"{i + 1}\n", f"{i}\n") for i in range(7)]
    preferred = prefer(tuned, pairs, Preference(steps=3, lora_rank=rank), run, "dpo")
    assert preferred.module.dtype == torch.bfloat16


def test_a_value_model_that_reads_in_bfloat16(open_run, tmp_path):
    """Oracle: the digit's share of 9, within what bfloat16 can tell; saved and loaded it says the same."""
    model = ValueModel.from_policy(half("llama"), likelihood=True)
    rng = np.random.default_rng(0)
    digits = rng.integers(0, 10, 300).tolist()
    samples = [ValueSample(f"{digit}:", (f"{digit}",), (digit / 9,)) for digit in digits]
    fit = fit_values(model, samples, ValueFitting(epochs=8, batch=32, learning_rate=5e-3), open_run(), "v")
    reader, head = fit.model.reader.module, fit.model.net.head
    assert reader.dtype == torch.bfloat16 and head.weight.dtype == torch.float32
    prefixes = [("0:", ("0",)), ("9:", ("9",)), ("5:", ("5",))]
    found = fit.model.values(prefixes)
    np.testing.assert_allclose(found, [0, 1, 5 / 9], atol=0.12)
    remembered = fit.model.remembering()
    np.testing.assert_allclose(remembered.values(prefixes), found, atol=0.02)
    fit.model.save(tmp_path / "value")
    loaded = ValueModel.load(tmp_path / "value")
    assert loaded.reader.module.dtype == torch.bfloat16
    np.testing.assert_array_equal(loaded.values(prefixes), found)


def test_full_precision_stays_as_it_is():
    """Oracle: bit-equal weights, and no changed forward, after raising and lowering float32 and float64."""
    for dtype in (torch.float32, torch.float64):
        model = random_tiny_model(1, 32)
        model.module.to(dtype)
        before = weights(model)
        raise_weights(model.module)
        assert "forward" not in vars(model.module.base_model)
        lower_weights(model.module, dtype)
        assert all(torch.equal(before[name], weight) for name, weight in weights(model).items())
