"""Reductions over processes: values, and gradients that are those of one process."""

from __future__ import annotations

from pathlib import Path

import torch

from selfstudy.learning.distributed import column_moments, first_row, gather_rows, processes, total

from .two_processes import in_two_processes

ROWS, WIDTH = 6, 3


def rows() -> torch.Tensor:
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def losses(values: torch.Tensor) -> dict[str, torch.Tensor]:
    """One loss through each reduction, none of them linear."""
    weights = torch.arange(1.0, ROWS + 1, dtype=torch.float64)[:, None]
    mean, variance = column_moments(values)
    return {
        "total": total(values.sum(0)).pow(3).sum(),
        "rows": (weights * gather_rows(values).pow(3)).sum(),
        # What comes after the moments differs from process to process, and is summed again.
        "moments": total(((values - mean) / variance.sqrt()).pow(4).sum(0)).sum(),
    }


def work(rank: int) -> dict[str, torch.Tensor]:
    found = {"processes": torch.tensor(processes()), "first": torch.tensor(first_row(ROWS // 2))}
    for name in ("total", "rows", "moments"):
        part = rows().chunk(2)[rank].clone().requires_grad_()
        loss = losses(part)[name]
        loss.backward()
        found |= {name: loss, f"{name}, gradient": part.grad}
    return found


def test_two_processes_are_as_one(tmp_path: Path) -> None:
    """Oracle: the same losses in one process; the mean of both processes' gradients of a weight, here half of
    that of each process's own rows, is its gradient."""
    both = in_two_processes(work, tmp_path)
    assert [int(found["processes"]) for found in both] == [2, 2]
    assert [int(found["first"]) for found in both] == [0, 3]
    for name in ("total", "rows", "moments"):
        whole = rows().requires_grad_()
        loss = losses(whole)[name]
        loss.backward()
        gradient = torch.cat([found[f"{name}, gradient"] for found in both]) / 2
        assert torch.allclose(gradient, whole.grad, atol=1e-12), name
        assert all(torch.allclose(found[name], loss) for found in both)


def test_one_process_reduces_nothing() -> None:
    """Oracle: the identity, and torch's own moments."""
    values = rows()
    assert processes() == 1 and first_row(3) == 0
    assert total(values) is values and gather_rows(values) is values
    mean, variance = column_moments(values)
    assert torch.allclose(mean, values.mean(0)) and torch.allclose(variance, values.var(0, correction=0))
