"""Heads that give probabilities of observed labels: trained on their items, through Loki's rule, or named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from selfstudy.core.run import Run
from selfstudy.learning.stages import Stage, StageTraining, train_stage
from selfstudy.models.encoders.feature_heads import Head, LinearHead, MlpHead
from selfstudy.models.labels.files import spoken
from selfstudy.models.labels.rule import LokiRule


def trained_head(
    run: Run, head: MlpHead, features: torch.Tensor, columns: np.ndarray, training: StageTraining
) -> MlpHead:
    """Return a multi-layer perceptron, trained in place by cross-entropy; within a stage.

    Args:
        run: within a stage of its own.
        head: of K outputs.
        features: [n, d].
        columns: [n], the output that each should be.
        training: how long and how.
    """
    outputs = functional.one_hot(torch.from_numpy(columns), head.config["classes"]).float()
    stage = Stage("head", "head", np.arange(len(features)), outputs, training)
    train_stage(run, head, lambda at: head(features[torch.from_numpy(at)]), stage)
    return head.eval()


def tuned_through_rule(
    run: Run,
    head: Head,
    features: torch.Tensor,
    labels: np.ndarray,
    rule: LokiRule,
    training: StageTraining,
    temperature: float,
) -> Head:
    """Return `head`, trained in place by cross-entropy through Loki's rule; within a stage.

    The probability of each of all N labels is softmax(-V / (T c)), with V the label's cost and c the mean
    cost between observed labels, so that T has no unit.

    Args:
        run: within a stage of its own.
        head: whose outputs are the rule's observed labels, in order.
        features: [n, d].
        labels: [n], numbers in the rule's space.
        rule: through which the loss goes.
        training: how long and how.
        temperature: T.
    """
    targets = functional.one_hot(torch.from_numpy(labels), len(rule.space.names)).double()
    scale = temperature * float(rule.costs_to(rule.observed).mean())

    def scores(at: np.ndarray) -> torch.Tensor:
        return rule.scores(head(features[torch.from_numpy(at)]).softmax(1)) / scale

    train_stage(
        run, head, scores, Stage("through-loki", "through-loki", np.arange(len(features)), targets, training)
    )
    return head.eval()


def name_head(encoder: Any, names: Sequence[str], *, prompt: str = "{}", temperature: float = 0.07) -> Head:
    """Return a head that tells labels by how like their names an item is: softmax(cosine / temperature).

    The items' features must have length 1, as those of `minilm` and other sentence encoders.

    Args:
        encoder: of texts; or of images, with a tower for texts of the same width.
        names: of the labels; "_", ":" and "/" in them are read as blanks.
        prompt: a text around each name, as in "a photo of a {}.".
        temperature: of the softmax.
    """
    told = torch.from_numpy(encoder.embed([prompt.format(name) for name in spoken(names)]))
    head = LinearHead(width=told.shape[1], classes=len(names))
    with torch.no_grad():
        head.linear.weight.copy_(functional.normalize(told, dim=1) / temperature)
    return head.eval()
