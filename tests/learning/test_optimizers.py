"""LARS and Lion: their equations by hand, their invariances, their state; optimisers by name."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selfstudy.core.errors import UsageError
from selfstudy.learning import optimizers
from selfstudy.learning.fine_tuning import FineTuning
from selfstudy.learning.masked_language import MaskedLanguage
from selfstudy.learning.noisy_step import NoisyTraining
from selfstudy.learning.optimizers import OPTIMIZERS, WITH_BETAS, Lars, Lion, named_optimizer
from selfstudy.learning.pair_tuning import PairTuning
from selfstudy.learning.policy_gradient import PolicyGradient
from selfstudy.learning.preferences import Preference
from selfstudy.learning.stages import StageTraining
from selfstudy.learning.supervised import Supervised
from selfstudy.learning.text_fine_tuning import TextFineTuning
from selfstudy.learning.text_tuning import SetFitTuning
from selfstudy.learning.values import ValueFitting
from selfstudy.learning.weighted_sequences import SequenceTuning


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


# Lion.


def lion_steps(gradients: torch.Tensor, **options: Any) -> tuple[torch.Tensor, Lion]:
    """A weight [N] that starts at -1 to 1, after steps on gradients [steps, N]."""
    weight = torch.nn.Parameter(torch.linspace(-1, 1, gradients.shape[1]))
    optimizer = Lion([weight], **options)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach(), optimizer


def normal(steps: int, size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(steps, size, generator=torch.Generator().manual_seed(seed))


def test_first_step_of_lion() -> None:
    """Oracle: w (1 - lr decay) - lr sign(g) exactly; a coordinate without gradient is decayed alone."""
    start, gradient = torch.linspace(-1, 1, 9), normal(1, 9)
    gradient[0, 4] = gradient[0, 0] = 0.0
    found, _ = lion_steps(gradient, lr=0.25, weight_decay=0.5)
    assert torch.equal(found, start * 0.875 - 0.25 * gradient[0].sign())
    assert torch.equal((found - start * 0.875).abs() == 0.25, gradient[0] != 0)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.integers(-20, 20), st.floats(0.01, 100))
def test_lion_is_free_of_the_scale_of_the_loss(seed: int, power: int, factor: float) -> None:
    """Oracle: bit for bit for powers of two; for any factor but for signs of what rounds to 0."""
    gradients = normal(12, 40, seed)
    plain, _ = lion_steps(gradients, lr=0.01, weight_decay=0.1)
    assert torch.equal(lion_steps(2.0**power * gradients, lr=0.01, weight_decay=0.1)[0], plain)
    same = torch.isclose(lion_steps(factor * gradients, lr=0.01, weight_decay=0.1)[0], plain)
    assert same.float().mean() > 0.9


def test_lion_with_equal_betas() -> None:
    """Oracle: by hand for g = 1, -1, 1 and beta 0.5: the average is 0.5, -0.25, 0.375, its signs +, -, +."""
    gradients = torch.tensor([[1.0], [-1.0], [1.0]])
    found, optimizer = lion_steps(gradients, lr=0.5, betas=(0.5, 0.5))
    (state,) = optimizer.state.values()
    assert found.item() == -1 - 0.5 + 0.5 - 0.5 and state["exp_avg"].item() == 0.375


def test_lion_takes_the_old_momentum_for_its_step() -> None:
    """Oracle: with beta1 = 0.9 and beta2 = 0 the second step follows 0.9 g1 + 0.1 g2, whatever is stored."""
    found, _ = lion_steps(torch.tensor([[1.0], [-5.0]]), lr=1.0, betas=(0.9, 0.0))
    assert found.item() == -1 - 1 - 1  # 0.9 - 0.5 is above 0, where the new momentum, -5, is not


def test_lion_against_numpy() -> None:
    """Oracle: its equations in numpy over 50 random steps; one state tensor a weight."""
    gradients = normal(50, 60)
    w, m = torch.linspace(-1, 1, 60).numpy(), np.zeros(60, dtype=np.float32)
    for g in gradients.numpy():
        w = w * (1 - 0.01 * 0.2) - 0.01 * np.sign(0.9 * m + (1 - 0.9) * g)
        m = 0.99 * m + (1 - 0.99) * g
    found, optimizer = lion_steps(gradients, lr=0.01, weight_decay=0.2)
    assert np.abs(found.numpy() - w).max() < 1e-6
    ((name, state),) = next(iter(optimizer.state.values())).items()
    assert name == "exp_avg" and np.abs(state.numpy() - m).max() < 1e-6


def test_momentum_of_a_constant_gradient() -> None:
    """Oracle: (1 - beta2^k) g."""
    _, optimizer = lion_steps(torch.full((7, 3), 2.0), betas=(0.9, 0.8))
    assert torch.allclose(next(iter(optimizer.state.values()))["exp_avg"], torch.tensor(2 * (1 - 0.8**7)))


def test_lion_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same bits whether weights are small, whole, in pieces, or not contiguous."""
    shapes = [(70, 30), (5,), (8, 16, 3, 3), (3, 2), (1000,), ()]
    ends = []
    for small, cached in ((10**9, 10**9), (16, 10**9), (16, 128)):
        monkeypatch.setattr(optimizers, "SMALL", small)
        monkeypatch.setattr(optimizers, "CACHED", cached)
        stream = torch.Generator().manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(shape, generator=stream)) for shape in shapes]
        weights[2] = torch.nn.Parameter(weights[2].detach().to(memory_format=torch.channels_last))
        optimizer = Lion(weights, lr=0.01, weight_decay=0.3)
        for _ in range(4):
            for weight in weights:
                weight.grad = torch.randn(weight.shape, generator=stream)
            optimizer.step()
        ends.append(weights)
    for other in ends[1:]:
        assert all(torch.equal(a, b) for a, b in zip(ends[0], other, strict=True))


