"""The best weights so far."""

from __future__ import annotations

import torch
from torch import nn

from selfstudy.learning.best_weights import BestWeights


def test_of_equals_the_latest_and_through_a_checkpoint() -> None:
    """Oracle: figures 0.5, 0.7, 0.7, 0.6 of weights 0 to 3: the third is kept, by a second keeper too."""
    module = nn.Linear(1, 1)
    best = BestWeights(module)
    assert best.bring_back() == {}
    for step, figure in enumerate((0.5, 0.7, 0.7, 0.6)):
        nn.init.constant_(module.weight, step)
        best.offer(figure, step)
    other = BestWeights(module)
    other.load_state_dict(best.state_dict())
    assert other.bring_back() == {"kept_at": 2, "accuracy": 0.7}
    assert torch.equal(module.weight, torch.tensor([[2.0]]))
