"""The small vision transformer: its features, its sizes, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import selfstudy
from selfstudy.core.errors import UsageError
from selfstudy.models.encoders.transformer import VisionTransformer


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_features_are_the_mean_of_the_patches() -> None:
    """Oracle: the tokens of transformers' own model, without the first, which belongs to no patch."""
    encoder = VisionTransformer(channels=3, size=12, patch=4, hidden=8, layers=2, heads=2).eval()
    pixels = torch.rand(5, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = encoder.network(pixel_values=pixels).last_hidden_state
        found = encoder.encode(pixels)
    assert tokens.shape == (5, 1 + 9, 8) and torch.allclose(found, tokens[:, 1:].mean(1), atol=1e-6)


@pytest.mark.parametrize(("size", "patch"), [(8, 2), (8, 4), (28, 4), (32, 4), (64, 8)])
def test_sizes_of_images(size: int, patch: int) -> None:
    """Oracle: the number of positions, (size / patch)^2 and one more, and the width."""
    encoder = selfstudy.model(f"vit?channels=1&size={size}&patch={patch}&hidden=8&layers=1&heads=2")
    places = encoder.network.embeddings.position_embeddings
    assert places.shape == (1, (size // patch) ** 2 + 1, 8)
    assert encoder.embed(np.zeros((2, size, size), np.uint8)).shape == (2, encoder.width) == (2, 8)


def test_a_training_pass_draws_nothing() -> None:
    """Oracle: two passes in training mode are equal, and the global generator is left alone."""
    encoder = selfstudy.model("vit?channels=1&size=8&hidden=8&layers=2&heads=2").train()
    pixels = torch.rand(3, 1, 8, 8)
    state = torch.get_rng_state()
    assert torch.equal(encoder(pixels), encoder(pixels)) and torch.equal(torch.get_rng_state(), state)
    encoder(pixels).sum().backward()
    used = [weight.grad for weight in encoder.parameters()]
    assert all(gradient is not None for gradient in used), "no weight is there for nothing"


@pytest.mark.parametrize("fields", ["size=10&patch=4", "hidden=10&heads=4", "patch=0", "layers=0"])
def test_sizes_that_do_not_divide_are_refused(fields: str) -> None:
    """Oracle: the name of a field in the message."""
    with pytest.raises(UsageError, match=f"(?s){fields.partition('=')[0]}.*must"):
        selfstudy.model(f"vit?{fields}")


def test_positions_are_resized_on_the_fly() -> None:
    """Oracle: torch's bicubic resizing of the grid of positions, written out; at the whole size they are as
    they are; the grid itself is not changed."""
    encoder = VisionTransformer(channels=1, size=16, patch=4, hidden=8, layers=2, heads=2).eval()
    assert encoder.grain == 4
    embeddings = encoder.network.embeddings
    kept = embeddings.position_embeddings.detach().clone()
    images = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    resized = encoder.network(images, interpolate_pos_encoding=True).last_hidden_state
    assert torch.equal(encoder(images), resized[:, 1:].mean(1))
    small = VisionTransformer(channels=1, size=8, patch=4, hidden=8, layers=2, heads=2).eval()
    state = {name: value for name, value in encoder.state_dict().items() if "position" not in name}
    small.load_state_dict(state, strict=False)
    grid = kept[:, 1:].transpose(1, 2).view(1, 8, 4, 4)
    positions = torch.nn.functional.interpolate(grid, (2, 2), mode="bicubic").flatten(2).transpose(1, 2)
    with torch.no_grad():
        small.network.embeddings.position_embeddings.copy_(torch.cat([kept[:, :1], positions], 1))
    assert torch.allclose(encoder(images[:, :, :8, :8]), small(images[:, :, :8, :8]), atol=1e-6)
    assert torch.equal(embeddings.position_embeddings, kept)
