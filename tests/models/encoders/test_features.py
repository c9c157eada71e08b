"""Features of whole pools: computed once, kept on disk by what encoder and inputs hold."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from selfstudy.core.errors import DataError
from selfstudy.data.items import Texts, Vectors
from selfstudy.models.encoders import features
from selfstudy.models.encoders.features import encoder_fingerprint, features_of
from selfstudy.models.encoders.flat import FlatEncoder
from selfstudy.models.encoders.text_base import TextEncoder

TEXTS = Texts("t", ("a", "bb", "ccc"), np.full(3, -1), ())


class Counter(TextEncoder):
    """Tells the length of texts times its one weight, and counts how often it is asked."""

    kind: ClassVar[str] = "counter"
    asked = 0

    def __init__(self, *, scale: float = 1.0) -> None:
        super().__init__(scale=scale)
        self.width = 1
        self.scale = torch.nn.Parameter(torch.full((1,), scale))

    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        Counter.asked += 1
        return torch.tensor([[float(len(text))] for text in texts]) * self.scale.detach()


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every encoder's features are kept, in a folder of the test's own."""
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path))
    monkeypatch.setattr(features, "KEPT_FROM", 1)
    Counter.asked = 0
    return tmp_path / "features"


def test_features_are_kept_by_weights_and_inputs() -> None:
    """Oracle: how often the encoder is asked; the name of a set and its labels are no inputs."""
    first = features_of(Counter(scale=2.0), TEXTS)
    assert first.flatten().tolist() == [2.0, 4.0, 6.0] and Counter.asked == 1
    again = Texts("other name", TEXTS.texts, np.arange(3), ("x", "y", "z"))
    assert torch.equal(features_of(Counter(scale=2.0), again), first) and Counter.asked == 1
    changed = Counter(scale=2.0)
    with torch.no_grad():
        changed.scale.add_(1)
    assert features_of(changed, TEXTS).flatten().tolist() == [3.0, 6.0, 9.0] and Counter.asked == 2
    for texts in (("a", "bb", "cccc"), ("a", "bb"), ("bb", "a", "ccc"), ("a", "b", "bccc")):
        found = features_of(Counter(), Texts("t", texts, np.full(len(texts), -1)))
        assert found.flatten().tolist() == [float(len(text)) for text in texts]
    assert Counter.asked == 6


def test_small_encoders_are_not_worth_it(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Oracle: no file."""
    monkeypatch.setattr(features, "KEPT_FROM", 2)
    features_of(Counter(), TEXTS)
    features_of(Counter(), TEXTS)
    assert Counter.asked == 2 and not cache.exists()


def test_a_classifier_has_the_features_of_its_encoder() -> None:
    """Oracle: those of the encoder alone."""

    class Classifier:
        encoder = Counter()

    assert torch.equal(features_of(Classifier(), TEXTS), features_of(Counter(), TEXTS))


@pytest.mark.parametrize("damage", [b"", b"not tensors", None])
def test_a_damaged_file_is_computed_again(damage: bytes | None, cache: Path) -> None:
    """Oracle: the features; what a killed process leaves has another name, and is not read."""
    expected = features_of(Counter(), TEXTS)
    (file,) = cache.iterdir()
    if damage is None:
        half = file.read_bytes()[:20]
        file.rename(file.with_name(f".{file.name}.123.tmp"))
        (cache / f".{file.name}.123.tmp").write_bytes(half)
    else:
        file.write_bytes(damage)
    assert torch.equal(features_of(Counter(), TEXTS), expected) and Counter.asked == 2
    assert torch.equal(features_of(Counter(), TEXTS), expected) and Counter.asked == 2


def test_the_cache_stays_within_its_size(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Oracle: three files fit; the one that was not read for the longest goes."""
    sets = [Texts("t", (letter,), np.full(1, -1)) for letter in ("a", "bb", "ccc", "dddd")]
    files = []
    for age, items in enumerate(sets[:3]):
        features_of(Counter(), items)
        (new,) = set(cache.iterdir()) - set(files)
        files.append(new)
        os.utime(new, (1000 + age, 1000 + age))
    features_of(Counter(), sets[0])  # read again, so that the second is the oldest
    monkeypatch.setattr(features, "KEPT_BYTES", 3 * files[0].stat().st_size)
    features_of(Counter(), sets[3])
    assert [file.exists() for file in files] == [True, False, True] and len(list(cache.iterdir())) == 3
    monkeypatch.setattr(features, "KEPT_BYTES", 0)
    features_of(Counter(), sets[1])
    assert len(list(cache.iterdir())) == 1, "what was just written stays"


def test_a_folder_that_cannot_be_written_is_no_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Oracle: the features, and a note."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SELFSTUDY_CACHE", str(tmp_path / "file"))
    assert features_of(Counter(), TEXTS).flatten().tolist() == [1.0, 2.0, 3.0]
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "Features are not kept for the next time"
    ]


def test_features_that_are_no_numbers_are_refused(cache: Path) -> None:
    """Oracle: the rows in the message; nothing is kept."""
    encoder: Any = Counter(scale=float("nan"))
    with pytest.raises(DataError, match="3 of the 3 features of t are not finite numbers: rows 0, 1, 2"):
        features_of(encoder, TEXTS)
    assert not cache.exists()


def test_vectors_are_their_own_features() -> None:
    """Oracle: the vectors; encoders of another configuration have another fingerprint."""
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    assert np.array_equal(features_of(FlatEncoder(), Vectors("v", values, np.full(3, -1))).numpy(), values)
    assert encoder_fingerprint(FlatEncoder(width=2)) != encoder_fingerprint(FlatEncoder(width=3))
