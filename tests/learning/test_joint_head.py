"""A head that labels a batch together, and the choice of its settings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from selfstudy.core.budget import Budget, Meter
from selfstudy.core.errors import BudgetSpent
from selfstudy.learning.joint_head import JointHead, joint_head
from selfstudy.learning.transduction import Transduction, class_means, graph_of, transduce, transformed
from selfstudy.learning.transduction_tuning import SHARPNESS, SMOOTHNESS, Grid, grid_on_halves, halves


def made(settings: Transduction) -> tuple[JointHead, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(40, 5, generator=rng)
    centre = features.mean(0)
    ready = transformed(features, settings.transform, centre)
    targets = functional.one_hot(torch.arange(6) % 3).float()
    return joint_head(class_means(ready[:6], targets), centre, ready[:6], targets, settings), features[6:]


@pytest.mark.parametrize("edges", [True, False])
def test_a_batch_is_labelled_together(edges: bool, tmp_path: Path) -> None:
    """Oracle: `transduce` with prototypes that stay; a saved head says the same."""
    settings = Transduction(support_edges=edges, smoothness=0.7, sharpness=4.0)
    head, asked = made(settings)
    queries = transformed(asked, "centred", head.centre)
    fixed = Transduction(support_edges=edges, smoothness=0.7, sharpness=4.0, prototypes="fixed")
    support = head.support if edges else queries[:0]
    targets = head.targets if edges else queries.new_zeros(0, 3)
    graph = graph_of(queries, support, fixed)
    wanted = transduce(support, targets, queries, fixed, graph=graph, start=head.prototypes).assignments
    torch.testing.assert_close(head(asked).softmax(1), wanted)
    head.save(tmp_path)
    assert torch.equal(JointHead.load(tmp_path)(asked), head(asked))
    assert len(head.support) == (6 if edges else 0)


def test_one_item_alone_is_of_the_nearest_prototype() -> None:
    """Oracle: distances to the prototypes; in a batch some item follows its neighbours."""
    head, asked = made(Transduction(smoothness=3.0, sharpness=2.0))
    queries = transformed(asked, "centred", head.centre)
    nearest = torch.cdist(queries, head.prototypes).argmin(1)
    alone = torch.cat([head(one[None]).argmax(1) for one in asked])
    assert torch.equal(alone, nearest) and not torch.equal(head(asked).argmax(1), nearest)


def test_halves() -> None:
    """Oracle: counts: of 5, 2 and 1 labels of a class 3, 1 and 1 stay; of one each none is held out."""
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    kept = halves(labels, np.random.default_rng(0))
    assert kept is not None and np.bincount(labels[kept]).tolist() == [3, 1, 1]
    assert halves(np.arange(4), np.random.default_rng(0)) is None
    others = [halves(labels, np.random.default_rng(seed)) for seed in range(5)]
    assert len({str(one) for one in others}) > 1


def test_of_equal_settings_the_usual_ones() -> None:
    """Oracle: a grid by hand: the best alone wins; of equals the nearest to the usual pair."""
    right = torch.full((4, 8), 0.5)
    assert Grid(SMOOTHNESS, SHARPNESS, right).best(Transduction(smoothness=0.9, sharpness=6.0)) == (0.8, 5.0)
    right[3, 0] = 0.6
    assert Grid(SMOOTHNESS, SHARPNESS, right).best(Transduction()) == (0.1, 20.0)


def test_the_grid_is_counted_pair_by_pair() -> None:
    """Oracle: each pair by itself: held-out items told right beside unlabelled ones; queries by rounds are
    charged, and a budget that ends within the grid gives nothing."""
    rng = torch.Generator().manual_seed(2)
    items = functional.normalize(torch.randn(30, 4, generator=rng), dim=1)
    labels, settings = np.arange(12) % 3, Transduction(rounds=2)
    kept = halves(labels, np.random.default_rng(1))
    assert kept is not None
    meter = Meter()
    grid = grid_on_halves(items[:12], labels, items[12:], 3, settings, [kept], meter=meter)
    queries = torch.cat([items[:12][~kept], items[12:]])
    targets = functional.one_hot(torch.from_numpy(labels[kept]), 3).float()
    known = items[:12][kept]
    for row, sharpness in enumerate(SHARPNESS):
        for column, smoothness in enumerate(SMOOTHNESS):
            own = Transduction(rounds=2, sharpness=sharpness, smoothness=smoothness)
            found = transduce(known, targets, queries, own, graph=graph_of(queries, known, own))
            right = (found.labels[:6].numpy() == labels[~kept]).mean()
            assert grid.right[row, column] == right
    assert meter.snapshot()["samples"] == 24 * 8 * 4 * 2
    with pytest.raises(BudgetSpent):
        grid_on_halves(
            items[:12], labels, items[12:], 3, settings, [kept], meter=Meter(Budget(samples=24 * 8 * 7))
        )
