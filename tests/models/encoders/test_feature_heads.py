"""Heads on features: their formulas, their first weights, and that they are read back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from selfstudy.models.encoders.feature_heads import AdapterHead, Head, LinearHead, MlpHead, OneVersusAllHead

FEATURES = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
HEADS: dict[str, Head] = {
    "linear": LinearHead(width=5, classes=3),
    "adapter": AdapterHead(width=5, adapted=2, classes=3, scale=4.0, key=1),
    "mlp": MlpHead(width=5, hidden=[7], classes=3, dropout=0.5, key=1),
    "machines": OneVersusAllHead(width=5, classes=3),
}


def test_a_linear_head_standardises() -> None:
    """Oracle: its formula; it starts at equal probabilities."""
    head = LinearHead(width=5, classes=3)
    assert torch.equal(head(FEATURES), torch.zeros(6, 3))
    head.mean, head.deviation = torch.arange(5.0), torch.arange(1.0, 6.0)
    torch.nn.init.normal_(head.linear.weight)
    expected = ((FEATURES - head.mean) / head.deviation) @ head.linear.weight.T
    assert torch.allclose(head(FEATURES), expected, atol=1e-6)


def test_an_adapter_has_directions() -> None:
    """Oracle: lengths of 1; logits grow with the scale alone."""
    head = AdapterHead(width=5, adapted=2, classes=3, scale=4.0, key=1)
    adapted = head.adapt(FEATURES)
    assert torch.allclose(adapted.norm(dim=1), torch.ones(6))
    assert torch.allclose(head(FEATURES), 4 * adapted @ head.linear.weight.T + head.linear.bias, atol=1e-6)


def test_a_perceptron_leaves_out_in_training_alone() -> None:
    """Oracle: the formula of one hidden layer; two passes in training differ."""
    head = MlpHead(width=5, hidden=[7], classes=3, dropout=0.5, key=1).eval()
    first, last = head.layers[0], head.layers[-1]
    hidden = torch.relu(FEATURES @ first.weight.T + first.bias)
    assert torch.allclose(head(FEATURES), hidden @ last.weight.T + last.bias, atol=1e-6)
    torch.manual_seed(0)
    head.train()
    assert not torch.equal(head(FEATURES), head(FEATURES))


def test_machines_share_out_what_none_claims() -> None:
    """Oracle: logit log(1 / (1 + exp(-3 s))) of the score s of each machine."""
    head = OneVersusAllHead(width=5, classes=3)
    torch.nn.init.normal_(head.linear.weight)
    scores = FEATURES @ head.linear.weight.T
    assert torch.allclose(head.margins(FEATURES), scores, atol=1e-6)
    assert torch.allclose(head(FEATURES), -torch.log1p(torch.exp(-3 * scores)), atol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    """Oracle: its logits, bit for bit, with statistics and weights that are not the first ones."""
    head = HEADS[kind]
    torch.manual_seed(2)
    with torch.no_grad():
        for value in head.state_dict().values():
            value.add_(torch.rand_like(value))
    head.save(tmp_path / "head")
    again = type(head).load(tmp_path / "head")
    assert torch.equal(head.eval()(FEATURES), again.eval()(FEATURES)) and again.config == head.config


@pytest.mark.parametrize("kind", ["adapter", "mlp"])
def test_first_weights_depend_on_the_key_alone(kind: str) -> None:
    """Oracle: two heads of one key are equal, those of two differ; torch's generator is where it was."""
    state = torch.random.get_rng_state()
    config = HEADS[kind].config
    one, other, third = (type(HEADS[kind])(**{**config, "key": key}) for key in (5, 5, 6))
    assert torch.equal(state, torch.random.get_rng_state())
    pairs = list(zip(one.parameters(), other.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not torch.equal(next(one.parameters()), next(third.parameters()))
