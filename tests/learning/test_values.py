"""Fitting value models: closed forms, a target it can reach, the best epoch, resumption."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.learning.losses import masked_mse
from selfstudy.learning.values import ValueFitting, ValueSample, fit_values
from selfstudy.models.language.tiny import random_tiny_model
from selfstudy.models.language.value import ValueModel

NAN = math.nan


def model() -> ValueModel:
    return ValueModel.from_policy(random_tiny_model(1, 32))


def digits(count: int) -> list[ValueSample]:
    """The value of a step is its digit / 9; every third sample has a target at its last step alone."""
    rng = np.random.default_rng(0)
    samples = []
    for i, (a, b) in enumerate(rng.integers(0, 10, (count, 2)).tolist()):
        samples.append(ValueSample(f"{i % 10}:", (f"{a}", f"{b}"), (NAN if i % 3 == 0 else a / 9, b / 9)))
    return samples


def state(value_model: ValueModel) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in value_model.net.state_dict().items()}


def test_masked_mse_and_its_gradient():
    """Oracle: (0.5)^2 + 1 by hand; the masked place has gradient 0, not nan."""
    values = torch.tensor([0.0, 5.0, 1.0], requires_grad=True)
    loss = masked_mse(values, torch.tensor([0.5, NAN, 0.0]))
    loss.backward()
    assert float(loss.detach()) == 1.25 and values.grad.tolist() == [-1.0, 0.0, 2.0]


def test_first_loss_is_the_closed_form(open_run):
    """Oracle: an untrained model says 0.5, so the loss is the mean of (target - 0.5)^2 over real targets."""
    samples = [ValueSample("1:", ("2", "3"), (0.0, NAN)), ValueSample("1:", ("2",), (1.0,))] * 3
    samples += [ValueSample("1:", ("2",), (0.7,))]
    run = open_run()
    fit_values(model(), samples, ValueFitting(epochs=1, validation=0.01), run, "v")
    order = run.rng("v", "validation").permutation(7)
    targets = [t for i in order[1:] for t in samples[i].values if not math.isnan(t)]
    assert run.metrics()[0]["loss"] == pytest.approx(np.mean((np.array(targets) - 0.5) ** 2), abs=1e-6)


def test_dropout_depends_on_the_seed_and_the_step_alone(open_run):
    """Oracle: the same weights whatever torch drew before; others than without dropout."""
    found = []
    for n, share in enumerate((0.5, 0.5, 0.0)):
        value = model()
        for layer in value.reader.module.model.layers:
            layer.self_attn.attention_dropout = share
        torch.rand(n)
        found.append(state(fit_values(value, digits(8), ValueFitting(epochs=2), open_run(str(n)), "v").model))
    equal = [all(torch.equal(one[name], found[1][name]) for name in one) for one in found]
    assert equal == [True, True, False]


def test_recovers_a_target_it_can_express(open_run):
    """Oracle: digit / 9 at both step ends, also where only one is given; the start stays as it was."""
    start = model()
    before = state(start)
    fit = fit_values(
        start, digits(300), ValueFitting(epochs=12, batch=32, learning_rate=5e-3), open_run(), "v"
    )
    assert fit.mse < 0.003 and fit.within > 0.95
    values = fit.model.values([("4:", ("0",)), ("4:", ("0", "9")), ("4:", ("9", "0")), ("4:", ("5",))])
    np.testing.assert_allclose(values, [0, 1, 0, 5 / 9], atol=0.12)
    assert all(torch.equal(before[name], weight) for name, weight in state(start).items())


def test_micro_batches_give_the_same_weights(open_run):
    """Law: the size of a micro-batch changes rounding only, also where samples have unequal targets."""
    runs = {m: open_run(f"m{m}") for m in (None, 1, 4)}
    fits = [
        fit_values(model(), digits(20), ValueFitting(epochs=1, batch=6, micro_batch=m), run, "v")
        for m, run in runs.items()
    ]
    losses = [[entry["loss"] for entry in run.metrics() if "loss" in entry] for run in runs.values()]
    np.testing.assert_allclose(losses[1:], [losses[0]] * 2, atol=1e-5)
    for other in fits[1:]:
        for name, weight in state(fits[0].model).items():
            torch.testing.assert_close(state(other.model)[name], weight, rtol=0, atol=2e-4)


def test_the_best_epoch_is_kept(open_run):
    """Oracle: the least validation error in the log, recomputed from the returned model's own values."""
    rng = np.random.default_rng(1)  # targets without a pattern: what is learned of them is wrong
    samples = [ValueSample(s.prompt, s.steps, tuple(rng.random(2))) for s in digits(60)]
    run = open_run()
    settings = ValueFitting(epochs=6, batch=8, learning_rate=0.1, validation=0.3)
    fit = fit_values(model(), samples, settings, run, "v")
    errors = [entry["mse"] for entry in run.metrics() if "mse" in entry]
    assert len(errors) == 6 and fit.mse == min(errors) < errors[-1]
    held = [samples[i] for i in run.rng("v", "validation").permutation(60)[:18]]
    fit.model.low, fit.model.high = -math.inf, math.inf
    squares = []
    for sample in held:
        for i, target in enumerate(sample.values):
            if not math.isnan(target):
                value = fit.model.values([(sample.prompt, sample.steps[: i + 1])])[0]
                squares.append((value - target) ** 2)
    assert fit.mse == pytest.approx(np.mean(squares), rel=1e-4)


@pytest.mark.parametrize("cut", [3, 11])
def test_cut_off_and_resumed_equals_uninterrupted(open_run, cut):
    """Oracle: the uninterrupted fit, bit for bit, also when the best epoch lies before the cut."""
    rng = np.random.default_rng(1)  # nothing to learn, so that an early epoch is the best
    samples = [ValueSample(s.prompt, s.steps, tuple(rng.random(2))) for s in digits(40)]
    settings = ValueFitting(epochs=4, batch=8, learning_rate=0.05, validation=0.2)
    whole_run = open_run("whole")
    whole = fit_values(model(), samples, settings, whole_run, "v")

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
        fit_values(model(), samples, settings, run, "v")
    resumed = fit_values(model(), samples, settings, open_run("cut"), "v")
    assert whole.mse < whole_run.metrics()[-1]["mse"]
    assert (resumed.mse, resumed.within) == (whole.mse, whole.within)
    assert all(
        torch.equal(a, b)
        for a, b in zip(state(whole.model).values(), state(resumed.model).values(), strict=True)
    )


def test_unusable_samples(open_run):
    """Samples without a target or too long are dropped and counted; too few left is a DataError."""
    run = open_run()
    bad = [
        ValueSample("1:", ("2",), (NAN,)),
        ValueSample("1" * 600, ("2",), (1.0,)),
        ValueSample("1:", (), ()),
    ]
    fit_values(model(), digits(5) + bad, ValueFitting(epochs=1), run, "v")
    assert run.metrics()[0]["dropped"] == 3
    for samples in ([], bad, digits(1)):
        with pytest.raises(DataError, match="at least 2"):
            fit_values(model(), samples, ValueFitting(), run, "w")
    with pytest.raises(DataError, match="targets"):
        fit_values(model(), [ValueSample("1:", ("2", "3"), (1.0,))], ValueFitting(), run, "x")
    for settings in (ValueFitting(validation=0.0), ValueFitting(validation=1.0), ValueFitting(epochs=0)):
        with pytest.raises(UsageError):
            fit_values(model(), digits(5), settings, run, "y")
