"""Gradient steps on texts with signed weights."""

from __future__ import annotations

import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.learning.joint import Joint
from selfstudy.learning.optimizers import named_optimizer
from selfstudy.learning.weighted_sequences import SequenceLearner, SequenceTuning, WeightedText, add_gradient
from selfstudy.models.language.tiny import random_tiny_model

TEXTS = [
    WeightedText((4, 7, 14), (4, 7, 10, 8, 15), 0.5),
    WeightedText((1, 2, 3, 4, 14), (9, 9), -0.3),
    WeightedText((5, 14), (1,), 1.0),
]


def gradient(texts: list[WeightedText], micro_batch: int | None = None) -> tuple[float, torch.Tensor]:
    model = random_tiny_model(1, 16)
    weights = list(model.module.parameters())
    loss = add_gradient(
        Joint(model.module, named_optimizer("adamw", weights, fused=False)), texts, micro_batch
    )
    return loss, torch.cat([weight.grad.flatten() for weight in weights])


def test_the_loss_and_its_gradient() -> None:
    """Oracle: a plain second implementation, text by text, with sums over the tokens."""
    model = random_tiny_model(1, 16)
    total = torch.zeros(())
    for text in TEXTS:
        logits = model.module(torch.tensor([[*text.prompt, *text.tokens]])).logits[0]
        logs = logits[len(text.prompt) - 1 : -1].log_softmax(-1)
        total = total - text.weight * logs[range(len(text.tokens)), list(text.tokens)].sum()
    total.backward()
    expected = torch.cat([weight.grad.flatten() for weight in model.module.parameters()])
    loss, found = gradient(TEXTS)
    assert loss == pytest.approx(total.item(), rel=1e-5)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


def test_parts_give_the_gradient_of_the_whole() -> None:
    """Oracle: the same batch in one part."""
    torch.testing.assert_close(gradient(TEXTS, 1)[1], gradient(TEXTS, 3)[1], rtol=1e-4, atol=1e-6)


def test_opposite_weights_cancel() -> None:
    """Oracle: w log p - w log p = 0: why a right proposal and its chain are one term."""
    loss, found = gradient([TEXTS[0], WeightedText(TEXTS[0].prompt, TEXTS[0].tokens, -0.5)])
    assert loss == pytest.approx(0, abs=1e-6) and found.abs().max() < 1e-6


def test_the_running_mean(open_run) -> None:
    """Oracle: by hand: after one step the mean is 0.75 of the start and 0.25 of the trained weights."""
    start = random_tiny_model(1, 16)
    ended = []
    for name, average in (("plain", 0.0), ("mean", 0.75)):
        learner = SequenceLearner(start, SequenceTuning(average=average), open_run(name), "policy")
        learner.step(TEXTS)
        ended.append(list(learner.finished().module.parameters()))
    for first, plain, mean in zip(start.module.parameters(), *ended, strict=True):
        torch.testing.assert_close(mean, 0.75 * first + 0.25 * plain)


@pytest.mark.parametrize(
    "fields", [{"learning_rate": 0.0}, {"average": 1.0}, {"weight_decay": -1.0}, {"clip": 0}]
)
def test_settings_out_of_range(fields) -> None:
    """Oracle: each out of its range."""
    with pytest.raises(UsageError, match=r"SequenceTuning"):
        SequenceTuning(**fields).validate()
