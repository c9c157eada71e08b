"""Heads that give probabilities of observed labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import selfstudy
from selfstudy.core.run import Run
from selfstudy.learning.label_heads import name_head, trained_head, tuned_through_rule
from selfstudy.learning.stages import StageTraining
from selfstudy.models.encoders.feature_heads import LinearHead, MlpHead
from selfstudy.models.labels.building import embedding_space
from selfstudy.models.labels.rule import LokiRule

PLAN = StageTraining(steps=60, batch=32, learning_rate=0.02, weight_decay=0.0)


def items(count: int = 120) -> tuple[torch.Tensor, np.ndarray]:
    """Points about three places, and which."""
    random = np.random.default_rng(0)
    columns = np.arange(count) % 3
    places = np.array([[0.0, 3.0], [3.0, 0.0], [-3.0, -3.0]])
    return torch.from_numpy(places[columns] + random.standard_normal((count, 2))).float(), columns


def test_a_trained_head_tells_its_items(tmp_path: Path) -> None:
    """Oracle: places far apart, so that nearly all items are told right; before, a third is."""
    features, columns = items()
    head = MlpHead(width=2, hidden=[8], classes=3, key=1)
    with Run(tmp_path, {}) as run:
        found = run.stage("head", lambda: trained_head(run, head, features, columns, PLAN))
        assert run.meter.snapshot()["samples"] == 60 * 32
    assert (found(features).argmax(1).numpy() == columns).mean() > 0.95


def test_tuning_through_the_rule_follows_its_loss(tmp_path: Path) -> None:
    """Oracle: cross-entropy of softmax(-V / (T c)), written out from distances on a line, falls; its gradient
    at the start moves weights as the tuning's first step does, in sign."""
    features, columns = items()
    line, observed = embedding_space(np.arange(5.0)[:, None]), np.array([0, 2, 4])
    squared = torch.from_numpy(np.abs(observed[:, None] - np.arange(5)) ** 2.0)

    def loss(head: LinearHead) -> torch.Tensor:
        costs = head(features).softmax(1).double() @ squared
        return functional.cross_entropy(
            -costs / (0.2 * squared[:, observed].mean()), torch.from_numpy(observed[columns])
        )

    def start() -> LinearHead:
        head = LinearHead(width=2, classes=3)
        with torch.no_grad():
            head.linear.weight.copy_(torch.tensor([[0.1, 0.2], [0.3, -0.1], [0.0, 0.1]]))
        return head

    rule = LokiRule(line, observed)
    with Run(tmp_path, {}) as run:
        one = StageTraining(steps=1, batch=120, learning_rate=1e-3, weight_decay=0.0)
        moved = run.stage(
            "a", lambda: tuned_through_rule(run, start(), features, observed[columns], rule, one, 0.2)
        )
        tuned = run.stage(
            "b", lambda: tuned_through_rule(run, start(), features, observed[columns], rule, PLAN, 0.2)
        )
    first = start()
    loss(first).backward()
    step = moved.linear.weight - first.linear.weight
    assert first.linear.weight.grad is not None
    assert torch.equal(step.sign(), -first.linear.weight.grad.sign())
    assert loss(tuned) < 0.5 * loss(start())


def test_heads_of_names() -> None:
    """Oracle: softmax(cosine / T) of features of length 1 with those of the names in the prompt."""
    texts = selfstudy.task("pool:messages?labels=0").pool
    encoder = selfstudy.model("words").made_for(texts)
    names = ["card_lost", "late:payment"]
    head = name_head(encoder, names, prompt="about {}", temperature=0.5)
    told = torch.from_numpy(encoder.embed(["about card lost", "about late payment"]))
    features = encoder.embed_texts(texts.texts[:20])
    assert torch.allclose(head(features), features @ told.T / 0.5, atol=1e-5)
