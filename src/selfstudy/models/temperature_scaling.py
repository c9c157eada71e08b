"""Temperature scaling: sharper or smoother probabilities (Guo et al. 2017, arXiv 1706.04599)."""

from __future__ import annotations

import numpy as np
import torch

RANGE = (0.05, 20.0)  # of temperatures that are fitted
LEAST = 1e-30  # of a probability, before its logarithm


def tempered(probabilities: torch.Tensor, temperature: float) -> torch.Tensor:
    """Return probabilities [N, C] as their classifier would give them with its logits over `temperature`.

    >>> tempered(torch.tensor([[0.8, 0.2]]), 0.5).round(decimals=3)
    tensor([[0.9410, 0.0590]])
    """
    if temperature == 1:
        return probabilities
    return (probabilities.clamp_min(LEAST).log() / temperature).softmax(1)


def fitted_temperature(probabilities: torch.Tensor, labels: np.ndarray) -> float:
    """Return the temperature with the least cross-entropy, from 0.05 to 20.

    Args:
        probabilities: [N, C], of items that the classifier was not trained on.
        labels: [N], from 0, of the same classes.
    """
    from scipy.optimize import minimize_scalar

    logs, at = probabilities.double().clamp_min(LEAST).log(), torch.from_numpy(np.asarray(labels))

    def loss(log_temperature: float) -> float:
        return float(torch.nn.functional.cross_entropy(logs / np.exp(log_temperature), at))

    found = minimize_scalar(loss, bounds=tuple(np.log(RANGE)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))
