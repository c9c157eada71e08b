"""Update programs on tensors: all weights of a network as one vector."""

from __future__ import annotations

from typing import NamedTuple

import torch

from selfstudy.core.errors import UsageError
from selfstudy.search.update_functions import FUNCTIONS, Leaves
from selfstudy.search.update_programs import UNUSED, UpdateProgram, kinds_after, kinds_of, pruned


class _Line(NamedTuple):
    name: str
    function: str
    arguments: tuple[str | torch.Tensor, ...]
    spread: tuple[bool, ...]  # the scalars that meet a tensor


class RunningProgram:
    """A program made ready for tensors of given sizes; dead lines are left out.

        update, m, v = running(w, g, m, v, lr)

    Args:
        program: a valid one.
        sizes: numbers of weights, tensor by tensor, of the vector that it will be given.

    Raises:
        UsageError: the program is not valid.
    """

    def __init__(self, program: UpdateProgram, sizes: list[int]) -> None:
        kinds = kinds_of(program)
        if isinstance(kinds, str):
            raise UsageError(f"The update program is not valid: {kinds}.")
        self.program = pruned(program)
        self.remembers = tuple(value != UNUSED for value in self.program.result[1:])
        self._leaves = Leaves(sizes)
        self._lines = _lines(self.program)

    @torch.no_grad()
    def __call__(
        self, w: torch.Tensor, g: torch.Tensor, m: torch.Tensor, v: torch.Tensor, lr: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the update and the next m and v, of one number a weight [N].

        Args:
            w: weights [N].
            g: their gradient [N].
            m: what was remembered [N], 0 at first; so v.
            v: as m.
            lr: one rate, or one for each tensor [L].
        """
        values = {"w": w, "g": g, "m": m, "v": v, "lr": lr}
        for name, function, arguments, spread in self._lines:
            given = [values[a] if isinstance(a, str) else a for a in arguments]
            if any(spread):
                given = [self._leaves.spread(x) if wide else x for x, wide in zip(given, spread, strict=True)]
            work = FUNCTIONS[function]
            values[name] = work.work(self._leaves, *given) if work.needs_leaves else work.work(*given)
        update, *state = self.program.result
        kept = [
            values[str(name)] if remembered else before
            for name, remembered, before in zip(state, self.remembers, (m, v), strict=True)
        ]
        return values[str(update)], kept[0], kept[1]


def _lines(program: UpdateProgram) -> list[_Line]:
    lines = []
    for place, (name, function, arguments) in enumerate(program.statements):
        kinds = kinds_after(program.statements[:place])
        found = [kinds[a] if isinstance(a, str) else "scalar" for a in arguments]  # type: ignore[index]
        mixed = "tensor" in found
        spread = tuple(
            mixed and kind == "scalar" and isinstance(a, str)
            for kind, a in zip(found, arguments, strict=True)
        )
        made = tuple(a if isinstance(a, str) else torch.tensor(a) for a in arguments)
        lines.append(_Line(name, function, made, spread))
    return lines
