"""Baselines of episodes against scikit-learn, episode by episode."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from selfstudy.evaluation.episode_baselines import logistic, self_trained, spread_labels


@pytest.fixture
def episodes() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Support [4, 6, 5], targets [6, 3], queries [4, 30, 5] and their labels, of length 1."""
    rng = torch.Generator().manual_seed(0)
    centres = torch.randn(4, 3, 5, generator=rng)
    labels, asked = torch.arange(3).repeat_interleave(2), torch.arange(30) % 3
    support = centres[:, labels] + 0.5 * torch.randn(4, 6, 5, generator=rng)
    queries = centres[:, asked] + 0.5 * torch.randn(4, 30, 5, generator=rng)
    scaled = (functional.normalize(part, dim=-1) for part in (support, queries))
    first, second = scaled
    return first, functional.one_hot(labels).float(), second, asked


@pytest.mark.parametrize("penalty", [1.0, 0.1, 0.01])
def test_logistic_regression(penalty: float, episodes) -> None:
    """Oracle: scikit-learn's, with the inverse penalty, weighted and not; a weak penalty ends 0.02 short."""
    from sklearn.linear_model import LogisticRegression

    support, targets, queries, _ = episodes
    weights = torch.rand(4, 6, generator=torch.Generator().manual_seed(1)) + 0.5
    for given in (None, weights):
        found = logistic(support, targets, queries, penalty=penalty, weights=given).exp()
        for place in range(4):
            fitted = LogisticRegression(C=1 / penalty, max_iter=1000, tol=1e-8).fit(
                support[place].numpy(),
                targets.argmax(1).numpy(),
                sample_weight=None if given is None else given[place].numpy(),
            )
            wanted = fitted.predict_proba(queries[place].numpy())
            np.testing.assert_allclose(found[place].numpy(), wanted, atol=0.03)


def test_spread_labels(episodes) -> None:
    """Oracle: scikit-learn's LabelSpreading iterated to its fixed point, on the same graph."""
    from sklearn.semi_supervised import LabelSpreading

    from selfstudy.signals.affinity import affinity

    support, targets, queries, _ = episodes
    found = spread_labels(support, targets, queries, neighbours=4, alpha=0.8)
    known = np.concatenate([targets.argmax(1).numpy(), np.full(30, -1)])
    for place in range(4):
        items = torch.cat([support[place], queries[place]])
        graph = affinity(items[None], 4).among[0].numpy()
        spread = LabelSpreading(kernel=lambda a, b, g=graph: g, alpha=0.8, max_iter=5000, tol=1e-10)
        spread.fit(items.numpy(), known)
        wanted = spread.label_distributions_[6:]
        mine = (found[place] / found[place].sum(1, keepdim=True)).numpy()
        np.testing.assert_allclose(mine, wanted, atol=1e-4)


def test_self_training(episodes) -> None:
    """Oracle: its rounds in loops over episodes, classes and queries, on the same regression."""
    support, targets, queries, truth = episodes
    found = self_trained(support, targets, queries, penalty=0.1)
    for place in range(4):
        s, q = support[place : place + 1], queries[place : place + 1]
        scores = logistic(s, targets, q, penalty=0.1)[0]
        for turn in range(1, 5):
            told, sure = scores.argmax(1), scores.max(1).values
            taken: list[int] = []
            for label in range(3):
                mine = [int(i) for i in (told == label).nonzero()[:, 0]]
                mine.sort(key=lambda i: -float(sure[i]))
                taken += mine[: int(np.ceil(len(mine) * turn / 4))]
            items = torch.cat([s[0], q[0, taken]])[None]
            known = torch.cat([targets, functional.one_hot(told[taken], 3).float()])[None]
            scores = logistic(items, known, q, penalty=0.1)[0]
        torch.testing.assert_close(found[place], scores, atol=2e-3, rtol=0)
    assert (found.argmax(-1) == truth).float().mean() > 0.6
