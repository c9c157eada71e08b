"""Update programs as optimisers: against Lion and torch, their state, and what they leave out."""

from __future__ import annotations

import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.learning.optimizers import Lion
from selfstudy.learning.program_optimizer import ProgramOptimizer, program_to_optimizer
from selfstudy.search.update_programs import ADAMW, LION, parse_program

HEAD = "def train(w, g, m, v, lr):\n"


def weights() -> list[torch.nn.Parameter]:
    stream = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(*shape, generator=stream)) for shape in ((3, 4), (4,), (2, 2, 2))]


def stepped(optimizer: torch.optim.Optimizer, moved: list[torch.nn.Parameter], steps: int = 10) -> None:
    stream = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for weight in moved:
            weight.grad = torch.randn(weight.shape, generator=stream)
        optimizer.step()


def test_the_program_of_lion_is_lion() -> None:
    """Oracle: the optimiser with the program's numbers."""
    first, second = weights(), weights()
    stepped(program_to_optimizer(LION)(first, lr=10.0), first)
    stepped(Lion(second, lr=10 * 1e-4, betas=(0.9, 0.99), weight_decay=0.1), second)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(first, second, strict=True))


def test_groups_have_rates_of_their_own() -> None:
    """Oracle: each group by an optimiser of its own, where nothing goes across tensors."""
    together, apart = weights(), weights()
    stepped(
        ProgramOptimizer([{"params": together[:2], "lr": 3.0}, {"params": together[2:]}], ADAMW), together
    )
    one, two = ProgramOptimizer(apart[:2], ADAMW, lr=3.0), ProgramOptimizer(apart[2:], ADAMW)
    stream = torch.Generator().manual_seed(1)
    for _ in range(10):
        for weight in apart:
            weight.grad = torch.randn(weight.shape, generator=stream)
        one.step()
        two.step()
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


def test_state_is_what_the_program_remembers() -> None:
    """Oracle: two tensors a weight for AdamW, one for Lion, none for plain descent."""
    plain = parse_program(HEAD + "  update = multiply(g, lr)\n  return update, m, v")
    for program, names in ((ADAMW, {"m", "v"}), (LION, {"m"}), (plain, set())):
        moved = weights()
        optimizer = ProgramOptimizer(moved, program)
        stepped(optimizer, moved, 1)
        assert all(set(optimizer.state[weight]) == names for weight in moved)


def test_a_state_that_is_taken_over() -> None:
    """Oracle: an optimiser that was never changed."""
    ends = []
    for change in (False, True):
        moved = weights()
        optimizer = ProgramOptimizer(moved, ADAMW)
        stepped(optimizer, moved)
        if change:
            state = optimizer.state_dict()
            optimizer = ProgramOptimizer(moved, ADAMW, lr=0.1)
            optimizer.load_state_dict(state)
        stepped(optimizer, moved)
        ends.append(moved)
    assert all(torch.equal(a, b) for a, b in zip(*ends, strict=True))


def test_weights_without_gradient_stay() -> None:
    """Oracle: the weight before; the others move as they would alone."""
    moved, alone = weights(), weights()
    optimizer = ProgramOptimizer(moved, LION)
    for change in (moved[:2], moved):
        for weight in moved:
            weight.grad = None
        for weight in change:
            weight.grad = torch.ones_like(weight)
        optimizer.step()
    single = ProgramOptimizer(alone[2:], LION)
    alone[2].grad = torch.ones_like(alone[2])
    single.step()
    assert torch.equal(moved[2], alone[2])
    assert set(optimizer.state[moved[0]]) == {"m"}


def test_what_is_refused() -> None:
    """Oracle: the errors; a closure's loss comes back."""
    with pytest.raises(UsageError, match="at least 0"):
        ProgramOptimizer(weights(), LION, lr=-1.0)
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(UsageError, match="dense"):
        ProgramOptimizer(table.parameters(), LION).step()
    moved = weights()

    def closure() -> float:
        loss = torch.stack([weight.square().sum() for weight in moved]).sum()
        loss.backward()
        return loss.item()

    assert (ProgramOptimizer(moved, LION).step(closure) or 0) > 0
