"""Projectors: shapes, what follows each layer, and first weights by key alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from selfstudy.models.encoders.heads import projector


def kinds(head: nn.Sequential) -> list[str]:
    return [type(part).__name__ for part in head]


def test_layers() -> None:
    """Oracle: the paper's projector (Zbontar et al. 2021): normalisation and ReLU after all but the last."""
    head = projector(3, (5, 7, 2), key=0)
    assert kinds(head) == ["Linear", "BatchNorm1d", "ReLU", "Linear", "BatchNorm1d", "ReLU", "Linear"]
    assert [(part.in_features, part.out_features) for part in head if isinstance(part, nn.Linear)] == [
        (3, 5),
        (5, 7),
        (7, 2),
    ]
    assert not any(part.bias is not None for part in head if isinstance(part, nn.Linear))
    assert head(torch.zeros(4, 3)).shape == (4, 2)


def test_without_normalisation() -> None:
    """Oracle: layers have biases then, and a batch of one works."""
    head = projector(3, (5, 2), key=0, normalised=False).train()
    assert kinds(head) == ["Linear", "ReLU", "Linear"]
    assert all(part.bias is not None for part in head if isinstance(part, nn.Linear))
    assert head(torch.ones(1, 3)).shape == (1, 2)


def test_one_layer_is_linear() -> None:
    """Oracle: additivity, without normalisation and without a bias."""
    head = projector(3, (4,), key=0)
    one, other = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(head(one + other), head(one) + head(other))


@pytest.mark.parametrize("normalised", [True, False])
def test_first_weights_depend_on_the_key_alone(normalised: bool) -> None:
    """Oracle: equality of two heads made around a use of the global generator, which is left as it is."""
    torch.manual_seed(0)
    expected = torch.randn(3)
    torch.manual_seed(0)
    first = projector(3, (4, 2), key=2**63 + 5, normalised=normalised)
    assert torch.equal(torch.randn(3), expected)
    again, other = (projector(3, (4, 2), key=key, normalised=normalised) for key in (2**63 + 5, 7))
    weights = [next(iter(head.parameters())) for head in (first, again, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
