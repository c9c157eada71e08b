"""Fitting a value model to targets at the ends of steps, by mean squared error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.core.run import Run
from selfstudy.learning.batch_parts import batch_parts
from selfstudy.learning.distributed import whole
from selfstudy.learning.joint import Joint
from selfstudy.learning.loops import (
    batch_indices,
    check_positive,
    learning_rate,
    seeded,
    step_count,
    update,
)
from selfstudy.learning.losses import masked_mse
from selfstudy.learning.optimizers import OptimizerName, check_optimizer, named_optimizer
from selfstudy.learning.precision import lower_weights, raise_weights
from selfstudy.models.language.inference import Inference
from selfstudy.models.language.model import LanguageModel
from selfstudy.models.language.scoring import batches_by_length, pad_right
from selfstudy.models.language.value import ValueModel


@dataclass(frozen=True, kw_only=True)
class ValueFitting:
    """Settings of a value fit (linear decay)."""

    learning_rate: float = 3e-4
    """Highest learning rate."""
    epochs: int = 2
    """Passes over the samples; the one with the least validation error is kept."""
    batch: int = 256
    """Samples in a step (all of them where there are fewer)."""
    validation: float = 0.1
    """Share of the samples held out."""
    weight_decay: float = 0.0
    """Of the weights, decoupled."""
    optimizer: OptimizerName = "adamw"
    """What takes the steps; "lion" wants a rate 3 to 10 times smaller, and a decay as many times larger."""
    betas: tuple[float, float] | None = None
    """Of the optimiser's two moments; None is its own."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    micro_batch: int | None = None
    """Samples in one forward pass: the more, the more memory; the gradient stays. None takes what a
    processor's cache holds, all of them on an accelerator."""


@dataclass(frozen=True, slots=True)
class ValueSample:
    """A solution, or the beginning of one, with targets at the ends of its steps."""

    prompt: str
    """Text as the model sees it."""
    steps: tuple[str, ...]
    """Lines without their newline."""
    values: tuple[float, ...]
    """One target for each step; nan where there is none."""


@dataclass(frozen=True, slots=True)
class ValueFit:
    """What a fit gives."""

    model: ValueModel
    """With the weights of the best epoch."""
    mse: float
    """Mean squared error over all targets held out, unclamped values; nan where the budget ended before."""
    within: float
    """Share of them within 0.1 of the target."""


@dataclass(frozen=True, slots=True)
class _Row:
    tokens: list[int]
    start: int
    places: list[int]
    targets: list[float]


