"""Classifiers in stages: what starts where, what is kept of a stage, and what encoders read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from selfstudy.core.run import Run
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts, Vectors
from selfstudy.learning.network_inputs import FixedFeatures, can_be_trained, inputs_of
from selfstudy.learning.staged_classifier import one_hot, staged_classifier
from selfstudy.learning.stages import Stage, StageTraining
from selfstudy.models.encoders.convolution import ConvEncoder
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import MlpHead
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.small_bert import SmallBert
from selfstudy.models.encoders.words import WordEncoder

CLASSES = ("a", "b")
SAID = ("the parcel is late", "card was charged", "late parcel again", "the card is charged twice") * 3


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def pools() -> dict[str, tuple[Any, Any]]:
    """An encoder and twelve items of two classes, by kind."""
    random, nothing = np.random.default_rng(0), np.full(12, -1)
    places = np.arange(12)[:, None]
    vectors = Vectors(
        "v", (random.normal(size=(12, 3)) * 50 + 100 * (places % 2)).astype(np.float32), nothing
    )
    pixels = random.integers(0, 90, (12, 1, 8, 8)) + 120 * (places % 2)[:, :, None, None]
    images = ImageSet("i", pixels.astype(np.uint8), nothing)
    texts = Texts("t", SAID, nothing)
    return {
        "flat": (FlatEncoder().made_for(vectors), vectors),
        "pixels": (FlatEncoder().made_for(images), images),
        "conv": (ConvEncoder(first=4, stages=2).made_for(images), images),
        "words": (WordEncoder(width=4).made_for(texts), texts),
        "small-bert": (SmallBert(layers=1, width=16, heads=2, vocabulary=300).made_for(texts), texts),
    }


def classifier(encoder: Any, hidden: list[int]) -> FeatureClassifier:
    return FeatureClassifier(encoder, MlpHead(width=encoder.width, hidden=hidden, classes=2), CLASSES).eval()


def stage(name: str = "one", **fields: Any) -> Stage:
    plan = StageTraining(**{"steps": 30, "batch": 6, "learning_rate": 1e-2, **fields})
    return Stage(name, "one", np.arange(12), one_hot(np.arange(12) % 2, 2), plan)


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize("kind", ["flat", "pixels", "conv", "words", "small-bert"])
def test_every_kind_of_encoder_learns(kind: str, tmp_path: Path) -> None:
    """Oracle: two classes that are easily told; the start stays; what is told through the inputs is what the
    classifier says of the items by itself."""
    encoder, items = pools()[kind]
    whole = can_be_trained(encoder)
    assert whole == (kind in ("conv", "small-bert"))
    start = classifier(encoder, [] if whole else [32])
    with Run(tmp_path, {}) as run:
        stages = staged_classifier(run, start, items, whole=whole)
        before = weights(start)
        found = stages.trained(stage(), start)
        assert same(before, start.state_dict())
        assert same(before, found.state_dict()) is False
        told = stages.probabilities(found, np.arange(12))
    assert (told.argmax(1).numpy() == np.arange(12) % 2).all()
    assert torch.allclose(found.scores(items), told, atol=1e-5)
    moved = not same(weights(encoder), found.encoder.state_dict())
    assert moved == whole


def test_a_stage_is_read_back(tmp_path: Path) -> None:
    """Oracle: a run gone through twice trains once; of a frozen encoder nothing is written."""
    for kind, kept in (("words", False), ("conv", True)):
        encoder, items = pools()[kind]
        found = []
        for _ in range(2):
            with Run(tmp_path / kind, {}) as run:
                start = classifier(encoder, [8])
                stages = staged_classifier(run, start, items, whole=kept)
                found.append(weights(stages.trained(stage(), start)))
                assert run.meter.snapshot()["samples"] == 30 * 6
        assert same(*found)
        assert (tmp_path / kind / "stages" / "one" / "encoder").exists() == kept


def test_no_step_and_no_rate_change_nothing(tmp_path: Path) -> None:
    """Oracle: the start, bit by bit."""
    encoder, items = pools()["flat"]
    with Run(tmp_path, {}) as run:
        start = classifier(encoder, [8])
        stages = staged_classifier(run, start, items, whole=False)
        for name, fields in (("none", {"steps": 0}), ("still", {"learning_rate": 0.0})):
            assert same(start.state_dict(), stages.trained(stage(name, **fields), start).state_dict())


def test_features_are_standardised_but_not_pixels(tmp_path: Path) -> None:
    """Oracle: mean and deviation in NumPy; pixels are left as they are, a constant feature is not divided."""
    pools_ = pools()
    with Run(tmp_path, {}) as run:
        encoder, items = pools_["flat"]
        items.values[:, 2] = 7
        start = classifier(encoder, [8])
        staged_classifier(run, start, items, whole=False)
        assert np.allclose(start.head.mean, items.values.mean(0))
        assert np.allclose(start.head.deviation, [*items.values.std(0)[:2], 1.0])
        encoder, items = pools_["pixels"]
        start = classifier(encoder, [8])
        staged_classifier(run, start, items, whole=False)
        assert (start.head.mean == 0).all() and (start.head.deviation == 1).all()


def test_hidden_parts_of_inputs() -> None:
    """Oracle: about half of the numbers are 0 and the others as they were; half of the words are the hidden
    token, ends and padding never; drawn from torch's generator."""
    draw = torch.manual_seed
    values = torch.ones(200, 50)
    with torch.random.fork_rng():
        draw(0)
        found = FixedFeatures(values).features(None, np.arange(200), 0.5)
        assert set(found.unique().tolist()) == {0.0, 1.0} and abs(float(found.mean()) - 0.5) < 0.03
        encoder, items = pools()["small-bert"]
        seen = []
        kept, encoder.features = encoder.features, lambda tokens: seen.append(tokens)  # type: ignore[method-assign]
        inputs_of(encoder, items, whole=True).features(encoder, np.arange(12), 0.5)
        encoder.features = kept  # type: ignore[method-assign]
    tokens = encoder.tokens(SAID)
    words = (tokens.ids >= 5) & (tokens.mask > 0)
    hidden = seen[0].ids == encoder.hidden_token
    assert not hidden[~words].any() and 0.25 < float(hidden[words].float().mean()) < 0.75
    assert torch.equal(seen[0].ids[~hidden], tokens.ids[~hidden])
