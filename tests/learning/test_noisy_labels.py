"""The loop on noisy labels: order, budgets, resuming, what is stored, and what stops it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.budget import Budget
from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.viewed import Viewed
from selfstudy.data.views import VectorViews
from selfstudy.learning import noisy_labels
from selfstudy.learning.noisy_labels import epoch_batch, train_on_noisy_labels, update
from selfstudy.learning.noisy_losses import mixing_share, sharpened
from selfstudy.learning.noisy_step import NoisyStep, NoisyTraining
from selfstudy.learning.sample_memory import LOSS, DetectionRule, SampleMemory
from selfstudy.models.encoders.staged import StagedNetwork

COUNT, WIDTH, CLASSES = 60, 4, 3
QUICK = NoisyTraining(epochs=4, batch=16, learning_rate=0.1)
RULE = DetectionRule(least_noisy=5)


def data() -> tuple[Viewed, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % CLASSES
    values = torch.from_numpy(rng.normal(size=(COUNT, WIDTH)) + 3 * np.eye(CLASSES, WIDTH)[labels]).float()
    given = np.where(np.arange(COUNT) < 15, (labels + 1) % CLASSES, labels)
    views = VectorViews(noise=0.1)
    return Viewed(COUNT, lambda at: values[at], views, views, VectorViews(noise=0.3)), given


def network(seed: int = 0, *, normalised: bool = False) -> StagedNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        middle = [nn.BatchNorm1d(8)] if normalised else []
        body = nn.Sequential(nn.Linear(WIDTH, 8), *middle, nn.ReLU())
        return StagedNetwork(body, nn.Linear(8, CLASSES), nn.Linear(8, 5), {"stage1": body[-1]})


def train(
    run: Run, networks: list[StagedNetwork], settings: NoisyTraining = QUICK, **more: Any
) -> SampleMemory:
    inputs, given = data()
    names = [f"item {place}" for place in range(COUNT)]
    return train_on_noisy_labels(
        run, networks, inputs, given, names, settings, more.pop("rule", RULE), **more
    )


def test_an_epoch_has_every_item() -> None:
    """Oracle: the set of all items in each epoch, none twice in a batch, another order in the next."""
    for count, batch in ((60, 16), (60, 60), (7, 4), (60, 15)):
        steps = -(-count // batch)
        epochs = [
            [epoch_batch(stream_key, epoch, place, count, batch) for place in range(steps)]
            for epoch in (0, 1)
        ]
        for batches in epochs:
            assert set(np.concatenate(batches).tolist()) == set(range(count))
            assert all(len(set(at.tolist())) == batch for at in batches)
        assert not np.array_equal(np.concatenate(epochs[0]), np.concatenate(epochs[1]))


def step_of(
    networks: list[StagedNetwork], settings: NoisyTraining, noisy: np.ndarray | None = None
) -> NoisyStep:
    inputs, given = data()
    memory = SampleMemory(given, CLASSES, len(networks))
    if noisy is not None:
        memory.noisy[noisy] = True
        memory.weights[noisy] = 0.5
    return NoisyStep(networks, 0, inputs, memory, settings, stream_key)


def test_without_noise_and_projection_a_step_is_mixup() -> None:
    """Oracle: mixup's cross-entropy on the weak view, with the step's own share and permutation."""
    settings = replace(QUICK, second_view="none")
    step, at = step_of([network()], settings), np.arange(16)
    view = step.inputs.view("weak", at, stream_key("weak", "train", 3))
    rng = np.random.Generator(np.random.Philox(key=stream_key("mixing", 3)))
    share, order = mixing_share(rng, 1.0), torch.from_numpy(rng.permutation(16))
    labels = step.memory.labels[at]
    logits = network()(share * view + (1 - share) * view[order])
    entropy = functional.cross_entropy
    wanted = share * entropy(logits, labels) + (1 - share) * entropy(logits, labels[order])
    assert torch.allclose(step.loss(3, at, warm=False, guessing=False), wanted)
    assert torch.allclose(step.loss(3, at, warm=False, guessing=True), wanted)
    warm = step_of([network()], QUICK)
    assert torch.allclose(warm.loss(3, at, warm=True, guessing=False), wanted)
    assert not torch.allclose(warm.loss(3, at, warm=False, guessing=False), wanted)


def test_guesses_take_the_place_of_wrong_labels() -> None:
    """Oracle: the sharpened softmax of a second weak view, stored for all items of the batch; a noisy item's
    target is it, its view the hard one, and its weight is that of the memory: by hand, without mixing."""
    settings = replace(QUICK, second_view="none", beta=1e-6, gamma=3.0)  # shares are all but 1
    noisy, at = np.array([1, 5, 9]), np.arange(12)
    step = step_of([network()], settings, noisy)
    found = step.loss(0, at, warm=False, guessing=True)
    own = network()
    guess = sharpened(own(step.inputs.view("weak", at, stream_key("weak", "guess", 0))), 3.0)
    assert torch.allclose(step.memory.guesses[0, at], guess, atol=1e-6)
    assert torch.allclose(step.memory.guesses[0, 12:], torch.tensor(1 / CLASSES))
    seen = step.inputs.view("weak", at, stream_key("weak", "train", 0))
    seen[noisy] = step.inputs.view("hard", noisy, stream_key("hard", "train", 0))
    targets = functional.one_hot(step.memory.labels[at], CLASSES).float()
    targets[noisy] = guess[noisy]
    weights = torch.ones(12)
    weights[noisy] = 0.5
    each = -(targets * own(seen).log_softmax(1)).sum(1)
    assert torch.allclose(found, (weights * each).sum() / weights.sum(), atol=1e-5)


def test_two_networks_guess_together() -> None:
    """Oracle: the sharpened mean of both softmaxes; the one that is not trained keeps its statistics."""
    networks = [network(0, normalised=True), network(1, normalised=True)]
    step, at = step_of(networks, replace(QUICK, second_view="none"), np.array([2])), np.arange(16)
    view = step.inputs.view("weak", at, stream_key("weak", "guess", 0))
    fresh = [network(0, normalised=True).train(), network(1, normalised=True).eval()]
    mean = torch.stack([one(view).softmax(1) for one in fresh]).mean(0)
    before = {name: value.clone() for name, value in networks[1].state_dict().items()}
    step.loss(0, at, warm=False, guessing=True)
    assert torch.allclose(step.memory.guesses[0, at], mean**2 / (mean**2).sum(1, keepdim=True), atol=1e-6)
    assert not step.memory.guesses[1, at].std(1).any()
    assert all(torch.equal(value, before[name]) for name, value in networks[1].state_dict().items())


def test_labels_are_looked_at_once_an_epoch(tmp_path: Path) -> None:
    """Oracle: the log: each look after an epoch, none in the warm-up, the detectors in turn, figures
    beside."""
    with Run(tmp_path / "run", {}) as run:
        memory = train(
            run, [network()], replace(QUICK, warmup_epochs=2), validate=lambda: {"validation_accuracy": 0.5}
        )
        lines = run.metrics()
    looks = [(line["epoch"], line.get("detector")) for line in lines if "epoch" in line]
    assert looks == [(1, None), (2, "loss"), (3, "linear"), (4, "loss")]
    assert all(line["validation_accuracy"] == 0.5 for line in lines if "epoch" in line)
    assert sum("loss" in line for line in lines) == 4 * 4 and memory.steps == 16
    assert set(memory.scores) == {"linear", "loss"} and len(memory.history[LOSS]) == 3


def test_wrong_labels_are_found(tmp_path: Path) -> None:
    """Oracle: fifteen labels that were exchanged here, most of which have the largest scores in the end."""
    with Run(tmp_path / "run", {}) as run:
        memory = train(run, [network()], replace(QUICK, epochs=20), rule=DetectionRule(detectors=(LOSS,)))
    worst = memory.scores[LOSS].argsort(descending=True)[:15]
    assert (worst < 15).sum() >= 12
    assert (memory.guesses[0, :15].argmax(1) == torch.arange(15) % CLASSES).sum() >= 12


def test_several_networks_in_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: which network's weights move in which step: an epoch of one, then one of the other."""
    networks, moved = [network(0), network(1)], []
    before = [one.classifier.weight.clone() for one in networks]

    def watched(optimizer: torch.optim.Optimizer, rate: float) -> None:
        update(optimizer, rate)
        now = [one.classifier.weight.clone() for one in networks]
        moved.append([bool((a != b).any()) for a, b in zip(now, before, strict=True)].index(True))
        before[:] = now

    monkeypatch.setattr(noisy_labels, "update", watched)
    with Run(tmp_path / "run", {}) as run:
        memory = train(run, networks, replace(QUICK, epochs=2))
        assert run.meter.snapshot()["samples"] == 2 * 2 * 4 * 16
    assert moved == [0] * 4 + [1] * 4 + [0] * 4 + [1] * 4
    assert memory.guesses.shape == (2, COUNT, CLASSES) and memory.guesses.std(2).min() > 0


