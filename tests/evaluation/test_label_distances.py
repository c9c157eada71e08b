"""What predictions cost where labels have distances."""

from __future__ import annotations

import math

import numpy as np
import torch

from selfstudy.evaluation.label_distances import (
    ARGMAX,
    FITTED,
    LOKI,
    MEDIAN,
    MEDOID,
    RESTRICTED,
    compared_rules,
    label_costs,
)
from selfstudy.models.labels.building import embedding_space

LINE = embedding_space(np.arange(7.0)[:, None])


def test_costs() -> None:
    """Oracle: squares of differences, shares counted by hand; nan where all labels were observed."""
    truth, told = np.array([0, 3, 6, 5]), np.array([0, 5, 5, 5])
    found = label_costs(LINE, truth, torch.from_numpy(told), np.array([0, 6]))
    assert found.squared.tolist() == [0, 4, 1, 0]
    assert found.accuracy == 0.5 and found.unseen_accuracy == 0.5
    assert math.isnan(label_costs(LINE, truth, told, np.arange(7)).unseen_accuracy)


def test_ways_to_predict() -> None:
    """Oracle: 0, 4 and 6 are observed with p = (0.45, 0.4, 0.15). By hand: 0 is the most probable; of them 4
    costs least, 7.8; all told 2 and 3 cost 5.8 each, the lower is taken; the median is 4, for 2.1."""
    p = torch.tensor([[0.45, 0.4, 0.15]], dtype=torch.float64)
    found = compared_rules(LINE, np.array([0, 4, 6]), p, np.array([2]), fitted=0.001)
    told = {way: math.sqrt(costs.squared[0]) for way, costs in found.items()}
    assert told == {
        ARGMAX: 2,
        RESTRICTED: 2,
        LOKI: 0,
        MEDIAN: 2,
        MEDOID: 1,
        FITTED: 2,
    }
    assert FITTED not in compared_rules(LINE, np.array([0, 4, 6]), p, np.array([2]))


def test_loki_costs_least_where_probabilities_are_true() -> None:
    """Oracle: labels drawn from the probabilities themselves; no rule can then be cheaper on average."""
    random = np.random.default_rng(0)
    observed = np.array([0, 2, 6])
    p = random.dirichlet(np.ones(3), 4000)
    truth = observed[(p.cumsum(1) > random.random((4000, 1))).argmax(1)]
    mean = {
        way: costs.squared.mean()
        for way, costs in compared_rules(LINE, observed, torch.from_numpy(p), truth).items()
    }
    assert min(mean, key=mean.__getitem__) == LOKI and mean[LOKI] < mean[RESTRICTED] < mean[ARGMAX]
