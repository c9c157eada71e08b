"""A module that one process trains, or several together: DistributedDataParallel or FSDP, by accelerate.

Every process has the whole batch and takes its rows of each part of it, so the gradient is that of one
process. How the module is spread and what it computes in is said where the processes are started, by
`accelerate launch` or by the environment that it sets.
"""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn

from selfstudy.core.errors import UsageError
from selfstudy.learning.distributed import processes, sharded_like, total, whole
from selfstudy.learning.loops import Trainable

Row = TypeVar("Row")
Loss = Callable[[Any, Any], torch.Tensor]
"""(module, rows) to figures [F]: the share of the rows in the loss of the batch, then what is only logged."""


class Joint:
    """A module and its optimiser, in training by all processes of a run.

    Args:
        module: on every process the same; trained in place where it is not sharded.
        optimizer: over the weights of `module` that require a gradient.
        unused: whether some of these have no part in the loss.

    Attributes:
        optimizer: of the weights, or of this process's shards of them.
        state: what a checkpoint holds, whole in every process.
    """

    def __init__(self, module: nn.Module, optimizer: torch.optim.Optimizer, *, unused: bool = False) -> None:
        self._accelerator = _accelerator(unused)
        self._objective: Any = _Objective(module)
        self._hollow: nn.Module | None = None
        if self._accelerator is not None:
            if _shards(self._accelerator):
                self._hollow = _hollow(module)
            # The optimiser stays as it was: its weights become the shards, in place.
            self._objective, _ = self._accelerator.prepare(self._objective, optimizer)
        self._module, self.optimizer = module, optimizer
        self.state: dict[str, Any] = {"weights": Trainable(module), "optimizer": _OptimizerState(optimizer)}

    def backward(self, parts: Sequence[Sequence[Row]], loss: Loss) -> torch.Tensor:
        """Add the gradient of the loss over all `parts` of a batch; return the sum of its figures [F].

        Args:
            parts: rows that are read in one pass, the same in every process; each takes its share of each.
            loss: see `Loss`; the gradient is that of the first figure.
        """
        figures: torch.Tensor | None = None
        for number, part in enumerate(parts):
            with self._quiet(number < len(parts) - 1):
                found = self._objective(loss, *share(part))
                # accelerate takes the mean over processes.
                (found[0] * processes()).backward()
            found = found.detach().double()
            figures = found if figures is None else figures + found
        assert figures is not None
        return total(figures)

    def read(self, work: Callable[[Any, Any], torch.Tensor], rows: Sequence[Row]) -> torch.Tensor:
        """Return `work(module, rows)`; all processes read the same rows."""
        return self._objective(work, rows, 1.0)

    def _quiet(self, more: bool) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which gradients are not summed over processes yet, when `more` parts follow."""
        if self._accelerator is None or not more:
            return contextlib.nullcontext()
        return self._accelerator.no_sync(self._objective)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self._module.parameters()).device

    def finished(self) -> nn.Module:
        """Return the trained module, whole; the given one where it is not sharded."""
        if self._hollow is None:
            return self._module
        weights = {name: whole(weight).detach() for name, weight in self._module.named_parameters()}
        return _filled(self._hollow, weights).to(self.device)


def share(rows: Sequence[Row]) -> tuple[Sequence[Row], float]:
    """Return this process's rows, every n-th of n, and their weight: 0 for one that stands in for none.

    >>> share(["a", "b"])
    (['a', 'b'], 1.0)
    """
    if processes() == 1:
        return rows, 1.0
    own = rows[torch.distributed.get_rank() :: processes()]
    return (own, 1.0) if own else (rows[:1], 0.0)


class _Objective(nn.Module):
    """Computes a loss inside its own forward pass, where the hooks of DDP and FSDP are."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        # By these names accelerate finds what to shard.
        self._no_split_modules = getattr(module, "_no_split_modules", None) or _unsplit(module)

    def forward(self, loss: Loss, rows: Any, weight: float) -> torch.Tensor:
        """Return the figures [F] of `rows`."""
        return loss(self.module, rows) * weight


def _unsplit(module: nn.Module) -> list[str]:
    names = (getattr(part, "_no_split_modules", None) or [] for part in module.modules())
    return sorted({name for some in names for name in some})


def _accelerator(unused: bool) -> Any:
    """Return accelerate's view of this process; None where it was started plainly.

    Raises:
        UsageError: a way of training that gives another result, or that is not supported.
    """
    if processes() == 1 and "ACCELERATE_MIXED_PRECISION" not in os.environ:
        return None
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env

    ways = ("FSDP", "DEEPSPEED", "MEGATRON_LM", "PARALLELISM_CONFIG")
    asked = [way for way in ways if parse_flag_from_env(f"ACCELERATE_USE_{way}")]
    if asked not in ([], ["FSDP"]) or (asked and not torch.cuda.is_available()):
        raise _unsupported(
            f"{' and '.join(asked)} on {'GPUs' if torch.cuda.is_available() else 'processors'}"
        )
    found = Accelerator(
        cpu=not torch.cuda.is_available(),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=unused)],
    )
    kind = found.distributed_type.value
    if kind not in ("NO", "MULTI_CPU", "MULTI_GPU", "FSDP") or (kind == "FSDP" and not found.is_fsdp2):
        raise _unsupported("FSDP version 1" if kind == "FSDP" else kind)
    if found.num_processes != processes():
        raise _unsupported(f"{found.num_processes} of {processes()} processes")
    if found.mixed_precision not in ("no", "bf16"):
        raise UsageError(
            f"Mixed precision {found.mixed_precision!r} of accelerate is not supported; use bf16 or no."
        )
    return found


def _unsupported(what: str) -> UsageError:
    return UsageError(
        f"Training by accelerate with {what} is not supported. Use DDP, which needs no setting, or on GPUs "
        "FSDP with fsdp_version 2 (FSDP_VERSION=2)."
    )


def _shards(accelerator: Any) -> bool:
    return accelerator.distributed_type.value == "FSDP"


def _hollow(module: nn.Module) -> nn.Module:
    """Return a copy of `module` whose weights take no memory."""
    empty = {id(old): nn.Parameter(old.to("meta"), old.requires_grad) for old in module.parameters()}
    return copy.deepcopy(module, empty)


def _filled(hollow: nn.Module, weights: dict[str, torch.Tensor]) -> nn.Module:
    """Return a copy of `hollow` with `weights`, by name."""
    full = {
        id(old): nn.Parameter(weights[name], old.requires_grad) for name, old in hollow.named_parameters()
    }
    return copy.deepcopy(hollow, full)


class _OptimizerState:
    """The state of an optimiser, whole in every process."""

    def __init__(self, optimizer: torch.optim.Optimizer) -> None:
        self._optimizer = optimizer

    def state_dict(self) -> dict[str, Any]:
        state = self._optimizer.state_dict()
        of_weights = {
            place: {name: whole(value) for name, value in held.items()}
            for place, held in state["state"].items()
        }
        return {**state, "state": of_weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        weights = [weight for group in self._optimizer.param_groups for weight in group["params"]]
        self._optimizer.load_state_dict(state_dict)
        for weight in weights:
            held = self._optimizer.state[weight]
            held |= {name: sharded_like(value, weight) for name, value in held.items()}
