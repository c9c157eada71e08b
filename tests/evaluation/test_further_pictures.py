"""Pictures of further pre-training: curves by round, and images with hidden patches told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfstudy.data.image_sets import ImageSet
from selfstudy.evaluation.further_pictures import curves_picture, rounds_pictures, told_rows
from selfstudy.evaluation.image_rows import image_row
from selfstudy.models.encoders.masked_decoder import MaskedAutoencoder

LINES = [
    {"stage": "teacher", "step": 0, "masked": 1.0, "distance": 0.0},
    {"stage": "teacher", "step": 1, "masked": 0.5},
    {"stage": "student-1", "step": 0, "masked": 0.9, "distance": 0.0},
]


def encoder() -> MaskedAutoencoder:
    return MaskedAutoencoder(channels=1, size=8, patch=2, hidden=8, layers=1, heads=2, decoder_hidden=8)


def test_a_curve_for_each_round() -> None:
    """Oracle: the logged figures by hand; lines without the figure are left out."""
    masked = curves_picture(LINES, ["teacher", "student-1"], "masked", "Loss", "")["traces"]
    assert [(trace["name"], trace["x"], trace["y"]) for trace in masked] == [
        ("teacher", [0, 1], [1.0, 0.5]),
        ("student-1", [0], [0.9]),
    ]
    assert curves_picture(LINES, ["teacher"], "distance", "", "")["traces"][0]["x"] == [0]


@pytest.mark.parametrize("normalised", [True, False])
def test_what_is_seen_stays_and_the_rest_is_told(normalised: bool) -> None:
    """Oracle: the first row is the images; in the second a quarter of the pixels is theirs and the rest grey;
    the third has those pixels too. A decoder that tells 0 gives each hidden patch its mean, or the grey of
    mean 0, which is black here."""
    model = encoder()
    with torch.no_grad():
        model.autoencoder.decoder.decoder_pred.weight.zero_()
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 0.4
    first, second, third = told_rows(model, images, ratio=0.75, normalised=normalised)
    assert np.abs(first.astype(int) - image_row((images * 255).byte().numpy()).astype(int)).max() <= 1
    inside = np.ones(first.shape[1], dtype=bool)
    inside[np.r_[8:10, 18:20, 28:30]] = False
    first, second, third = (row[:, inside, 0].astype(int) for row in (first, second, third))
    grey = second == 127
    assert (
        grey.mean() == 0.75 and (second[~grey] == first[~grey]).all() and (third[~grey] == first[~grey]).all()
    )
    means = first.reshape(4, 2, 12, 2).mean((1, 3)).repeat(2, 0).repeat(2, 1)
    expected = means if normalised else np.zeros_like(means)
    assert np.abs(third - expected)[grey].max() <= 1


def test_texts_have_no_images_to_show() -> None:
    """Oracle: two pictures without images, three with, of which each note names the true mean or does not."""
    models = {"teacher": encoder(), "student-1": encoder()}
    assert len(rounds_pictures(LINES, models, None, ratio=0.75, normalised=True)) == 2
    images = ImageSet("some", np.zeros((2, 1, 8, 8), np.uint8), np.full(2, -1))
    notes = [
        rounds_pictures(LINES, models, images, ratio=0.75, normalised=normalised)[2]["note"]
        for normalised in (True, False)
    ]
    assert "true ones" in notes[0] and "true ones" not in notes[1]
