"""Pruning scores on hand-made evidence."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from selfstudy.core.errors import DataError, UsageError
from selfstudy.data.image_sets import ImageSet, image_splits
from selfstudy.models.encoders.classifier import CLASS, ImageClassifier
from selfstudy.models.encoders.convolution import ConvEncoder
from selfstudy.models.encoders.perceptron import PerceptronEncoder
from selfstudy.signals.pruning_scores import (
    PRUNERS,
    Evidence,
    ForgettingCounter,
    checked,
    el2n,
    grand,
    herding,
    margin,
    memorisation,
    moderate,
    pruner,
)


def some(count: int = 20) -> ImageSet:
    return image_splits("digits")["train"].only(slice(count))


def test_el2n() -> None:
    """Oracle: sure and right is 0, sure and wrong the root of 2, even odds by hand; runs are averaged."""
    probabilities = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]])
    labels = torch.tensor([0, 0, 1])
    assert np.allclose(el2n(probabilities, labels), [0, 2**0.5, 0.5**0.5])
    swapped = probabilities.flip(1)
    both = el2n(torch.stack([probabilities, swapped]), labels)
    assert np.allclose(both, (el2n(probabilities, labels) + el2n(swapped, labels)) / 2)


def test_margin() -> None:
    """Oracle: the best other class less the label's, by hand; the doubtful ones are kept first."""
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.7, 0.2, 0.1], [0.4, 0.35, 0.25]])
    assert np.allclose(margin(probabilities, torch.tensor([0, 2, 0])), [-0.5, 0.6, -0.05])


def test_memorisation() -> None:
    """Oracle: a loop over images: the mean probability of the label over runs that saw it, less that over the
    others."""
    rng = np.random.default_rng(0)
    probabilities = torch.from_numpy(rng.dirichlet(np.ones(3), (4, 5)))
    labels, half = torch.tensor([0, 2, 1, 1, 0]), rng.random((2, 5)) < 0.5
    seen = np.concatenate([half, ~half])
    found = memorisation(probabilities, labels, seen)
    for at, label in enumerate(labels.tolist()):
        own = probabilities[:, at, label].numpy()
        assert found[at] == pytest.approx(own[seen[:, at]].mean() - own[~seen[:, at]].mean())


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_grand(kind: str) -> None:
    """Oracle: one backward pass an image, over all weights, in evaluation mode; the mean of two networks."""
    images = some(6)
    encoder: Any = PerceptronEncoder(hidden=6, layers=1) if kind == "mlp" else ConvEncoder(first=4, stages=2)
    made = encoder.made_for(images)
    networks = [ImageClassifier(made.copy(), images.classes, {CLASS: 10}, key=key << 4) for key in (1, 2)]
    wanted = np.zeros(6)
    for network in networks:
        for at in range(6):
            network.zero_grad()
            scores = network.eval()(images.pixels(slice(at, at + 1)))
            functional.cross_entropy(scores, torch.from_numpy(images.labels[at : at + 1])).backward()
            squares = [float(w.grad.square().sum()) for w in network.parameters() if w.grad is not None]
            wanted[at] += np.sqrt(sum(squares)) / 2
    assert np.allclose(grand(networks, images), wanted, rtol=1e-4)


def test_forgetting_of_a_history() -> None:
    """Oracle: right, wrong, right, wrong is forgotten twice; never right is infinity, always right 0."""
    counter = ForgettingCounter(3)
    for right in ([1, 0, 1], [0, 0, 1], [1, 0, 1], [0, 0, 1]):
        counter.see(np.arange(3), torch.tensor(right).bool())
    assert counter.scores.tolist() == [2, np.inf, 0]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from([None, True, False]), min_size=4, max_size=4), max_size=12))
def test_forgetting_of_any_history(history: list[list[bool | None]]) -> None:
    """Oracle: for each image alone, count right followed by wrong among the times it was seen; a state in
    between changes nothing."""
    counter = ForgettingCounter(4)
    for seen in history:
        at = np.array([place for place, right in enumerate(seen) if right is not None], dtype=np.int64)
        counter.see(at, torch.tensor([right for right in seen if right is not None]).bool())
        again = ForgettingCounter(4)
        again.load_state_dict(counter.state_dict())
        counter = again
    for place, score in enumerate(counter.scores):
        own = [bool(seen[place]) for seen in history if seen[place] is not None]
        drops = sum(a and not b for a, b in itertools.pairwise(own))
        assert score == (drops if any(own) else np.inf)


def test_herding_is_greedy() -> None:
    """Oracle: on a line the class means are 1 and 10; the turns by hand, class by class."""
    features = torch.tensor([[0.0], [1.0], [2.0], [10.0]])
    assert herding(features, torch.tensor([0, 0, 0, 1])).tolist() == [-1, 0, -2, 0]


def test_herding_comes_near_the_mean() -> None:
    """Oracle: means of the first few are nearer than those of the average random choice."""
    rng = np.random.default_rng(0)
    features = torch.from_numpy(rng.normal(size=(60, 5)))
    scores = herding(features, torch.zeros(60, dtype=torch.int64))
    mean, first = features.mean(0), np.argsort(-scores)[:6]
    others = [float((features[rng.permutation(60)[:6]].mean(0) - mean).norm()) for _ in range(50)]
    assert float((features[first].mean(0) - mean).norm()) < 0.5 * np.mean(others)


def test_moderate_is_at_the_median_distance() -> None:
    """Oracle: distances 3, 1, 0, 1, 3 from the centre of five points on a line; the median is 1."""
    features = torch.tensor([[-3.0], [-1.0], [0.0], [1.0], [3.0]])
    assert moderate(features, torch.zeros(5, dtype=torch.int64)).tolist() == [-2, 0, -1, 0, -2]


def test_random_scores_are_named() -> None:
    """Oracle: the same key gives the same scores, for the first images of a longer set too."""
    score = PRUNERS["random"].score
    long, short = (score(Evidence(some(count), key=7)) for count in (20, 8))
    assert long[:8].tolist() == short.tolist()
    assert score(Evidence(some(8), key=8)).tolist() != short.tolist()


def test_a_function_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a module in the current directory; unknown names are refused with the nearest."""
    (tmp_path / "pruner_of_a_test.py").write_text("def darkest(evidence):\n    return -evidence.labels\n")
    monkeypatch.chdir(tmp_path)
    own = pruner("pruner_of_a_test:darkest")
    assert own.needs == "short runs"
    assert np.array_equal(own.score(Evidence(some(4))), -some(4).labels)
    with pytest.raises(UsageError, match="el2n"):
        pruner("el2m")
    with pytest.raises(UsageError, match="no function"):
        pruner("pruner_of_a_test:brightest")


def test_scores_that_are_none_are_refused() -> None:
    """Oracle: another length, and not a number; infinity is fine."""
    assert checked([1, np.inf], 2, "own").tolist() == [1, np.inf]
    with pytest.raises(DataError, match="3 labelled images"):
        checked([1.0, 2.0], 3, "own")
    with pytest.raises(DataError, match="no number to 1 images, the first at 1"):
        checked([1.0, np.nan], 2, "own")
