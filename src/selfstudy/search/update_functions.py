"""The functions that update programs are made of: elementwise ones, norms and products of tensors.

A value is a tensor with one number a weight, or a scalar: one number for each tensor of weights, or one for
all. In a mix of both the scalars are spread over their weights.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch

Kind = Literal["tensor", "scalar"]
"""Of a value."""
SMALL = 1e-12  # added to a norm before it divides


class Leaves:
    """Which weights of one long vector are a tensor of the network.

    Args:
        sizes: numbers of weights, tensor by tensor.
    """

    def __init__(self, sizes: list[int]) -> None:
        self.sizes = torch.tensor(sizes)
        self.of = torch.repeat_interleave(torch.arange(len(sizes)), self.sizes)  # [N]

    def sums(self, x: torch.Tensor) -> torch.Tensor:
        """Return the sum over each tensor: [N] -> [L]."""
        return torch.zeros(len(self.sizes), dtype=x.dtype).index_add_(0, self.of, x)

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """Return a scalar for every weight: [L] -> [N]; one for all stays as it is."""
        return x if x.ndim == 0 else x[self.of]


class Function(NamedTuple):
    """One function: of how many arguments, whether their order matters, and which must be tensors.

    `work` takes the leaves first where `needs_leaves`.
    """

    arguments: int
    work: Callable[..., torch.Tensor]
    commutes: bool = False
    tensors: int = 0
    """So many of the first arguments must be tensors."""
    gives: Kind | None = None
    """None is a tensor where any argument is one."""
    needs_leaves: bool = False


def interpolate(x: torch.Tensor, y: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    """Return (1 - share) x + share y."""
    return (1 - share) * x + share * y


def _norm(leaves: Leaves, x: torch.Tensor) -> torch.Tensor:
    return leaves.sums(x * x).sqrt()


def _dot(leaves: Leaves, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return leaves.sums(x * y)


def _cosine(leaves: Leaves, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return _dot(leaves, x, y) / (_norm(leaves, x) * _norm(leaves, y) + SMALL)


def _clip_by_global_norm(x: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    return x * (limit.abs() / (x.norm() + SMALL)).clamp(max=1)


def _clip(x: torch.Tensor, limit: torch.Tensor) -> torch.Tensor:
    return torch.minimum(torch.maximum(x, -limit.abs()), limit.abs())


def _each(*names: str) -> dict[str, Function]:
    return {name: Function(1, getattr(torch, name)) for name in names}


FUNCTIONS: dict[str, Function] = {
    "add": Function(2, torch.add, commutes=True),
    "subtract": Function(2, torch.sub),
    "multiply": Function(2, torch.mul, commutes=True),
    "divide": Function(2, torch.div),
    "power": Function(2, torch.pow),
    "maximum": Function(2, torch.maximum, commutes=True),
    "minimum": Function(2, torch.minimum, commutes=True),
    "interp": Function(3, interpolate),
    "clip": Function(2, _clip),
    "constant": Function(1, lambda x: x),
    **_each("abs", "sign", "square", "sqrt", "reciprocal", "neg", "exp", "expm1", "log", "log1p"),
    **_each("sin", "cos", "tan", "arcsin", "arccos", "arctan"),
    **_each("sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "erf", "sigmoid", "ceil", "floor"),
    "norm": Function(1, _norm, tensors=1, gives="scalar", needs_leaves=True),
    "mean": Function(
        1, lambda leaves, x: leaves.sums(x) / leaves.sizes, tensors=1, gives="scalar", needs_leaves=True
    ),
    "dot": Function(2, _dot, commutes=True, tensors=2, gives="scalar", needs_leaves=True),
    "cosine": Function(2, _cosine, commutes=True, tensors=2, gives="scalar", needs_leaves=True),
    "global_norm": Function(1, lambda x: x.norm(), tensors=1, gives="scalar"),
    "clip_by_global_norm": Function(2, _clip_by_global_norm, tensors=1),
}


def kind_of(name: str, kinds: list[Kind]) -> Kind | str:
    """Return the kind that a function gives for arguments of these kinds, or what is wrong with them.

    >>> kind_of("multiply", ["tensor", "scalar"]), kind_of("norm", ["tensor"])
    ('tensor', 'scalar')
    >>> kind_of("norm", ["scalar"])
    'norm takes a tensor as argument 1, not a scalar'
    """
    function: Any = FUNCTIONS[name]
    if len(kinds) != function.arguments:
        return f"{name} takes {function.arguments} arguments, not {len(kinds)}"
    for place, kind in enumerate(kinds[: function.tensors], start=1):
        if kind != "tensor":
            return f"{name} takes a tensor as argument {place}, not a scalar"
    return function.gives or ("tensor" if "tensor" in kinds else "scalar")
