"""Training heads on the tokens of a table's encoder with few labels: early stopping, and a small grid."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.random import generator, stream_key
from selfstudy.data.table_answers import Answers
from selfstudy.data.table_columns import Rows
from selfstudy.learning.loops import check_positive
from selfstudy.models.encoders.table_heads import TableHead, TablePredictor
from selfstudy.models.encoders.tables import TabularTransformer


@dataclass(frozen=True, kw_only=True)
class HeadTraining:
    """What kind of head is put on an encoder, and how it is trained."""

    network: Literal["none", "linear", "mlp", "resnet"] = "none"
    """Trained on the labelled rows once the encoder is, which stays as it is; "none" is no head."""
    adapter: Literal["whole", "flatten", "per-feature", "mean", "max", "conv"] = "whole"
    """How a vector is made of the tokens; "per-feature" is the authors' most frequent winner."""
    hidden: int = 128
    """Width of the network's layers."""
    layers: int = 2
    """Of the perceptron, or blocks of the residual network."""
    dropout: float = 0.0
    """In the network."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-4)
    """Of AdamW, to choose from."""
    weight_decays: tuple[float, ...] = (0.0, 1e-2)
    """Of AdamW, to choose from."""
    batch: int = 64
    """Rows a step."""
    epochs: int = 100
    """Passes at most."""
    patience: int = 10
    """Passes without a better loss on the held-out rows after which training ends."""
    held_out: float = 0.2
    """Share of the labelled rows that training is stopped by, and the grid judged by."""

    def validate(self) -> None:
        """Raise a UsageError for settings that cannot be right."""
        check_positive(self, hidden=0, layers=0, batch=0, epochs=0, patience=0, held_out=0)
        if not (self.learning_rates and self.weight_decays and 0 <= self.dropout < 1 and self.held_out < 1):
            raise UsageError(
                "HeadTraining needs at least one of learning_rates and weight_decays, and dropout and "
                "held_out below 1."
            )
        if min(self.learning_rates) <= 0 or min(self.weight_decays) < 0:
            raise UsageError("HeadTraining: learning_rates must be above 0, and weight_decays at least 0.")

    def head(self, tokens: int, width: int, answers: Answers, key: int) -> TableHead:
        """Return the untrained head on tokens [N, T, H]."""
        return TableHead(
            tokens,
            width,
            max(1, len(answers.classes)),
            adapter=self.adapter,
            network="mlp" if self.network == "none" else self.network,
            hidden=self.hidden,
            layers=self.layers,
            dropout=self.dropout,
            key=key,
        )


class Trained(NamedTuple):
    """A module at the best of its passes over the best settings of the grid."""

    module: nn.Module
    loss: float
    """On the held-out rows."""


def frozen_predictor(
    encoder: TabularTransformer, rows: Rows, answers: Answers, settings: HeadTraining, key: int
) -> TablePredictor:
    """Return the encoder as it is, with a head trained on its tokens of the labelled rows.

    Args:
        encoder: left as it is.
        rows: labelled, N of them.
        answers: of the rows.
        settings: of the head and its training.
        key: of the streams of weights and batches.
    """
    tokens = encoder.encoded(rows)
    head = trained_head(tokens, answers, settings, key)
    return TablePredictor(encoder, head, answers.classes, *_scale(answers))


def trained_head(
    tokens: torch.Tensor, answers: Answers, settings: HeadTraining, key: int, *, standardise: bool = True
) -> TableHead:
    """Return a head trained on tokens [N, T, H], standardised by those of its training rows unless told."""

    def start() -> nn.Module:
        head = settings.head(tokens.shape[1], tokens.shape[2], answers, stream_key(key, "head"))
        if standardise:
            head.standardise(tokens[_parts(len(tokens), settings, key)[0]])
        return head

    return best_of_grid(start, (tokens,), answers, settings, key).module  # type: ignore[return-value]


def whole_predictor(
    encoder: TabularTransformer, rows: Rows, answers: Answers, settings: HeadTraining, key: int
) -> TablePredictor:
    """Return a copy of the encoder with a head, all trained on the labelled rows; as `frozen_predictor`."""

    def start() -> nn.Module:
        head = settings.head(
            encoder.registers + len(encoder.columns), encoder.token_width, answers, stream_key(key, "head")
        )
        head.standardise(encoder.encoded(rows.at(_parts(len(rows.codes), settings, key)[0])))
        return TablePredictor(encoder.copy(), head, answers.classes, *_scale(answers))

    return best_of_grid(start, tuple(rows), answers, settings, key).module  # type: ignore[return-value]


def best_of_grid(
    start: Callable[[], nn.Module],
    inputs: tuple[torch.Tensor, ...],
    answers: Answers,
    settings: HeadTraining,
    key: int,
) -> Trained:
    """Train a module with each rate and weight decay; return that of the least loss on the held-out rows.

    Args:
        start: makes the module with its first weights, the same at each call.
        inputs: what it takes, each [N, ...].
        answers: of the N rows.
        settings: of the training.
        key: of the streams of held-out rows and batches.

    Raises:
        DataError: too few rows to hold any out.
    """
    grid = itertools.product(settings.learning_rates, settings.weight_decays)
    found = [
        _early_stopped(start(), inputs, answers, settings, key, rate=rate, decay=decay)
        for rate, decay in grid
    ]
    return min(found, key=lambda trained: trained.loss)


def _early_stopped(
    module: nn.Module,
    inputs: tuple[torch.Tensor, ...],
    answers: Answers,
    settings: HeadTraining,
    key: int,
    *,
    rate: float,
    decay: float,
) -> Trained:
    fit, held = _parts(len(answers.values), settings, key)
    targets = _targets(answers)
    optimizer = torch.optim.AdamW(module.parameters(), lr=rate, weight_decay=decay, fused=True)
    best, kept, since = float("inf"), copy.deepcopy(module.state_dict()), 0
    for epoch in range(settings.epochs):
        module.train()
        order = fit[torch.from_numpy(generator(key, "batches", epoch).permutation(len(fit)))]
        for at in order.split(settings.batch):
            _loss(module(*(values[at] for values in inputs)), targets[at]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        module.eval()
        with torch.no_grad():
            loss = float(_loss(module(*(values[held] for values in inputs)), targets[held]))
        since += 1
        if loss < best:
            best, kept, since = loss, copy.deepcopy(module.state_dict()), 0
        if since >= settings.patience:
            break
    module.load_state_dict(kept)
    return Trained(module.eval(), best)


def _parts(count: int, settings: HeadTraining, key: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return places to train on, and to hold out."""
    held = round(settings.held_out * count)
    if not 0 < held < count:
        raise DataError(
            f"{count} labelled rows are too few to hold out {settings.held_out:.0%} of them for the head's "
            "training. Label more."
        )
    order = torch.from_numpy(generator(key, "held out").permutation(count))
    return order[held:], order[:held]


def _targets(answers: Answers) -> torch.Tensor:
    if answers.classes:
        return torch.from_numpy(answers.values).long()
    centre, scale = _scale(answers)
    return torch.from_numpy((answers.values - centre) / scale).float()


def _scale(answers: Answers) -> tuple[float, float]:
    """Return what outputs are to be multiplied by and added to."""
    if answers.classes:
        return 0.0, 1.0
    return float(answers.values.mean()), float(np.std(answers.values)) or 1.0


def _loss(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    if targets.dtype == torch.int64:
        return functional.cross_entropy(outputs, targets)
    return functional.mse_loss(outputs[:, 0], targets)
