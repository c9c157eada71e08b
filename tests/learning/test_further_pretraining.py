"""Further pre-training: what it costs, whose weights are kept, which models have been trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import ImageSet
from selfstudy.data.items import Texts
from selfstudy.data.views import ImageViews
from selfstudy.learning.further_pretraining import domain_of, further_cost, has_first_weights, trunk
from selfstudy.learning.masked_images import masked_flops
from selfstudy.models.encoders.flops import forward_flops
from selfstudy.models.encoders.masked_decoder import MaskedAutoencoder
from selfstudy.models.encoders.small_bert import SmallBert

IMAGES = ImageSet(
    "noise", np.random.default_rng(0).integers(0, 255, (12, 1, 8, 8)).astype(np.uint8), np.full(12, -1)
)
TEXTS = Texts("pairs", ("red blue", "one two") * 4, np.zeros(8, dtype=np.int64))


def encoder() -> MaskedAutoencoder:
    return MaskedAutoencoder(channels=1, size=8, patch=2, hidden=8, layers=1, heads=2, decoder_hidden=8)


def bert() -> SmallBert:
    return SmallBert(layers=1, width=8, heads=2, vocabulary=300, dropout=0.0).made_for(TEXTS)


def test_what_a_step_costs() -> None:
    """Oracle: three masked passes an image; distilled, four whole ones more: three of the student, one of the
    teacher. Of texts the samples alone."""
    model = encoder()
    masked, whole = masked_flops(model, 0.75), forward_flops(model)
    assert further_cost(model, 5, 0.75, distilled=False) == {"samples": 5, "flops": 5 * 3 * masked}
    assert further_cost(model, 5, 0.75, distilled=True) == {
        "samples": 5,
        "flops": 5 * (3 * masked + 4 * whole),
    }
    assert further_cost(bert(), 5, 0.75, distilled=True) == {"samples": 5}


def test_what_is_kept_and_what_has_been_trained() -> None:
    """Oracle: the names of the weights; a change of one weight."""
    model, words = encoder(), bert()
    assert not any("decoder" in name for name, _ in trunk(model).named_parameters())
    assert trunk(words) is words.network.bert
    for one in (model, words):
        assert has_first_weights(one)
        with torch.no_grad():
            next(weight for weight in one.parameters() if weight.requires_grad).add_(1)
        assert not has_first_weights(one)


def test_the_inputs_of_a_step_depend_on_its_key() -> None:
    """Oracle: the same key gives the same views; another one gives others; without views the images."""
    how = {"ratio": 0.75, "normalised": True, "pooling": "cls"}
    shifted = ImageViews(crop=(1.0, 1.0), shift=0.2, jitter=0.0, grey=0.0)
    still = ImageViews(crop=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0)
    at = np.array([1, 4])
    domain = domain_of(IMAGES, encoder(), views=shifted, **how)  # type: ignore[arg-type]
    assert torch.equal(domain.inputs(1, at), domain.inputs(1, at))
    assert not torch.equal(domain.inputs(1, at), domain.inputs(2, at))
    plain = domain_of(IMAGES, encoder(), views=still, **how)  # type: ignore[arg-type]
    assert torch.equal(plain.inputs(1, at), IMAGES.pixels(at)) and plain.samples == 12


@pytest.mark.parametrize("swapped", [False, True])
def test_another_kind_of_model_is_refused(swapped: bool) -> None:
    """Oracle: a model of texts for images, and of images for texts: the names of models that can."""
    items, model = (TEXTS, encoder()) if swapped else (IMAGES, bert())
    with pytest.raises(UsageError, match="small-bert, and mlm:ID"):
        domain_of(items, model, views=ImageViews(), ratio=0.75, normalised=True, pooling="cls")
