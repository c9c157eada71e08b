"""Training on a GPU beside the same on the processor, and runs that go on there."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.app import fitting
from selfstudy.core.errors import Stopped
from selfstudy.core.run import Run
from selfstudy.learning import fine_tuning, policy_learner
from selfstudy.learning.fine_tuning import Example, FineTuning, accumulate, fine_tune
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import update
from selfstudy.learning.policy_gradient import Collection, PolicyGradient, Rollout, optimise_policy
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import pair_tokens, sequence_logprobs
from selfstudy.models.language.tiny import random_tiny_model

from ..contract.smallest import SMALLEST

Opener = Callable[[str], Run]
EXAMPLES = [Example(f"{i}+1:", f"{i + 1}\n") for i in range(7)] + [Example("2*3-1:", "2*3=06\n06-1=05\n")]


def on(device: str, model: LanguageModel) -> LanguageModel:
    same = model.copy()
    same.module.to(device)
    return same


def weights(model: LanguageModel) -> torch.Tensor:
    return torch.cat([weight.detach().flatten().cpu() for weight in model.module.parameters()])


def test_the_first_gradient_of_fine_tuning_is_that_of_the_processor() -> None:
    """Oracle: the same loss and gradient on the processor."""
    losses, gradients = [], []
    for device in ("cpu", "cuda"):
        model = on(device, selfstudy.model("tiny-lm"))
        sequences = pair_tokens(model, [(e.prompt, e.completion) for e in EXAMPLES], end=True)
        module = model.module.train()
        losses.append(accumulate(Joint(module, torch.optim.SGD(module.parameters())), sequences, None))
        gradients.append(torch.cat([weight.grad.flatten().cpu() for weight in module.parameters()]))
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert (gradients[1] - gradients[0]).norm() < 1e-4 * gradients[0].norm()


@pytest.mark.parametrize("lora", [None, 4])
def test_fine_tuning_that_was_killed_goes_on_where_it_was(
    lora: int | None, open_run: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the run that was not killed; likelier examples than before."""
    start = on("cuda", random_tiny_model(2, 32))
    settings = FineTuning(learning_rate=1e-2, steps=12, batch=8, lora_rank=lora)
    whole = fine_tune(start, EXAMPLES, settings, open_run("whole"), "tuning")
    left = 8

    def mortal(*arguments: Any) -> float:
        nonlocal left
        left -= 1
        if not left:
            raise KeyboardInterrupt
        return update(*arguments)

    monkeypatch.setattr(fine_tuning, "update", mortal)
    with pytest.raises(KeyboardInterrupt):
        fine_tune(start, EXAMPLES, settings, open_run("killed"), "tuning")
    resumed = fine_tune(start, EXAMPLES, settings, open_run("killed"), "tuning")
    assert resumed.device.type == "cuda"
    torch.testing.assert_close(weights(resumed), weights(whole), atol=1e-4, rtol=1e-3)
    pairs = [(example.prompt, example.completion) for example in EXAMPLES]
    assert sum(sequence_logprobs(resumed, pairs)) > sum(sequence_logprobs(start, pairs)) + 10


def test_a_step_of_policy_gradient_is_that_of_the_processor(
    open_run: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the same gradient on the processor, with a distance from the start; a larger objective."""
    gradients: list[torch.Tensor] = []

    def recorded(optimizer: torch.optim.Optimizer, rate: float, clip: float) -> float:
        held = [weight.grad for group in optimizer.param_groups for weight in group["params"]]
        gradients.append(torch.cat([gradient.flatten().cpu() for gradient in held]))
        return update(optimizer, rate, clip)

    monkeypatch.setattr(policy_learner, "update", recorded)
    start = random_tiny_model(2, 32)
    # Two answers to one prompt, which are read in one row, and one with known log-probabilities.
    rollouts = [
        Rollout((4, 7, 10), (1, 2, 3, 4), 1.0),
        Rollout((4, 7, 10), (5, 6), -0.5),
        Rollout((3,), (9, 9, 1), 0.3, behaviour=(-2.0, -3.0, -2.5)),
    ]
    settings = PolicyGradient(learning_rate=1e-2, kl=0.1)
    trained = [
        optimise_policy(
            on(device, start),
            lambda policy, step: Collection(rollouts, np.array([[0.0, 1.0]])),
            settings,
            open_run(device),
            "policy",
            steps=2,
            longest=8,
        )
        for device in ("cpu", "cuda")
    ]
    assert trained[1].device.type == "cuda"
    assert (gradients[2] - gradients[0]).norm() < 1e-4 * gradients[0].norm()
    text = start.decode((1, 2, 3, 4))
    pair = [(start.decode((4, 7, 10)), text)]
    assert sequence_logprobs(trained[1], pair) > sequence_logprobs(on("cuda", start), pair)


@pytest.mark.parametrize("slug", ["rest-mcts", "mm-upt", "grpo"])
def test_a_fit_that_was_stopped_goes_on_on_the_gpu(
    slug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Oracle: the fit that was not stopped ends with as many lines of log, and saves a model of its kind."""
    settings = SMALLEST[slug]
    task, model = settings.family.task, settings.family.model
    whole = fitting.fit(slug, task, model, out=tmp_path / "whole", fields=copy.deepcopy(settings.fields))
    lines = len((tmp_path / "whole" / "metrics.jsonl").read_text().splitlines())
    log, left = Run.log, lines // 2

    def mortal(run: Run, **values: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Stopped("here")
        log(run, **values)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", mortal)
        with pytest.raises(Stopped):
            fitting.fit(slug, task, model, out=tmp_path / "stopped", fields=copy.deepcopy(settings.fields))
    resumed = fitting.resume(tmp_path / "stopped")
    assert whole.model.device.type == resumed.model.device.type == "cuda"
    assert len((tmp_path / "stopped" / "metrics.jsonl").read_text().splitlines()) == lines
    assert selfstudy.load(tmp_path / "stopped").device.type == "cuda"


@pytest.mark.parametrize("slug", ["barlow-twins", "sla"])
def test_encoders_learn_where_there_is_a_gpu(slug: str, tmp_path: Path) -> None:
    """Oracle: the weights move, and stay finite; they are on the processor, as encoders always are."""
    settings = SMALLEST[slug]
    found = fitting.fit(
        slug,
        settings.family.task,
        settings.family.model,
        out=tmp_path / "run",
        fields=copy.deepcopy(settings.fields),
    )
    moved = [weight for weight in found.model.parameters() if weight.requires_grad]
    assert moved and all(bool(weight.isfinite().all()) for weight in moved)
