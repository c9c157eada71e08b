"""Kernel models: their features, what they tell, and that they come back from a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import selfstudy
from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.mixed_tables import Table, table_of
from selfstudy.models.kernel_model import KernelModel
from selfstudy.models.kernels import median_gamma


def mixed_table() -> Table:
    rng = np.random.default_rng(0)
    colours = ["red", "blue", "red", "green", "blue", "red", "red", "blue"]
    return table_of({"length": rng.normal(3, 2, 8), "colour": colours, "weight": rng.normal(size=8)})


def fitted(classes: tuple[str, ...] = ()) -> tuple[KernelModel, np.ndarray]:
    made = KernelModel().made_for(mixed_table())
    rows = made.features(mixed_table())
    by = np.random.default_rng(1).normal(size=(8, max(1, len(classes))))
    return made.resolved(rows).fitted(rows, by, np.arange(float(by.shape[1])) + 1, classes), by


def test_features_are_standardised() -> None:
    """Oracle: mean 0 and variance 1 of the rows that it was made for; one column for each category seen."""
    rows = KernelModel().made_for(mixed_table()).features(mixed_table())
    known = rows.std(0) > 0
    assert np.allclose(rows[:, known].mean(0), 0) and np.allclose(rows[:, known].std(0), 1)
    assert known.sum() == 2 + 3


def test_what_it_tells() -> None:
    """Oracle: the sum over its rows written out, with the gamma of the median heuristic."""
    model, by = fitted()
    rows = model.anchors.numpy()
    gamma = median_gamma(rows)
    distances = ((rows[:, None] - rows[None]) ** 2).sum(2)
    wanted = np.exp(-gamma * distances) @ by + 1
    assert model.gamma == gamma and np.allclose(model.estimate(mixed_table()), wanted[:, 0])
    assert np.allclose(model.predict(mixed_table()), wanted[:, 0])
    told, _ = fitted(("no", "yes"))
    assert told.predict(mixed_table()).tolist() == [
        ("no", "yes")[place] for place in told.outputs(mixed_table()).argmax(1)
    ]


def test_before_it_is_fitted() -> None:
    """Oracle: 0 of every row; once it knows the labels their mean, or the most frequent class."""
    made = KernelModel().made_for(mixed_table())
    assert made.estimate(mixed_table()).tolist() == [0] * 8 == made.classify(mixed_table()).tolist()
    assert made.starting_at(np.array([[1.0], [4.0]]), ()).estimate(mixed_table()).tolist() == [2.5] * 8
    told = made.starting_at(np.eye(2)[[0, 1, 1]], ("no", "yes"))
    assert told.predict(mixed_table()).tolist() == ["yes"] * 8
    model, _ = fitted()
    assert model.starting_at(np.zeros((2, 1)), ()) is model


@pytest.mark.parametrize("classes", [(), ("no", "maybe", "yes")])
def test_saved_and_loaded(classes: tuple[str, ...], tmp_path: Path) -> None:
    """Oracle: the same outputs to the bit, from a folder and by the name of the folder."""
    model, _ = fitted(classes)
    model.save(tmp_path / "model")
    for again in (KernelModel.load(tmp_path / "model"), selfstudy.model(str(tmp_path / "model"))):
        assert np.array_equal(again.outputs(mixed_table()), model.outputs(mixed_table()))
        assert again.classes == classes and again.made_for(mixed_table()) is again


def test_what_is_refused() -> None:
    """Oracle: kernels, gammas and columns that there are not; a model that was made for no table."""
    with pytest.raises(UsageError, match="no kernel 'rbff'"):
        selfstudy.model("kernel?kernel=rbff")
    with pytest.raises(UsageError, match="gamma is -1"):
        KernelModel(gamma=-1)
    with pytest.raises(UsageError, match="made for no table"):
        KernelModel().features(mixed_table())
    with pytest.raises(DataError, match="no column 'colour'"):
        fitted()[0].predict(mixed_table().without("colour"))
