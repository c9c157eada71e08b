"""Temperature scaling."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfstudy.models.temperature_scaling import fitted_temperature, tempered


@given(st.floats(0.1, 10), st.integers(0, 100))
def test_tempered(temperature: float, seed: int) -> None:
    """Oracle: the softmax of logits over the temperature; a class without probability keeps none of it."""
    logits = torch.from_numpy(np.random.default_rng(seed).standard_normal((5, 4)))
    found = tempered(logits.softmax(1), temperature)
    assert torch.allclose(found, (logits / temperature).softmax(1), atol=1e-9)
    assert tempered(torch.tensor([[1.0, 0.0]]), temperature)[0, 0] > 0.999


def test_fitted() -> None:
    """Oracle: logits that were multiplied by 3 after labels had been drawn from them need T = 3."""
    random = np.random.default_rng(0)
    logits = torch.from_numpy(random.standard_normal((20_000, 5)) * 1.5)
    p = logits.softmax(1).numpy()
    labels = (p.cumsum(1) > random.random((len(p), 1))).argmax(1)
    assert fitted_temperature((3 * logits).softmax(1), labels) == pytest.approx(3, rel=0.05)
    assert fitted_temperature(logits.softmax(1), labels) == pytest.approx(1, rel=0.05)


def test_it_stays_within_its_range() -> None:
    """Oracle: labels that are always told right want no limit; the least temperature is 0.05."""
    p = torch.tensor([[0.6, 0.4]] * 10)
    assert fitted_temperature(p, np.zeros(10, dtype=int)) == pytest.approx(0.05, rel=0.01)
