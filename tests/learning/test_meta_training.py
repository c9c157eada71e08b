"""The trace of a meta-training, and its loss."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from selfstudy.learning.meta_training import MetaTrained, Trace, sequence_loss
from selfstudy.models.in_context.sequence_baselines import SequenceLstm
from selfstudy.models.in_context.sequences import SequenceTransformer


@pytest.mark.parametrize("kind", [SequenceTransformer, SequenceLstm])
def test_read_back(kind: type, tmp_path: Path) -> None:
    """Oracle: what was saved, weight by weight and figure by figure."""
    model = kind(width=16, positions=4)
    trace = Trace([1.5, 1.25], [{"step": 0, "seen": [0.2, 0.3]}])
    MetaTrained(model, trace).save(tmp_path)
    again = MetaTrained.load(tmp_path)
    assert again.trace == trace and again.model.name == model.name
    inputs, labels = torch.randn(2, 4, 64), torch.zeros(2, 4, dtype=torch.long)
    assert torch.equal(again.model(inputs, labels), model(inputs, labels))


def test_states_do_not_share_lists() -> None:
    """Oracle: a trace goes on from a state without changing it."""
    state = {"losses": [1.0], "looks": []}
    trace = Trace()
    trace.load_state_dict(state)
    trace.losses.append(2.0)
    assert state["losses"] == [1.0] and trace.state_dict()["losses"] == [1.0, 2.0]


def test_the_loss_by_hand() -> None:
    """Oracle: minus the mean log-probability of each label, one position at a time."""
    model = SequenceTransformer(width=16, positions=4)
    inputs, labels = torch.randn(2, 4, 64), torch.tensor([[0, 1, 2, 3], [4, 4, 0, 1]])
    shares = model(inputs, labels).softmax(-1).detach()
    by_hand = [-math.log(shares[b, j, labels[b, j]]) for b in range(2) for j in range(4)]
    assert sequence_loss(model, inputs, labels).item() == pytest.approx(sum(by_hand) / 8, abs=1e-5)
