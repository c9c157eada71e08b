"""Training heads with few labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.mixed_tables import table_of
from selfstudy.data.table_answers import Answers
from selfstudy.learning.table_heads import (
    HeadTraining,
    best_of_grid,
    frozen_predictor,
    trained_head,
    whole_predictor,
)
from selfstudy.models.encoders.tables import TabularTransformer

SMALL: dict[str, Any] = {"network": "mlp", "hidden": 16, "batch": 16, "epochs": 40, "learning_rates": (1e-2,)}


def problem(count: int = 80) -> tuple[torch.Tensor, Answers]:
    """Tokens whose first feature says the class."""
    rng = np.random.default_rng(0)
    tokens = torch.from_numpy(rng.normal(size=(count, 3, 2))).float()
    return tokens, Answers((tokens[:, 0, 0] > 0).double().numpy(), ("low", "high"))


def test_a_head_learns_and_is_the_same_each_time() -> None:
    """Oracle: nearly all of the training rows right, far above chance; bit-identical when trained again."""
    tokens, answers = problem()
    settings = HeadTraining(**SMALL)
    head = trained_head(tokens, answers, settings, key=1)
    right = (head(tokens).argmax(1).numpy() == answers.values).mean()
    assert right > 0.85
    again = trained_head(tokens, answers, settings, key=1)
    assert all(torch.equal(a, b) for a, b in zip(head.parameters(), again.parameters(), strict=True))


def test_the_grid_and_early_stopping() -> None:
    """Oracle: with a rate that diverges and a good one the good one is taken; its loss is that of the
    held-out rows at the best pass, no larger than that of the first weights."""
    tokens, answers = problem()
    settings = HeadTraining(**{**SMALL, "learning_rates": (1e3, 1e-2)})
    start = lambda: settings.head(3, 2, answers, 7)  # noqa: E731
    both = best_of_grid(start, (tokens,), answers, settings, 7)
    good = best_of_grid(start, (tokens,), answers, HeadTraining(**SMALL), 7)
    assert both.loss == good.loss < 0.69
    patient = best_of_grid(start, (tokens,), answers, HeadTraining(**{**SMALL, "patience": 40}), 7)
    assert patient.loss <= good.loss


@pytest.mark.parametrize("make", [frozen_predictor, whole_predictor])
@pytest.mark.parametrize("numbers", [False, True])
def test_predictors_of_rows(make: Any, numbers: bool) -> None:
    """Oracle: better than the most frequent class, or the mean; the encoder handed in is left as it is."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=100)
    table = table_of({"x": x, "noise": rng.normal(size=100), "c": rng.choice(["a", "b"], size=100)})
    answers = Answers(100 + 30 * x) if numbers else Answers((x > 0).astype(float), ("no", "yes"))
    encoder = TabularTransformer(width=8, layers=1, heads=2, hidden=8).made_for(table)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    made = make(encoder, encoder.rows(table), answers, HeadTraining(**SMALL), 3)
    if numbers:
        assert np.mean((made.estimate(table) - answers.values) ** 2) < 0.5 * answers.values.var()
    else:
        assert (made.classify(table) == answers.values).mean() > 0.8
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    moved = [not torch.equal(value, before[name]) for name, value in made.encoder.state_dict().items()]
    assert any(moved) == (make is whole_predictor)


@pytest.mark.parametrize(
    "fields",
    [{"held_out": 1.0}, {"dropout": 1.0}, {"learning_rates": ()}, {"weight_decays": (-1.0,)}, {"epochs": 0}],
)
def test_settings_that_cannot_be(fields: dict[str, Any]) -> None:
    """Oracle: each out of range; the defaults pass; two rows are too few to hold one out of."""
    with pytest.raises(UsageError):
        HeadTraining(**fields).validate()
    HeadTraining().validate()
    tokens, answers = problem(2)
    with pytest.raises(DataError, match="2 labelled rows are too few"):
        trained_head(tokens, answers, HeadTraining(), 0)
