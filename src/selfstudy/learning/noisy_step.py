"""One optimiser step on a batch whose labels are given, or guessed where they are taken to be wrong."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.errors import UsageError
from selfstudy.data.viewed import Viewed
from selfstudy.learning.loops import check_positive
from selfstudy.learning.mixing import mix_batch
from selfstudy.learning.noisy_losses import (
    class_imbalance,
    mixed_class_contrast,
    mixed_cross_entropy,
    mixing_share,
    sharpened,
)
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, decayed_groups, named_optimizer
from selfstudy.learning.sample_memory import SampleMemory
from selfstudy.models.encoders.staged import StagedNetwork

Key = Callable[..., int]
"""Names streams, as `run.key` does."""


@dataclass(frozen=True, kw_only=True)
class NoisyTraining:
    """How long, in what batches and with what optimiser, and the weights of the loss."""

    epochs: int = 15
    """Passes over the labelled items."""
    warmup_epochs: int = 1
    """Passes on the labels as they are, before any is looked at; 3 or more for a network from scratch."""
    batch: int = 128
    """Items a step; all, where there are fewer."""
    optimizer: OptimizerName = "heavy-ball"
    """"heavy-ball" is with momentum 0.9, "sgd" with Nesterov's."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    learning_rate: float = 0.05
    """Its peak; a cosine takes it to 0."""
    head_factor: float = 1.0
    """Times the learning rate for the linear heads (the authors with CLIP: 10,000)."""
    weight_decay: float = 5e-4
    """Of all weights but biases and normalisation."""
    gamma: float = 2.0
    """Exponent that sharpens guessed labels; 1 leaves them as they are."""
    beta: float = 1.0
    """Of the distribution Beta(beta, beta) that shares of mixed items are drawn from."""
    second_view: Literal["contrast", "classes", "none"] = "contrast"
    """What another view of each item is for: to be contrasted, to be told the class of too, or not there; the
    last two are training without the contrastive term, at as many passes and at fewer."""
    contrast: float = 1.0
    """Weight of the contrastive term."""
    temperature: float = 0.2
    """mu, of the contrastive term."""
    balance: float = 0.0
    """Weight of the penalty on unequal classes; 1 in the authors' runs on WebVision."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, epochs=0, warmup_epochs=0, batch=1, learning_rate=0, head_factor=0)
        check_positive(self, gamma=0, beta=0, temperature=0)
        check_optimizer(self.optimizer, self.betas)
        if min(self.weight_decay, self.contrast, self.balance) < 0:
            raise UsageError(
                f"NoisyTraining has weight_decay {self.weight_decay}, contrast {self.contrast} and balance "
                f"{self.balance}: all must be at least 0."
            )

    def batch_of(self, count: int) -> int:
        """Return the items of a step, of `count` in all."""
        return min(self.batch, count)

    def steps_an_epoch(self, count: int) -> int:
        """Return the steps in which all of `count` items are seen."""
        return -(-count // self.batch_of(count))

    def rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step: a cosine from its peak towards 0."""
        return self.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2

    def optimizer_of(self, network: StagedNetwork) -> torch.optim.Optimizer:
        """Return the optimiser of all weights; vectors (biases, scales) are not decayed."""
        heads = nn.ModuleList([network.classifier, network.projection])
        groups = [
            *decayed_groups(network.body, self.weight_decay, factor=1.0),
            *decayed_groups(heads, self.weight_decay, factor=self.head_factor),
        ]
        return named_optimizer(self.optimizer, groups, self.betas, fused=False)


@dataclass(frozen=True)
class NoisyStep:
    """What the steps of one of K networks work with.

    Attributes:
        networks: all of them.
        which: is trained.
        inputs: all items.
        memory: what is known of each label.
        settings: the weights of the loss.
        key: names the streams.
    """

    networks: Sequence[StagedNetwork]
    which: int
    inputs: Viewed
    memory: SampleMemory
    settings: NoisyTraining
    key: Key

    def loss(self, step: int, at: np.ndarray, *, warm: bool, guessing: bool) -> torch.Tensor:
        """Return the loss of the items at places [B], and keep what was guessed of them.

        Args:
            step: names the random views.
            at: places.
            warm: whether classes alone are trained on, without contrast and balance.
            guessing: whether labels are guessed.
        """
        network, settings = self.networks[self.which].train(), self.settings
        targets, seen = self._targets(step, at, guessing), self._seen(step, at)
        rng = np.random.Generator(np.random.Philox(key=self.key("mixing", step)))
        share, permutation = mixing_share(rng, settings.beta), torch.from_numpy(rng.permutation(len(at)))
        features = network.body(mix_batch(seen, seen, share, permutation))
        logits, weights = network.classifier(features), self.memory.weights[at]
        loss = mixed_cross_entropy(logits, targets, weights, share, permutation)
        if settings.second_view == "classes":
            again = self._seen(step, at, "again")
            second = network(mix_batch(again, again, share, permutation))
            loss = (loss + mixed_cross_entropy(second, targets, weights, share, permutation)) / 2
        elif settings.second_view == "contrast" and not warm:
            mixed, other = network.projection(features), network.body(self._view("strong", step, at))
            loss = loss + settings.contrast * mixed_class_contrast(
                mixed,
                network.projection(other),
                targets.argmax(1),
                share,
                permutation,
                settings.temperature,
            )
        if settings.balance and not warm:
            loss = loss + settings.balance * class_imbalance(logits)
        return loss

    def _targets(self, step: int, at: np.ndarray, guessing: bool) -> torch.Tensor:
        """Return the label of each item, or its guess where the label is taken to be wrong: [B, C]."""
        memory = self.memory
        given = functional.one_hot(memory.labels[at], memory.classes).float()
        if not guessing:
            return given
        guess = self._guess(self._view("weak", step, at, "guess"))
        memory.guesses[self.which, at] = guess
        return torch.where(memory.noisy[at][:, None], guess, given)

    def _guess(self, views: torch.Tensor) -> torch.Tensor:
        """Return the label that all networks together guess; those not trained now keep their statistics."""
        for place, network in enumerate(self.networks):
            network.train(place == self.which)
        with torch.no_grad():
            found = [network(views).float().softmax(1) for network in self.networks]
        mean = torch.stack(found).mean(0)
        return sharpened(mean.clamp(min=1e-30).log(), self.settings.gamma)

    def _seen(self, step: int, at: np.ndarray, use: str = "train") -> torch.Tensor:
        """Return a weak view of each item, and a hard one of those whose label is guessed."""
        seen = self._view("weak", step, at, use)
        noisy = self.memory.noisy[at].nonzero()[:, 0]
        if not len(noisy):
            return seen
        return seen.index_copy(0, noisy, self._view("hard", step, at[noisy.numpy()], use))

    def _view(self, kind: str, step: int, at: np.ndarray, use: str = "train") -> torch.Tensor:
        return self.inputs.view(kind, at, self.key(kind, use, step))
