"""Update programs as optimisers of torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from selfstudy.core.errors import UsageError
from selfstudy.learning.optimizers import loss_of
from selfstudy.search.program_running import RunningProgram
from selfstudy.search.update_programs import STATE, UpdateProgram


class ProgramOptimizer(torch.optim.Optimizer):
    """Moves weights by minus the update that a program gives for all of them together.

    Weights without a gradient are left out. The state of a weight is what the program remembers, up to two
    tensors of its shape, "m" and "v". For a step all weights are put into one vector.

    Args:
        params: weights, or groups of them.
        program: what to run.
        lr: what the program is given as its rate; those that a search has found have their own rate as a
            number and take this as a share of it.
    """

    def __init__(self, params: Any, program: UpdateProgram, lr: float = 1.0) -> None:
        if not lr >= 0:
            raise UsageError(f"The optimiser of an update program has lr {lr}; it must be at least 0.")
        super().__init__(params, {"lr": lr})
        self.program = program
        self._running: tuple[list[int], RunningProgram] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step; `closure` computes the loss anew, if given.

        Raises:
            UsageError: a sparse gradient.
        """
        loss = loss_of(closure)
        moved = [(w, g["lr"]) for g in self.param_groups for w in g["params"] if w.grad is not None]
        if moved:
            self._move([w for w, _ in moved], torch.tensor([float(rate) for _, rate in moved]))
        return loss

    def _move(self, weights: list[torch.Tensor], rates: torch.Tensor) -> None:
        if any(weight.grad is not None and weight.grad.is_sparse for weight in weights):
            raise UsageError("Update programs take dense gradients only.")
        sizes = [weight.numel() for weight in weights]
        if self._running is None or self._running[0] != sizes:
            self._running = sizes, RunningProgram(self.program, sizes)
        running = self._running[1]
        w, g = (_one_vector(many) for many in (weights, [weight.grad for weight in weights]))
        m, v = (
            _one_vector([self._remembered(weight, name) for weight in weights])
            if kept
            else torch.zeros_like(w)
            for name, kept in zip(STATE, running.remembers, strict=True)
        )
        update, m, v = running(w, g, m, v, rates[0] if len(rates.unique()) == 1 else rates)
        for weight, part in zip(weights, update.split(sizes), strict=True):
            weight.sub_(part.view_as(weight))
        for name, kept, found in zip(STATE, running.remembers, (m, v), strict=True):
            for weight, part in zip(weights, found.split(sizes), strict=True) if kept else ():
                self._remembered(weight, name).copy_(part.view_as(weight))

    def _remembered(self, weight: torch.Tensor, name: str) -> torch.Tensor:
        state = self.state[weight]
        if name not in state:
            state[name] = torch.zeros_like(weight)
        return state[name]


def _one_vector(tensors: list[Any]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors])


def program_to_optimizer(program: UpdateProgram) -> Callable[..., ProgramOptimizer]:
    """Return what makes the optimiser of a program, as a class of torch would: `make(params, lr=1.0)`."""

    def make(params: Any, lr: float = 1.0) -> ProgramOptimizer:
        return ProgramOptimizer(params, program, lr)

    return make