@pytest.mark.parametrize("count", [1, 2])
def test_cut_off_anywhere_it_goes_on_as_if_never(open_run: Callable[..., Run], count: int) -> None:
    """Oracle: weights and memory of the uninterrupted run, bit for bit, when cut off in the middle of an
    epoch and at the look between two."""

    def networks() -> list[StagedNetwork]:
        return [network(seed, normalised=True) for seed in range(count)]

    whole = networks()
    memory = train(open_run("whole"), whole)
    for stop in (6, 4 * count):
        run, cut = open_run(f"cut-{stop}"), networks()

        def stopping(step: int, run: Run = run, stop: int = stop) -> None:
            if step == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _interrupted(run, cut, stopping)
        again = networks()
        found = train(open_run(f"cut-{stop}"), again)
        for one, other in zip(whole, again, strict=True):
            assert all(
                torch.equal(a, b)
                for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
            )
        assert str(found.state_dict()) == str(memory.state_dict())


def _interrupted(run: Run, networks: list[StagedNetwork], stopping: Callable[[int], None]) -> None:
    steps = run.steps

    def watched(*arguments: Any, **options: Any) -> Any:
        for step in steps(*arguments, **options):
            stopping(step)
            yield step

    run.steps = watched  # type: ignore[method-assign]
    train(run, networks)


