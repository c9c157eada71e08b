"""Classifiers of images: their modes, what is saved, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.data.transformations import SETS, TransformSet, own_transformations
from selfstudy.models.encoders.classifier import CLASS, JOINT, ImageClassifier
from selfstudy.models.encoders.flops import forward_flops

NAMES = ("cat", "dog", "fox")
TURNS = SETS["rotation"]


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def images(count: int) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(1))


def classifier(*heads: str, transformed: TransformSet = TURNS, **options: object) -> ImageClassifier:
    encoder = selfstudy.model("conv?channels=1&size=8&first=4&stages=2").eval()
    outputs = {CLASS: 3, JOINT: 3 * len(transformed)}
    kept = {head: outputs[head] for head in heads}
    return ImageClassifier(encoder, NAMES, kept, transformed=transformed, key=7, **options).eval()  # type: ignore[arg-type]


def test_modes_by_hand() -> None:
    """Oracle: the heads' matrices on the features of each turn, one image and one turn at a time."""
    both, three = classifier(JOINT, CLASS), images(3)
    turned = [both.encoder.embed_pixels(torch.rot90(three, k, (2, 3))) for k in range(4)]
    joint, of_class = both.heads[JOINT], both.heads[CLASS]
    with torch.no_grad():
        tables = [joint(features).view(3, 3, 4) for features in turned]
        by_hand = {
            "single": tables[0][:, :, 0],
            "aggregate": sum(tables[k][:, :, k] for k in range(4)) / 4,
            "distilled": of_class(turned[0]),
        }
        plain = classifier(CLASS)
        averaged = sum(plain.heads[CLASS](features) for features in turned) / 4
    for mode, wanted in by_hand.items():
        assert torch.allclose(both.scores(three, mode), wanted, atol=1e-6)  # type: ignore[arg-type]
        assert torch.equal(both.classify(three, mode), wanted.argmax(1))  # type: ignore[arg-type]
    assert torch.allclose(plain.scores(three, "aggregate"), averaged, atol=1e-6)
    assert torch.allclose(plain.scores(three), plain.scores(three, "single"))


def test_batches_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: the same scores where the four copies of one image go through at once, and no more."""
    both, five = classifier(JOINT, CLASS), images(5)
    whole = both.scores(five, "aggregate")
    monkeypatch.setattr("selfstudy.models.encoders.classifier.LARGEST_BATCH", 4)
    sizes, embed = [], both.encoder.embed_pixels

    def noted(pixels: torch.Tensor) -> torch.Tensor:
        sizes.append(len(pixels))
        return embed(pixels)

    monkeypatch.setattr(both.encoder, "embed_pixels", noted)
    assert torch.allclose(both.scores(five, "aggregate"), whole, atol=1e-6)
    assert sizes == [4] * 5


def test_another_reading_shares_the_weights() -> None:
    """Oracle: the mode of the reading, the same storage, and the first classifier as it was."""
    both = classifier(JOINT, CLASS, mode="distilled")
    read = both.reading("aggregate")
    assert (both.mode, read.mode) == ("distilled", "aggregate")
    assert read.get_parameter("heads.joint.weight") is both.get_parameter("heads.joint.weight")
    assert torch.equal(read.classify(images(4)), both.classify(images(4), "aggregate"))
    crops = classifier(CLASS).reading("aggregate", SETS["crops"])
    assert crops.transformed.name == "crops"
    with pytest.raises(
        UsageError, match="knows the transformations 'rotation'; it cannot be read on 'crops'"
    ):
        both.reading("aggregate", SETS["crops"])


@pytest.mark.parametrize("heads", [(CLASS,), (JOINT,)])
def test_modes_that_are_not_there(heads: tuple[str, ...]) -> None:
    """Oracle: without both heads there is nothing distilled; the message lists what there is."""
    with pytest.raises(UsageError, match=r"'distilled' is none of this classifier.*single, aggregate"):
        classifier(*heads).classify(images(1), "distilled")
    with pytest.raises(UsageError, match="'best' is none"):
        classifier(*heads, mode="best")


def test_saved_and_read_back(tmp_path: Path) -> None:
    """Oracle: names, probabilities and features from the folder equal those before, in bytes."""
    both = classifier(JOINT, CLASS, mode="aggregate")
    both.save(tmp_path / "model")
    again = ImageClassifier.load(tmp_path / "model")
    pictures = (images(6)[:, 0].numpy() * 255).astype(np.uint8)
    assert again.predict(pictures).tolist() == both.predict(pictures).tolist()
    assert set(both.predict(pictures)) <= set(NAMES)
    assert np.array_equal(again.probabilities(pictures), both.probabilities(pictures))
    assert np.allclose(both.probabilities(pictures).sum(1), 1)
    assert np.array_equal(again.embed(pictures), both.encoder.embed(pictures))
    assert not list((tmp_path / "model").rglob("*.p*"))


def test_own_transformations_are_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Oracle: a set that is not in `SETS` is named in the refusal; with it there, scores are the same."""
    mirrors = own_transformations("mirrors", [("as is", lambda x: x), ("mirror", lambda x: x.flip(3))])
    made = classifier(JOINT, transformed=mirrors, mode="aggregate")
    made.save(tmp_path / "model")
    with pytest.raises(UsageError, match="no set of transformations 'mirrors'"):
        ImageClassifier.load(tmp_path / "model")
    monkeypatch.setitem(SETS, "mirrors", mirrors)
    again = ImageClassifier.load(tmp_path / "model")
    assert torch.equal(again.scores(images(3)), made.scores(images(3)))


def test_a_copy_has_weights_of_its_own() -> None:
    """Oracle: a changed copy leaves the first as it was."""
    first = classifier(CLASS)
    before, copied = first.scores(images(2)), first.copy()
    with torch.no_grad():
        copied.get_parameter("heads.class.weight").add_(1)
    assert torch.equal(first.scores(images(2)), before) and not torch.equal(copied.scores(images(2)), before)


def test_operations_are_counted() -> None:
    """Oracle: two operations a multiplication of two 3 x 3 convolutions: 9 * 1 * 4 * 64 + 9 * 4 * 8 * 16."""
    encoder = selfstudy.model("conv?channels=1&size=8&first=4&stages=2")
    encoder.train()
    assert forward_flops(encoder) == 2 * (9 * 1 * 4 * 64 + 9 * 4 * 8 * 16)
    assert forward_flops(encoder, 4) == forward_flops(encoder) / 4
    assert encoder.training
