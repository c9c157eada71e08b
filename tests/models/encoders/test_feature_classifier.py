"""Classifiers of an encoder and a head: what they say, and that they are read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from selfstudy.core.errors import MachineError
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts, Vectors
from selfstudy.models.encoders.convolution import ConvEncoder
from selfstudy.models.encoders.feature_classifier import FeatureClassifier
from selfstudy.models.encoders.feature_heads import LinearHead
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.words import WordEncoder

NOTHING = np.full(5, -1)
VECTORS = Vectors("v", np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32), NOTHING)
TEXTS = Texts("t", ("late parcel", "card charged", "late card", "a box", "box late"), NOTHING)
IMAGES = ImageSet("i", np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), np.uint8), NOTHING, ())


def classifier(
    encoder: object, items: object, classes: tuple[str, ...] = ("a", "b", "c")
) -> FeatureClassifier:
    made = encoder.made_for(items)  # type: ignore[attr-defined]
    head = LinearHead(width=made.width, classes=len(classes))
    torch.manual_seed(1)
    torch.nn.init.normal_(head.linear.weight)
    head.mean, head.deviation = torch.rand(made.width), 1 + torch.rand(made.width)
    return FeatureClassifier(made, head, ("a", "b", "c"))


KINDS = {
    "vectors": (FlatEncoder(), VECTORS, VECTORS.values),
    "texts": (WordEncoder(width=3, buckets=64), TEXTS, list(TEXTS.texts)),
    "images": (ConvEncoder(), IMAGES, IMAGES.images[:, 0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_are_of_the_head_on_the_features(kind: str) -> None:
    """Oracle: softmax(W (f - mean) / deviation + b) of the encoder's own features; also of raw inputs."""
    encoder, items, raw = KINDS[kind]
    made = classifier(encoder, items)
    features = torch.from_numpy(made.encoder.embed(raw))
    head = made.head
    expected = (((features - head.mean) / head.deviation) @ head.linear.weight.T + head.linear.bias).softmax(
        1
    )
    assert torch.allclose(made.scores(items), expected, atol=1e-5)
    assert np.allclose(made.probabilities(raw), expected.detach().numpy(), atol=1e-5)
    assert made.classify(items).tolist() == expected.argmax(1).tolist()
    assert made.predict(raw).tolist() == [made.classes[code] for code in expected.argmax(1)]
    assert np.array_equal(made.embed(raw), features.numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_and_loaded(kind: str, tmp_path: Path) -> None:
    """Oracle: probabilities and classes, bit for bit."""
    encoder, items, raw = KINDS[kind]
    made = classifier(encoder, items)
    made.save(tmp_path / "saved")
    again = FeatureClassifier.load(tmp_path / "saved")
    assert np.array_equal(made.probabilities(raw), again.probabilities(raw)) and again.classes == made.classes
    assert again.name == made.name and again.made_for(items) is again


def test_a_copy_has_weights_of_its_own() -> None:
    """Oracle: what the original says after the copy was changed."""
    made = classifier(FlatEncoder(), VECTORS)
    expected = made.scores(VECTORS)
    copied = made.copy()
    with torch.no_grad():
        copied.head.linear.weight.zero_()
    assert torch.equal(made.scores(VECTORS), expected) and not torch.equal(copied.scores(VECTORS), expected)


def test_a_damaged_folder_is_told(tmp_path: Path) -> None:
    """Oracle: the missing file's name; a class that is not ours is not imported."""
    classifier(FlatEncoder(), VECTORS).save(tmp_path)
    said = (tmp_path / "classifier.json").read_text()
    (tmp_path / "classifier.json").write_text(said.replace("selfstudy.models.encoders.flat", "elsewhere"))
    with pytest.raises(MachineError, match="'elsewhere:FlatEncoder', which is not ours"):
        FeatureClassifier.load(tmp_path)
    (tmp_path / "classifier.json").unlink()
    with pytest.raises(MachineError, match=r"classifier\.json is missing"):
        FeatureClassifier.load(tmp_path)
