"""Fine-tuning and preferences: gradients against plain second computations, resumption bit for bit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.fine_tuning import Example, FineTuning, accumulate, fine_tune
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import batch_indices, learning_rate
from selfstudy.learning.preferences import Pair, Preference, prefer
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import completion_logprobs, pair_tokens, sequence_logprobs
from selfstudy.models.language.tiny import random_tiny_model

EXAMPLES = [Example(f"{i}+1:", f"{i + 1}\n") for i in range(7)] + [Example("2*3-1:", "2*3=06\n06-1=05\n")]
PAIRS = [Pair(f"{i}+1:", f"{i + 1}\n", f"{i}\n") for i in range(7)]


def weights(model: LanguageModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.module.named_parameters()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def gradient(module: torch.nn.Module) -> torch.Tensor:
    return torch.cat([weight.grad.flatten() for weight in module.parameters()])


def alone(module: torch.nn.Module) -> Joint:
    return Joint(module, torch.optim.SGD(module.parameters()))


def dropping() -> LanguageModel:
    """A model with dropout in its attention."""
    model = random_tiny_model(1, 32, end=True)
    for layer in model.module.model.layers:
        layer.self_attn.attention_dropout = 0.5
    return model


def test_dropout_depends_on_the_seed_and_the_step_alone(open_run):
    """Oracle: the same weights whatever torch drew before; others than without dropout."""
    trained = []
    for n, model in enumerate((dropping(), dropping(), random_tiny_model(1, 32, end=True))):
        torch.rand(n)
        tuned = fine_tune(model, EXAMPLES, FineTuning(steps=2, batch=4), open_run(str(n)), "a")
        trained.append(weights(tuned))
    assert same(trained[0], trained[1]) and not same(trained[1], trained[2])


def test_preferences_are_learnt_without_dropout(open_run):
    """Oracle: the weights of the same model without dropout, bit for bit; a margin of 0 at the start."""
    settings = Preference(steps=2, batch=4, learning_rate=1e-3)
    run = open_run("dropping")
    ours = prefer(dropping(), PAIRS, settings, run, "a")
    plain = prefer(random_tiny_model(1, 32, end=True), PAIRS, settings, open_run("plain"), "a")
    assert same(weights(ours), weights(plain))
    assert run.metrics()[0]["margin"] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("micro_batch", [None, 1, 3])
def test_gradient_equals_a_plain_second_computation(micro_batch):
    """Oracle: token by token, unpadded: mean negative log-likelihood over all completion tokens."""
    model = random_tiny_model(1, 32)
    sequences = pair_tokens(model, [(e.prompt, e.completion) for e in EXAMPLES], end=True)
    loss = accumulate(alone(model.module), sequences, micro_batch)
    ours = gradient(model.module)
    model.module.zero_grad()
    terms = []
    for example in EXAMPLES:
        tokens = model.encode(example.prompt + example.completion)
        logits = model.module(torch.tensor([tokens])).logits[0]
        terms += [-logits[i - 1].log_softmax(-1)[tokens[i]] for i in range(len(example.prompt), len(tokens))]
    plain = torch.stack(terms).mean()
    plain.backward()
    assert loss == pytest.approx(plain.item(), abs=1e-5)
    torch.testing.assert_close(ours, gradient(model.module), atol=1e-6, rtol=1e-4)


def test_it_learns_and_leaves_the_given_model(open_run):
    """Oracle: the trained completions become likely; the start has bit-equal weights after training."""
    model = random_tiny_model(1, 32)
    before = weights(model)
    tuned = fine_tune(model, EXAMPLES, FineTuning(steps=80, learning_rate=1e-2), open_run(), "sft")
    assert same(weights(model), before) and not same(weights(tuned), before)
    assert min(sequence_logprobs(tuned, [("3+1:", "4\n"), ("2*3-1:", "2*3=06\n06-1=05\n")])) > -0.5
    assert not tuned.module.training


@pytest.mark.parametrize("rank", [None, 2])
@pytest.mark.parametrize("cut", [1, 4])
def test_cut_off_and_resumed_equals_uninterrupted(open_run, rank, cut):
    """Oracle: the uninterrupted run, bit for bit, metrics included; the cut is an exception inside a step."""
    settings = FineTuning(steps=6, learning_rate=1e-2, batch=3, lora_rank=rank)
    model = random_tiny_model(1, 32)
    whole_run = open_run("whole")
    whole = fine_tune(model, EXAMPLES, settings, whole_run, "sft")
    expected = [entry["loss"] for entry in whole_run.metrics()]

    class Cut(Exception):
        pass

    run = open_run("cut")
    log = run.log

    def failing(**values):
        if values.get("step") == cut:
            raise Cut
        log(**values)

    run.log = failing
    with pytest.raises(Cut):
        fine_tune(model, EXAMPLES, settings, run, "sft")
    torch.manual_seed(99)  # the global stream must not matter
    resumed_run = open_run("cut")
    resumed = fine_tune(model, EXAMPLES, settings, resumed_run, "sft")
    assert same(weights(whole), weights(resumed))
    assert [entry["loss"] for entry in resumed_run.metrics()] == expected


def test_micro_batches_give_the_same_weights(open_run):
    """Law: the size of a micro-batch changes rounding only."""
    model = random_tiny_model(1, 32)
    tuned = [
        fine_tune(model, EXAMPLES, FineTuning(steps=3, batch=5, micro_batch=m), open_run(f"m{m}"), "sft")
        for m in (None, 2)
    ]
    for a, b in zip(*(model.module.parameters() for model in tuned), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-3)


def test_lora_is_merged_and_saves_as_a_plain_model(open_run, tmp_path):
    """Oracle: only linear layers of the decoder change, and the saved model is an ordinary one."""
    model = random_tiny_model(1, 32)
    tuned = fine_tune(
        model, EXAMPLES, FineTuning(steps=5, learning_rate=1e-2, lora_rank=2), open_run(), "lora"
    )
    before, after = weights(model), weights(tuned)
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}
    tuned.save(tmp_path / "model")
    assert same(weights(LanguageModel.load(tmp_path / "model")), after)


def test_samples_and_budget(open_run):
    """Oracle: 2 passes over 8 examples in batches of 3 are 5 steps; a budget of 10 samples ends after 3."""
    run = open_run()
    fine_tune(random_tiny_model(1, 32), EXAMPLES, FineTuning(batch=3), run, "sft")
    assert run.meter.snapshot()["samples"] == 15
    run = open_run("short", budget=Budget(samples=10))
    fine_tune(random_tiny_model(1, 32), EXAMPLES, FineTuning(batch=3), run, "sft")
    assert run.meter.snapshot()["samples"] == 9


def test_long_examples_are_dropped_and_counted(open_run):
    """Oracle: one of three fits; where none does, or there are none, a DataError says so."""
    run, model = open_run(), random_tiny_model(1, 32)
    fine_tune(
        model, [EXAMPLES[0], Example("1" * 512, "1"), Example("1", "2" * 512)], FineTuning(steps=1), run, "a"
    )
    assert run.metrics()[0]["dropped"] == 2
    with pytest.raises(DataError, match="context"):
        fine_tune(model, [Example("1" * 512, "1")], FineTuning(), run, "b")
    with pytest.raises(DataError, match="0 examples"):
        fine_tune(model, [], FineTuning(), run, "c")


@pytest.mark.parametrize(
    "bad", [dict(learning_rate=0.0), dict(batch=0), dict(steps=0), dict(lora_rank=0), dict(clip=-1.0)]
)
def test_settings_out_of_range_are_refused(open_run, bad):
    """Each is a UsageError that names the field."""
    with pytest.raises(UsageError, match=next(iter(bad)).replace("_", "-")):
        fine_tune(random_tiny_model(1, 32), EXAMPLES, FineTuning(**bad), open_run(), "x")


@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 12))
def test_every_pass_shows_every_sample_once(samples, batch, passes):
    """Law: the concatenated batches, cut at multiples of the number of samples, are permutations."""
    from types import SimpleNamespace

    from selfstudy.core.random import generator

    run = SimpleNamespace(rng=lambda *key: generator(0, *key))
    batch = min(batch, samples)
    steps = math.ceil(passes * samples / batch)
    seen = np.concatenate([batch_indices(run, "n", step, samples, batch) for step in range(steps)])
    for i in range(passes):
        assert sorted(seen[i * samples : (i + 1) * samples]) == list(range(samples))


@given(st.integers(1, 200), st.floats(0, 1))
def test_learning_rate_rises_then_falls(steps, warmup):
    """Law: always in (0, peak], reaches the peak, rises before it and falls after it."""
    rates = [learning_rate(step, steps, 2.0, warmup) for step in range(steps)]
    top = rates.index(max(rates))
    assert max(rates) == pytest.approx(2.0) and min(rates) > 0
    assert rates[: top + 1] == sorted(rates[: top + 1]) and rates[top:] == sorted(rates[top:], reverse=True)


def test_prefer_learns_resumes_and_starts_at_log_2(open_run):
    """Oracle: the first loss is log 2 (policy = reference); margins grow; resumed equals uninterrupted."""
    model, settings = (
        random_tiny_model(1, 32),
        Preference(steps=20, learning_rate=3e-3, batch=4, micro_batch=3),
    )
    before = weights(model)
    run = open_run("whole")
    tuned = prefer(model, PAIRS, settings, run, "dpo")
    assert run.metrics()[0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert same(weights(model), before)
    sequences = {
        side: pair_tokens(model, [(p.prompt, getattr(p, side)) for p in PAIRS], end=True)
        for side in ("chosen", "rejected")
    }
    with torch.no_grad():
        gain = {
            s: completion_logprobs(tuned.module, q) - completion_logprobs(model.module, q)
            for s, q in sequences.items()
        }
    assert float((gain["chosen"] - gain["rejected"]).min()) > 0
    cut = open_run("cut", budget=Budget(samples=4 * 9))
    prefer(model, PAIRS, settings, cut, "dpo")
    resumed = prefer(model, PAIRS, settings, open_run("cut"), "dpo")
    assert same(weights(resumed), weights(tuned))


def test_prefer_refuses_what_it_cannot_use(open_run):
    """No pairs, or only pairs longer than the context, are DataErrors; beta 0 is a UsageError."""
    model, run = random_tiny_model(1, 32), open_run()
    for pairs in ([], [Pair("1" * 512, "1", "2")]):
        with pytest.raises(DataError):
            prefer(model, pairs, Preference(), run, "a")
    with pytest.raises(UsageError):
        prefer(model, PAIRS, Preference(beta=0.0), run, "b")
