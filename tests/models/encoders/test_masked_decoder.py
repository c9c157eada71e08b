"""Masked autoencoders: that of transformers with patches of our choice, features with nothing hidden."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.data.image_sets import ImageSet
from selfstudy.models.encoders.masked_backbones import MaskedBackbone
from selfstudy.models.encoders.masked_decoder import MaskedAutoencoder
from selfstudy.models.language.model import no_bars

SMALL: dict[str, Any] = {
    "channels": 1,
    "size": 8,
    "patch": 2,
    "hidden": 8,
    "layers": 2,
    "heads": 2,
    "decoder_hidden": 8,
}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def images(count: int = 3, side: int = 8) -> torch.Tensor:
    return torch.rand(count, 1, side, side, generator=torch.Generator().manual_seed(1))


def test_hidden_patches_are_told_as_by_transformers() -> None:
    """Oracle: the logits of transformers' own forward pass, whose noise keeps the same patches."""
    model = MaskedAutoencoder(**SMALL).eval()
    inputs, noise = model.seen(images()), torch.rand(3, 16, generator=torch.Generator().manual_seed(2))
    kept = noise.argsort(1)[:, :4]
    with torch.no_grad():
        expected = model.autoencoder(inputs, noise=noise)
        found = model.told(model.tokens(inputs, kept), kept)
        shuffled = model.told(model.tokens(inputs, kept.flip(1)), kept.flip(1))
    assert torch.allclose(found, expected.logits, atol=1e-6)
    assert torch.allclose(shuffled, found, atol=1e-5), "patches go back to their places in any order"


def test_features_hide_nothing() -> None:
    """Oracle: the state of [CLS] in a pass of transformers that keeps all patches in their order."""
    model = MaskedAutoencoder(**SMALL).eval()
    model.autoencoder.config.mask_ratio = 0.0
    with torch.no_grad():
        order = torch.arange(16.0).expand(3, -1)
        expected = model.autoencoder.vit(model.seen(images()), noise=order).last_hidden_state
        torch.manual_seed(5)
        state = torch.get_rng_state()
        first = model.features(images())
        assert torch.equal(state, torch.get_rng_state()), "no random number is drawn"
        assert torch.equal(first, model.features(images()))
        mean = MaskedAutoencoder(**{**SMALL, "features": "mean"}).eval().features(images())
    assert torch.allclose(first, expected[:, 0], atol=1e-6)
    assert torch.allclose(mean, expected[:, 1:].mean(1), atol=1e-6)


def test_patches_have_places_in_a_new_network() -> None:
    """Oracle: the formula of fixed positions; transformers 5 leaves them at zero. Exchanging two patches of
    an image changes the mean of its features, which without places it would not."""
    model = MaskedAutoencoder(**SMALL).eval()
    angle = 3.0  # of row or column 3, at the first frequency, which is 1
    for place in (
        model.autoencoder.vit.embeddings.position_embeddings,
        model.autoencoder.decoder.decoder_pos_embed,
    ):
        assert not place.requires_grad and place.shape == (1, 17, 8) and not place[0, 0].any()
        assert torch.allclose(place[0, 1 + 3, [0, 2]], torch.tensor([np.sin(angle), np.cos(angle)]).float())
    other = images().clone()
    other[:, :, :2, :2], other[:, :, 4:6, 4:6] = images()[:, :, 4:6, 4:6], images()[:, :, :2, :2]
    with torch.no_grad():
        assert not torch.allclose(model.features(images()), model.features(other), atol=1e-3)


def test_a_saved_model_has_its_decoder(tmp_path: Path) -> None:
    """Oracle: all weights, and what is told of hidden patches."""
    model = MaskedAutoencoder(**SMALL, seed=3).eval()
    model.save(tmp_path)
    loaded = selfstudy.model(str(tmp_path)).eval()
    assert all(map(torch.equal, model.state_dict().values(), loaded.state_dict().values()))
    assert list(loaded.stages) == ["stage1", "stage2"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("size=30", "28 or 32 pixels"),
        ("size=3&patch=4", "to 4 pixels"),
        ("hidden=10&heads=2", "multiple of 4"),
        ("decoder_hidden=6&heads=3", "decoder_hidden 6"),
        ("features=pooled", "cls or mean"),
    ],
)
def test_what_is_refused(fields: str, message: str) -> None:
    """Oracle: the nearest sizes, or the field, in the message."""
    with pytest.raises(UsageError, match=message):
        selfstudy.model(f"mae?{fields}")


@pytest.fixture
def hub_folder(tmp_path: Path) -> Path:
    from transformers import ViTMAEConfig, ViTMAEForPreTraining

    torch.manual_seed(0)
    config = ViTMAEConfig(
        image_size=16,
        patch_size=4,
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        decoder_hidden_size=8,
        decoder_intermediate_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        hidden_dropout_prob=0.1,
    )
    network = ViTMAEForPreTraining(config)
    for name in ("vit.embeddings.position_embeddings", "decoder.decoder_pos_embed"):
        network.get_parameter(name).data.normal_()
    with no_bars():
        network.save_pretrained(tmp_path / "hub")
    return tmp_path / "hub"


def test_one_of_the_hub_by_its_name(hub_folder: Path, tmp_path: Path) -> None:
    """Oracle: transformers' own [CLS] of the same folder with all patches in order; grey images of another
    size are repeated and resized; saved and loaded it is the same."""
    from transformers import ViTMAEForPreTraining

    with no_bars():
        network = ViTMAEForPreTraining.from_pretrained(hub_folder).eval()
    model = selfstudy.model(f"vision:{hub_folder}")
    assert isinstance(model, MaskedBackbone) and model.autoencoder.config.hidden_dropout_prob == 0
    network.config.mask_ratio = 0.0
    colour = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        inputs = (colour - model.mean) / model.deviation
        expected = network.vit(inputs, noise=torch.arange(16.0).expand(3, -1)).last_hidden_state[:, 0]
        assert torch.allclose(model.features(colour), expected, atol=1e-6)
    small = ImageSet("small", np.zeros((2, 1, 8, 8), np.uint8), np.full(2, -1))
    made = model.made_for(small)
    assert made.features(images()).shape == (3, 8)
    made.save(tmp_path / "saved")
    assert torch.equal(selfstudy.model(str(tmp_path / "saved")).features(images()), made.features(images()))
    with pytest.raises(UsageError, match="Leave size out"):
        selfstudy.model(f"vision:{hub_folder}?size=32")