def test_state_of_lion_goes_on() -> None:
    """Oracle: an optimiser that takes over a state goes on as the first; groups keep rates."""
    ends = []
    for change in (False, True):
        weights = [torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))]
        groups = [{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "weight_decay": 0.5}]
        optimizer = Lion(groups, lr=0.2)
        for step, gradient in enumerate(normal(6, 5)):
            if change and step == 3:
                state = optimizer.state_dict()
                optimizer = Lion([{"params": weights[:1]}, {"params": weights[1:]}])
                optimizer.load_state_dict(state)
            weights[0].grad, weights[1].grad = gradient[:3].clone(), gradient[3:].clone()
            optimizer.step()
        ends.append(torch.cat([weight.detach() for weight in weights]))
    assert torch.equal(*ends)


def test_weights_without_gradient_are_not_decayed() -> None:
    """Oracle: the weight before, and no state."""
    used, unused = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    optimizer = Lion([used, unused], lr=0.1, weight_decay=0.5)
    used.grad = torch.ones(2)
    optimizer.step()
    assert torch.equal(unused.detach(), torch.ones(2)) and unused not in optimizer.state


def test_what_lion_refuses() -> None:
    """Oracle: the errors, in the groups too."""
    weight = torch.nn.Parameter(torch.ones(2))
    bad: list[dict[str, Any]] = [{"lr": -1.0}, {"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}]
    for options in [*bad, {"weight_decay": -1.0}]:
        with pytest.raises(UsageError, match="at least 0"):
            Lion([weight], **options)
        with pytest.raises(UsageError, match="at least 0"):
            Lion([{"params": [weight], **options}])
    table = torch.nn.Embedding(4, 2, sparse=True)
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(UsageError, match="sparse=False"):
        Lion(table.parameters()).step()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_short_weights_are_warned_of(dtype: torch.dtype) -> None:
    """Oracle: the warning names the type; float32 gives none, for warnings are errors."""
    with pytest.warns(UserWarning, match=str(dtype)):
        Lion([torch.nn.Parameter(torch.ones(2, dtype=dtype))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Lion([torch.nn.Parameter(torch.ones(2))])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimisers_by_name(name: Any) -> None:
    """Oracle: each moves a weight downhill at the rate that is set; betas where there are some."""
    weight = torch.nn.Parameter(torch.ones(3, 3))
    optimizer = named_optimizer(name, [{"params": [weight], "weight_decay": 0.0}])
    weight.grad = torch.ones(3, 3)
    optimizer.step()
    assert torch.equal(weight.detach(), torch.ones(3, 3))
    optimizer.param_groups[0]["lr"] = 0.1
    optimizer.step()
    assert bool((weight < 1).all())
    if name in WITH_BETAS:
        assert named_optimizer(name, [weight], (0.5, 0.6)).param_groups[0]["betas"] == (0.5, 0.6)
        with pytest.raises(UsageError, match="below 1"):
            named_optimizer(name, [weight], (0.5, 1.0))
    else:
        with pytest.raises(UsageError, match="no betas"):
            named_optimizer(name, [weight], (0.5, 0.6))


def test_an_unknown_optimiser() -> None:
    """Oracle: the error and the nearest name."""
    name: Any = "lions"
    with pytest.raises(UsageError, match="lion"):
        named_optimizer(name, [])


SETTINGS: list[Any] = [
    MaskedLanguage,
    NoisyTraining,
    PairTuning,
    PolicyGradient,
    Preference,
    SequenceTuning,
    SetFitTuning,
    StageTraining,
    Supervised,
    TextFineTuning,
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_every_training_takes_lion(settings: Any) -> None:
    """Oracle: its settings accept the name with betas, and refuse others before any work."""
    settings(optimizer="lion", betas=(0.95, 0.98)).validate()
    for wrong in ({"optimizer": "lions"}, {"optimizer": "lion", "betas": (0.9, 1.0)}):
        with pytest.raises(UsageError, match="optimiser"):
            settings(**wrong).validate()
    for of_models in (FineTuning, ValueFitting):
        assert of_models(optimizer="lion").optimizer == "lion"