def test_a_spent_budget_ends_it_with_what_there_is(tmp_path: Path) -> None:
    """Oracle: the limit; there is a verdict on every label all the same."""
    with Run(tmp_path / "run", {}, budget=Budget(samples=100)) as run:
        memory = train(run, [network()])
        assert run.meter.snapshot()["samples"] == 96
    assert memory.steps == 6 and len(memory.scores[LOSS]) == COUNT


def test_a_loss_that_is_no_number_names_the_batch(tmp_path: Path) -> None:
    """Oracle: an input of nan, which the error names as one of its batch."""
    inputs, given = data()
    broken = replace(
        inputs, plain=lambda at: torch.where(torch.from_numpy(at == 7)[:, None], torch.nan, inputs.plain(at))
    )
    names = [f"item {place}" for place in range(COUNT)]
    with Run(tmp_path / "run", {}) as run, pytest.raises(DataError, match=r"item 7[,.]") as said:
        train_on_noisy_labels(run, [network()], broken, given, names, replace(QUICK, batch=60), RULE)
    assert "\n" not in str(said.value)


@pytest.mark.parametrize(
    "fields", [{"epochs": 0}, {"warmup_epochs": 0}, {"batch": 1}, {"gamma": 0.0}, {"contrast": -1.0}]
)
def test_settings_that_cannot_be(fields: dict[str, Any]) -> None:
    """Oracle: the field that is wrong."""
    with pytest.raises(UsageError, match=next(iter(fields)).replace("_", "-")):
        NoisyTraining(**fields).validate()
