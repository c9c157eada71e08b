"""LARS: its equations by hand, its invariances, and its state."""

from __future__ import annotations

import pytest
import torch

from selfstudy.learning.optimizers import Lars


def parameters() -> tuple[torch.nn.Parameter, torch.nn.Parameter]:
    stream = torch.Generator().manual_seed(0)
    return (
        torch.nn.Parameter(torch.randn(3, 4, generator=stream)),
        torch.nn.Parameter(torch.randn(4, generator=stream)),
    )


def moved(gradients: list[float], **options: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how far a matrix and a vector move over steps whose gradients are these times a constant."""
    matrix, vector = parameters()
    before = matrix.detach().clone(), vector.detach().clone()
    optimizer = Lars([matrix, vector], **options)
    for factor in gradients:
        matrix.grad, vector.grad = factor * torch.arange(12.0).view(3, 4), factor * torch.ones(4)
        optimizer.step()
    return matrix.detach() - before[0], vector.detach() - before[1]


def test_first_step_is_free_of_the_scale_of_a_matrix_s_gradient() -> None:
    """Oracle: the trust ratio cancels it for matrices without decay; vectors move in proportion."""
    once, twice = moved([1.0], weight_decay=0.0), moved([2.0], weight_decay=0.0)
    assert torch.allclose(once[0], twice[0]) and torch.allclose(2 * once[1], twice[1])


def test_two_steps_by_hand() -> None:
    """Oracle: the equations of the docstring in plain tensors, with decay and momentum."""
    rate, decay, momentum, eta = 0.3, 0.1, 0.9, 0.001
    matrix, vector = (weight.detach().clone() for weight in parameters())
    before = matrix.clone(), vector.clone()
    m_matrix, m_vector = torch.zeros(3, 4), torch.zeros(4)
    for factor in (1.0, -0.5):
        g = factor * torch.arange(12.0).view(3, 4) + decay * matrix
        m_matrix = momentum * m_matrix + g * eta * matrix.norm() / g.norm()
        m_vector = momentum * m_vector + factor * torch.ones(4)
        matrix, vector = matrix - rate * m_matrix, vector - rate * m_vector
    found = moved([1.0, -0.5], lr=rate, weight_decay=decay, momentum=momentum, eta=eta)
    assert torch.allclose(found[0], matrix - before[0], atol=1e-7)
    assert torch.allclose(found[1], vector - before[1], atol=1e-7)


@pytest.mark.parametrize("zero", ["weight", "gradient"])
def test_nothing_to_scale_by(zero: str) -> None:
    """Oracle: where a norm is 0 the factor is 1, and nothing is divided by 0."""
    weight = torch.nn.Parameter(torch.zeros(2, 2) if zero == "weight" else torch.ones(2, 2))
    weight.grad = torch.ones(2, 2) if zero == "weight" else torch.zeros(2, 2)
    start, gradient = weight.detach().clone(), weight.grad.clone()
    Lars([weight], lr=0.5, weight_decay=0.0).step()
    assert torch.equal(weight.detach(), start - 0.5 * gradient)


def test_momentum_is_part_of_the_state() -> None:
    """Oracle: an optimiser that takes over a state goes on as the first would have."""
    results = []
    for change in (False, True):
        weight = torch.nn.Parameter(torch.ones(2, 2))
        optimizer = Lars([weight], lr=0.1)
        for step in range(3):
            if change and step == 2:
                state, optimizer = optimizer.state_dict(), Lars([weight], lr=0.7)
                optimizer.load_state_dict(state)
            weight.grad = torch.full((2, 2), 1.0 + step)
            optimizer.step()
        results.append(weight.detach().clone())
    assert torch.equal(*results)


def test_closure_and_weights_without_gradient() -> None:
    """Oracle: the closure's loss comes back; a weight without gradient stays."""
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = Lars([used, unused], lr=0.1)

    def closure() -> torch.Tensor:
        loss = used.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2.0
    assert torch.allclose(used.detach(), torch.full((2,), 0.8)) and torch.equal(
        unused.detach(), torch.ones(2)
    )
