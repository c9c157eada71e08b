"""Networks for noisy labels: which parts they share, how they start, and what is left of them in the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

import selfstudy
from selfstudy.core.random import stream_key
from selfstudy.core.run import Run
from selfstudy.data.image_sets import image_splits
from selfstudy.data.views import ImageViews, view_keys
from selfstudy.learning.contrastive import nt_xent
from selfstudy.learning.noisy_networks import (
    PROJECTION,
    feature_learner,
    image_learner,
    projected,
    simclr,
    standardised,
    without_projection,
)
from selfstudy.learning.pretraining import Pretraining

IMAGES = replace(image_splits("digits")["train"].only(slice(64)), classes=tuple("0123456789"))
NAMES = ("a", "b", "c")


def start() -> object:
    encoder = selfstudy.model("conv?first=4&stages=2").made_for(IMAGES)
    return projected(encoder, NAMES, 6, key=5)


def test_the_start_trains_encoder_and_projection(tmp_path: Path) -> None:
    """Oracle: NT-Xent on the two views of the first batch, from the log; the class head stays."""
    classifier = start()
    fresh, views = classifier.copy().train(), ImageViews()
    settings = Pretraining(epochs=2, batch=32)
    with Run(tmp_path / "run", {}) as run:
        simclr(run, classifier, IMAGES, views, settings, 0.2)
        first, samples = run.metrics()[0]["loss"], run.meter.snapshot()["samples"]
        at = run.rng("simclr", "order", 0).permutation(64)[:32]
        both = [views(IMAGES.pixels(at), view_keys(run.key("view", which, 0), at)) for which in (1, 2)]
    embedded = fresh(torch.cat(both), PROJECTION).chunk(2)
    assert abs(nt_xent(*embedded, 0.2).item() - first) < 1e-5 and samples == 2 * 64
    moved = {
        name
        for name, value in classifier.state_dict().items()
        if not torch.equal(value, start().state_dict()[name])
    }
    assert any(name.startswith("encoder") for name in moved) and "heads.projection.weight" in moved
    assert not any(name.startswith("heads.class") for name in moved)


def test_two_learners_of_one_start() -> None:
    """Oracle: the same encoder and projection; another class head where a key is given; no shared weights."""
    given = start()
    first, second = image_learner(given, "stage1"), image_learner(given, "", key=9)
    one, other = first.classifier.state_dict(), second.classifier.state_dict()
    differing = {name for name in one if not torch.equal(one[name], other[name])}
    assert differing == {"heads.class.weight", "heads.class.bias"}
    images = IMAGES.pixels(slice(4))
    before = given(images).detach()
    with torch.no_grad():
        first.network.body.network[0].weight.zero_()
    assert torch.equal(given(images), before)
    assert torch.equal(first.network.eval()(images), first.classifier.eval()(images))


def test_the_projection_is_thrown_away() -> None:
    """Oracle: the same classes with the class head alone."""
    given = start()
    bare = without_projection(given)
    images = IMAGES.pixels(slice(8))
    assert set(bare.heads) == {"class"} and torch.equal(bare.scores(images), given.scores(images))


def test_a_perceptron_takes_standardised_features() -> None:
    """Oracle: the classifier on raw features is the network on standardised ones; constant features stay."""
    raw = torch.randn(30, 5, generator=torch.Generator().manual_seed(0)) * 7 + 3
    raw[:, 2] = 4.0
    inputs, mean, deviation = standardised(raw)
    assert torch.allclose(inputs.mean(0), torch.zeros(5), atol=1e-6) and not inputs[:, 2].any()
    assert torch.allclose(inputs.std(0, correction=0)[[0, 1, 3, 4]], torch.ones(4), atol=1e-5)
    encoder = selfstudy.model("flat?width=5")
    learner = feature_learner(encoder, NAMES, (mean, deviation), (8, 6), 4, "", stream_key)
    wanted = learner.network(inputs).softmax(1)
    assert torch.allclose(learner.classifier.scores_of(raw), wanted, atol=1e-5)
    looks = [
        feature_learner(encoder, NAMES, (mean, deviation), (8, 6), 4, stage, stream_key)
        .network.looked(lambda at: inputs[at], 30)
        .features.shape[1]
        for stage in ("stage1", "stage2", "")
    ]
    assert looks == [8, 6, 6]