def fit_values(
    model: ValueModel, samples: Sequence[ValueSample], settings: ValueFitting, run: Run, name: str
) -> ValueFit:
    """Return a value model fitted to the targets; the given one is unchanged.

    One causal pass over a sample gives the values after all its steps. The loss of a step is the mean
    squared error over all targets of its batch. Charges samples and FLOPs (6 per weight and token, at the
    mean length).

    Args:
        model: where training starts.
        samples: those without a target, or longer than the context, are left out and counted in the log.
        settings: see there.
        run: streams, checkpoints and log.
        name: names the loop, uniquely within its stage.

    Raises:
        DataError: fewer than two usable samples, or a sample with another number of targets than steps.
        UsageError: a setting out of range.
    """
    check_positive(settings, learning_rate=0, epochs=0, batch=0, clip=0)
    check_optimizer(settings.optimizer, settings.betas)
    if not 0 < settings.validation < 1:
        raise UsageError(f"ValueFitting.validation is {settings.validation}; it must be between 0 and 1.")
    rows = _rows(model, samples, run, name)
    order = run.rng(name, "validation").permutation(len(rows))
    held = max(1, round(settings.validation * len(rows)))
    validation, training = [rows[i] for i in order[:held]], [rows[i] for i in order[held:]]
    net = model.copy().net
    raise_weights(net.module)
    batch = min(settings.batch, len(training))
    per_epoch = step_count(len(training), batch, 1)
    steps = settings.epochs * per_epoch
    # The vocabulary layer may have no part in the values.
    apart = net.module.get_output_embeddings().weight is not net.module.get_input_embeddings().weight
    joint = Joint(
        net,
        named_optimizer(
            settings.optimizer, net.parameters(), settings.betas, weight_decay=settings.weight_decay
        ),
        unused=apart and not net.reads_likelihood,
    )
    best = _Best()
    cost = {
        "samples": batch,
        "flops": 3 * model.flops(batch * float(np.mean([len(r.tokens) for r in training]))),
    }
    for step in run.steps(steps, state={**joint.state, "best": best}, desc=name, cost=cost):
        net.train()
        chosen = [training[i] for i in batch_indices(run, name, step, len(training), batch)]
        with seeded(run.key(name, "dropout", step)):
            loss = _accumulate(joint, chosen, settings.micro_batch)
        rate = learning_rate(step, steps, settings.learning_rate)
        norm = update(joint.optimizer, rate, settings.clip)
        run.log(part=name, step=step, loss=loss, norm=norm, rate=rate)
        if (step + 1) % per_epoch == 0:
            mse, within = _assess(joint, net, validation)
            run.log(part=name, epoch=(step + 1) // per_epoch, mse=mse, within=within)
            best.offer(net, mse, within)
    trained: Any = joint.finished()
    if best.weights:
        trained.load_state_dict(best.weights)
    lower_weights(trained.module, model.reader.module.dtype)
    reader = LanguageModel(model.reader.name, trained.module, model.reader.tokenizer, model.reader.engine)
    fitted = ValueModel(reader, trained.head, name=model.name, low=model.low, high=model.high)
    return ValueFit(fitted, best.mse if best.weights else math.nan, best.within)


class _Best:
    """The weights of the best epoch so far; part of the checkpoint."""

    def __init__(self) -> None:
        self.mse, self.within = math.inf, math.nan
        self.weights: dict[str, torch.Tensor] = {}

    def offer(self, net: torch.nn.Module, mse: float, within: float) -> None:
        """Take these weights if their error is lower."""
        if mse < self.mse:
            self.mse, self.within = mse, within
            self.weights = {name: whole(weight).detach().clone() for name, weight in net.state_dict().items()}

    def state_dict(self) -> dict[str, Any]:
        return {"mse": self.mse, "within": self.within, "weights": self.weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.mse, self.within = state_dict["mse"], state_dict["within"]
        self.weights = state_dict["weights"]


def _rows(model: ValueModel, samples: Sequence[ValueSample], run: Run, name: str) -> list[_Row]:
    for sample in samples:
        if len(sample.values) != len(sample.steps):
            raise DataError(
                f"A value sample has {len(sample.steps)} steps but {len(sample.values)} targets (prompt "
                f"{sample.prompt[:60]!r}). Give one target for each step, nan for none."
            )
    tokens = model.tokens([(sample.prompt, sample.steps) for sample in samples])
    rows = [
        _Row(row, start, ends, list(sample.values))
        for (row, start, ends), sample in zip(tokens, samples, strict=True)
        if len(row) <= model.context and not all(map(math.isnan, sample.values))
    ]
    if len(rows) < len(samples):
        run.log(part=name, dropped=len(samples) - len(rows), samples=len(samples))
    if len(rows) < 2:
        raise DataError(
            f"A value fit needs at least 2 samples with a target that fit into {model.context} tokens; "
            f"{len(rows)} of the {len(samples)} given to {name!r} do. Where they come from search, too few "
            "problems were solved: take easier ones, or search longer."
        )
    return rows


def _accumulate(joint: Joint, rows: Sequence[_Row], micro_batch: int | None) -> float:
    """Add the gradient of the mean squared error over all targets of `rows`; return its value."""
    total = sum(not math.isnan(target) for row in rows for target in row.targets)

    def loss(net: Any, part: Sequence[_Row]) -> torch.Tensor:
        return masked_mse(*_values(net, part))[None] / total

    parts = batch_parts(rows, [len(row.tokens) for row in rows], micro_batch, joint.device)
    return float(joint.backward(parts, loss)[0])


def _values(net: Any, rows: Sequence[_Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the unclamped values and the targets at all step ends, [B, steps]; nan targets fill up."""
    width = max(len(row.places) for row in rows)
    device = net.head.weight.device
    places = pad_right([row.places for row in rows], device)
    targets = [[*row.targets, *[math.nan] * (width - len(row.targets))] for row in rows]
    starts = torch.tensor([row.start for row in rows], device=device)
    values = net(pad_right([row.tokens for row in rows], device), starts, places)
    return values, torch.tensor(targets, device=device)


def _assess(joint: Joint, net: torch.nn.Module, rows: Sequence[_Row]) -> tuple[float, float]:
    """Return the mean squared error and the share within 0.1 over all targets of `rows`."""

    def errors(net: Any, part: Sequence[_Row]) -> torch.Tensor:
        values, targets = _values(net, part)
        return (values - targets)[~targets.isnan()].double()

    with Inference(net):
        error = torch.cat(
            [
                joint.read(errors, [rows[i] for i in batch])
                for batch in batches_by_length([len(row.tokens) for row in rows])
            ]
        )
    return float(error.square().mean()), float((error.abs() <= 0.1).double().mean())
