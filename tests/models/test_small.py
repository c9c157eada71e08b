"""Small networks: first weights by name alone, saved with their configuration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import selfstudy
from selfstudy.core.errors import MachineError, UsageError
from selfstudy.models.small import SmallModel


class Dot(SmallModel):
    """A weight for each input."""

    kind = "dot"

    def __init__(self, *, inputs: int = 3, seed: int = 0) -> None:
        super().__init__(inputs=inputs, seed=seed)
        self.weight = torch.nn.Parameter(torch.randn(inputs, generator=self.generator()))


class Other(Dot):
    kind = "other"


def test_first_weights_depend_on_the_seed_alone() -> None:
    """Oracle: equality of two models made around a use of the global generator."""
    torch.manual_seed(0)
    one = Dot(seed=1)
    torch.randn(5)
    assert torch.equal(one.weight, Dot(seed=1).weight)
    assert not torch.equal(one.weight, Dot(seed=2).weight)
    assert not torch.equal(one.weight, Other(seed=1).weight)
    assert one.name == "dot?inputs=3&seed=1" and one.weights == 3


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """Oracle: the weights after a change, bit for bit; the configuration in plain JSON."""
    model = Dot(inputs=4, seed=3)
    changed = model.copy()
    with torch.no_grad():
        changed.weight += 1
    assert not torch.equal(model.weight, changed.weight), "a copy has weights of its own"
    changed.save(tmp_path / "model")
    again = Dot.load(tmp_path / "model")
    assert torch.equal(again.weight, changed.weight) and again.config == {"inputs": 4, "seed": 3}
    assert json.loads((tmp_path / "model" / "config.json").read_text())["kind"] == "dot"
    with pytest.raises(MachineError, match="holds a model 'dot', not 'other'"):
        Other.load(tmp_path / "model")


def test_a_model_by_name() -> None:
    """Oracle: the fields of its constructor; a name nearly right is put right, whatever kind it is of."""
    model = selfstudy.model("linear-attention?layers=2&seed=3")
    assert model.config["layers"] == 2 and model.name.startswith("linear-attention?")
    with pytest.raises(
        UsageError, match=r"Model 'linear-attention' has no field 'layer'\. Did you mean 'layers'"
    ):
        selfstudy.model("linear-attention?layer=2")
    with pytest.raises(UsageError, match=r"no model 'linear-attentoin'\. Did you mean 'linear-attention'"):
        selfstudy.model("linear-attentoin")
    with pytest.raises(UsageError, match="Did you mean 'tiny-lm'"):
        selfstudy.model("tiny-ml")
