"""What every training loop shares: the order of the data, the learning rate, and one optimiser step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from selfstudy.core.errors import UsageError
from selfstudy.core.run import Run
from selfstudy.learning.distributed import sharded_like, whole


def step_count(samples: int, batch: int, epochs: float) -> int:
    """Return the steps that show every sample `epochs` times, at least one.

    >>> step_count(samples=100, batch=32, epochs=2)
    6
    """
    return max(1, round(epochs * samples / batch))


def training_cost(settings: Any, model: Any, samples: int, tokens: float) -> dict[str, float]:
    """Return what a training costs, by budget unit: the samples that it shows, repeats too, and their FLOPs.

    Args:
        settings: those of the training, with `epochs` and `batch`, and `steps` where these replace epochs.
        model: whose `flops` count for a token that is read; learning from it takes three times as many.
        samples: to be learnt from.
        tokens: of a sample.
    """
    batch = max(1, min(settings.batch, samples))
    steps = getattr(settings, "steps", None) or step_count(samples, batch, settings.epochs)
    return {"samples": steps * batch, "flops": 3 * model.flops(steps * batch * tokens)}


def batch_indices(run: Run, name: str, step: int, samples: int, batch: int) -> np.ndarray:
    """Return the samples of a step: a slice of shuffled passes over the data, one after the other.

    A function of the run's seed, `name` and `step` alone. All batches are full, also where one pass ends and
    the next begins.

    Args:
        run: gives the random streams.
        name: of the loop.
        step: from 0.
        samples: number of samples.
        batch: size, at most `samples`.
    """
    places = np.arange(step * batch, (step + 1) * batch)
    passes = places // samples
    orders = {int(i): run.rng(name, "order", int(i)).permutation(samples) for i in np.unique(passes)}
    return np.array([orders[int(i)][place % samples] for i, place in zip(passes, places, strict=True)])


def learning_rate(step: int, steps: int, peak: float, warmup: float = 0.0) -> float:
    """Return the rate of a step: linear warm-up over a share of the steps, then linear decay towards 0.

    >>> [round(learning_rate(step, 5, 1.0, warmup=0.4), 2) for step in range(5)]
    [0.5, 1.0, 1.0, 0.67, 0.33]
    """
    rising = round(warmup * steps)
    if step < rising:
        return peak * (step + 1) / rising
    return peak * (steps - step) / (steps - rising)


def update(optimizer: torch.optim.Optimizer, rate: float, clip: float) -> float:
    """Clip the gradient's norm, take one step, clear the gradient; return the norm before clipping."""
    parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = whole(torch.nn.utils.get_total_norm([w.grad for w in parameters if w.grad is not None]))
    torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


@contextmanager
def seeded(key: int) -> Iterator[None]:
    """Inside the block torch draws (dropout, for one) from the stream of `key`; outside nothing changes."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key >> 1)
        yield


def check_positive(settings: Any, **limits: float) -> None:
    """Raise a UsageError for a field of a dataclass that is not above its limit; None is accepted."""
    for name, limit in limits.items():
        value = getattr(settings, name)
        if value is not None and not value > limit:
            kinds = {field.name: str(field.type) for field in dataclasses.fields(settings)}
            whole = kinds[name].startswith("int")
            allowed = f"at least {limit + 1:g}" if whole else f"above {limit:g}"
            kind = type(settings).__name__
            raise UsageError(f"{kind}.{name.replace('_', '-')} is {value}; it must be {allowed}.")


def check_not_negative(settings: Any, *names: str) -> None:
    """Raise a UsageError for a field of `settings` that is below 0; None is accepted."""
    for name in names:
        value = getattr(settings, name)
        if value is not None and not value >= 0:
            kind = type(settings).__name__
            raise UsageError(f"{kind}.{name.replace('_', '-')} is {value}; it must be at least 0.")


def check_shares(settings: Any, *names: str) -> None:
    """Raise a UsageError for a field of `settings` that is not from 0 to below 1."""
    for name in names:
        if not 0 <= getattr(settings, name) < 1:
            raise UsageError(
                f"{type(settings).__name__}.{name.replace('_', '-')} is {getattr(settings, name)}; give a "
                "share from 0 to below 1."
            )


class Trainable:
    """The weights of a module that are being trained, as a state for checkpoints."""

    def __init__(self, module: torch.nn.Module) -> None:
        self._module = module

    def parameters(self) -> list[torch.nn.Parameter]:
        """Return the weights, in a fixed order."""
        return [weight for weight in self._module.parameters() if weight.requires_grad]

    def state_dict(self) -> dict[str, Any]:
        """Return the weights by name, whole."""
        return {name: whole(weight) for name, weight in self._trained()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Copy the weights in."""
        with torch.no_grad():
            for name, weight in self._trained():
                weight.copy_(sharded_like(state_dict[name], weight))

    def _trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return ((name, weight) for name, weight in self._module.named_parameters() if weight.requires_grad)
